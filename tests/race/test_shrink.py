"""Shrinking: what is left fails in the same way, no switch of it can be taken away, and where all
that is shorter was tried nothing shorter fails."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable, Generator, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from race.corpus import Program, all_programs, build, program_named
from race.rig import ENVIRONMENT, Ran, ran
from race.simulator import (
    Body,
    Execution,
    Op,
    X,
    Y,
    Z,
    add,
    check_then_act,
    depth_three,
    every_execution,
    lost_update,
    read,
    runs_before,
    two_locks,
    with_main,
    write,
)
from race.simulator import Program as Simulated
from uvm_async.race import context_bounding
from uvm_async.race import shrink as shrinking
from uvm_async.race.engine import Target
from uvm_async.race.explore import Options, replay
from uvm_async.race.failure import Failure
from uvm_async.race.following import (
    UNTIL_IT_CANNOT,
    AtPositions,
    AtSteps,
    Follower,
    InOrder,
    Position,
)
from uvm_async.race.model import Profile, Result, Schedule
from uvm_async.race.session import Session
from uvm_async.race.shrink import SHRINK_S, Shrunk, shrink
from uvm_async.race.strategies import RandomWalk, Strategy
from uvm_async.race.strategies.base import successor

WRONG: dict[str, Callable[[], Simulated]] = {
    "lost update": lost_update,
    "check then act": check_then_act,
    "AB-BA deadlock": two_locks,
    "depth three": depth_three,
    "runs before": runs_before,
}
SEED = 1
SCHEDULES = 2_000


# -- simulated programs, of which all executions are known


def executed(program: Simulated, strategy: Strategy) -> Result:
    return Execution(program).run(strategy, Profile())


def shrunk(program: Simulated, result: Result, **options: Any) -> Shrunk:
    """`result`, made short."""

    async def run(words: Schedule, strategy: Strategy) -> tuple[Result, Schedule]:
        other = executed(program, strategy)
        return other, Schedule(other.switches)

    return asyncio.run(shrink(Schedule(result.switches), result, run, **options))


def result_of(execution: Execution) -> Result:
    """What of an execution under any strategy counts here."""
    result = Result(execution.failure)
    last: int | None = None
    for step, (current, enabled, chosen) in enumerate(execution.trace):
        result.preemptions += current is not None and chosen != current
        if chosen != (successor(enabled, last) if current is None else current):
            result.switches[step] = chosen
        last = chosen
    return result


def cost(result: Result) -> tuple[int, int]:
    return result.preemptions, len(result.switches)


def failing(program: Simulated) -> list[Result]:
    """All that fails."""
    results = [result_of(execution) for execution in every_execution(program)]
    return [result for result in results if result.failure]


def without_each_switch(switches: dict[int, int]) -> list[dict[int, int]]:
    return [{step: task for step, task in switches.items() if step != gone} for gone in switches]


def assert_no_switch_can_be_taken_away(program: Simulated, outcome: Shrunk) -> None:
    result = outcome.result
    for left in without_each_switch(result.switches):
        other = executed(program, AtSteps(left))
        assert other.failure != result.failure or cost(other) > cost(result)
    follower = AtSteps(result.switches)
    executed(program, follower)
    for gone in follower.positions:
        kept = [(at, task) for at, task in follower.positions.items() if at != gone]
        other = executed(program, AtPositions(kept))
        assert other.failure != result.failure or cost(other) > cost(result)


@pytest.mark.parametrize("name", WRONG)
def test_no_schedule_that_fails_is_shorter(name: str) -> None:
    """Whichever failing execution it begins with."""
    program = WRONG[name]()
    results = failing(program)
    least = min(cost(result) for result in results)
    for result in results[:: max(1, len(results) // 100)]:
        outcome = shrunk(program, result)
        assert outcome.shortest and outcome.repeatable
        assert cost(outcome.result) == least
        assert outcome.schedule.switches == outcome.result.switches
        again = executed(program, AtSteps(outcome.schedule.switches))
        assert (again.failure, cost(again)) == (result.failure, least)


@pytest.mark.parametrize("name", WRONG)
def test_without_a_search_no_switch_can_be_taken_away(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shrinking, "SEARCH", 0)
    program = WRONG[name]()
    results = failing(program)
    for result in results[:: max(1, len(results) // 100)]:
        outcome = shrunk(program, result)
        assert outcome.result.failure == result.failure and not outcome.shortest
        assert cost(outcome.result) <= cost(result)
        assert_no_switch_can_be_taken_away(program, outcome)


@pytest.mark.parametrize("limit", ["MAX_POINTS", "MAX_WAITING"])
def test_search_that_leaves_something_out_says_so(
    limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = depth_three()
    (result, *_) = failing(program)
    assert shrunk(program, result).shortest
    monkeypatch.setattr(context_bounding, limit, 6)
    outcome = shrunk(program, result)
    assert not outcome.shortest
    assert_no_switch_can_be_taken_away(program, outcome)


def straight_line(*tasks: list[tuple[str, int, int]]) -> tuple[Body, ...]:
    """Each writes what it has last read, doubled, and a number of its own."""

    def body(lines: list[tuple[str, int, int]]) -> Body:
        def run() -> Generator[Op, Any, None]:
            seen = 0
            for verb, word, number in lines:
                if verb == "read":
                    seen = yield read(word)
                elif verb == "write":
                    yield write(word, 2 * seen + number)
                else:
                    yield add(word, number)

        return run

    return tuple(body(lines) for lines in tasks)


LINES = st.tuples(
    st.sampled_from(("read", "write", "add")), st.sampled_from((X, Y)), st.integers(1, 3)
)
TASKS = st.one_of(
    st.tuples(st.lists(LINES, max_size=4), st.lists(LINES, max_size=4)),
    st.tuples(*[st.lists(LINES, max_size=2)] * 2, st.lists(LINES, max_size=1)),
)


@settings(max_examples=60, deadline=None)
@given(TASKS, st.integers(0, 10_000))
def test_of_any_program_the_shortest_is_found(
    tasks: tuple[list[tuple[str, int, int]], ...], which: int
) -> None:
    """To fail is to leave what one execution, chosen at random, leaves in memory."""
    bodies = straight_line(*tasks)
    executions = list(every_execution(Simulated(bodies)))
    wrong = dict(executions[which % len(executions)].memory)
    program = Simulated(bodies, lambda memory: memory != wrong)
    results = failing(program)
    outcome = shrunk(program, results[which % len(results)])
    assert_no_switch_can_be_taken_away(program, outcome)
    if outcome.shortest:
        assert cost(outcome.result) == min(cost(result) for result in results)
    else:
        assert outcome.tried >= shrinking.SEARCH


WAYS = (
    "_beginning", "_tasks", "_chunks", "_singles", "_search", "_moves", "_exchanges", "_pairs",
    "_steps",
)  # fmt: skip
W = 400


async def nothing(*args: object) -> bool:
    """A way of shortening that never does."""
    return False


def increment() -> Generator[Op, Any, None]:
    value = yield read(X)
    yield write(X, value + 1)


def writes(word: int) -> Body:
    def run() -> Generator[Op, Any, None]:
        yield write(word, 1)

    return run


def both_or_none() -> Simulated:
    """An update is lost, and the first task has seen both of the others' writes or none."""

    def sees() -> Generator[Op, Any, None]:
        one = yield read(Y)
        other = yield read(Z)
        yield write(W, one + other)

    bodies = (sees, increment, increment, writes(Z), writes(Y))
    return Simulated(bodies, lambda memory: memory[X] == 2 or memory[W] == 1)


def late_writer() -> Simulated:
    """Fails if the second task has come before the first one writes."""

    def first() -> Generator[Op, Any, None]:
        yield read(Y)
        yield write(X, 1)

    def second() -> Generator[Op, Any, None]:
        assert (yield read(X)) == 1

    return Simulated((first, second))


@dataclass(frozen=True)
class Alone:
    """What one way of shortening does by itself."""

    way: str
    program: Simulated
    begins: dict[Position, int]
    """The failing schedule that it is given,"""
    costs: tuple[int, int]
    left: tuple[int, int]
    """and what that costs, before and after."""

    def __str__(self) -> str:
        return self.way.strip("_")


TWICE = Simulated((increment, increment, writes(Y)), lambda memory: memory[X] == 2)
ALONE = (
    Alone("_singles", TWICE, {(0, 1): 2, (0, 2): 1}, (2, 2), (1, 1)),
    Alone("_pairs", both_or_none(), {(0, 1): 4, (0, 2): 3, (1, 2): 2}, (3, 3), (1, 1)),
    Alone("_moves", late_writer(), {(0, 2): 1}, (1, 1), (0, 1)),
    Alone("_exchanges", TWICE, {(-1, 0): 1, (1, 2): 0}, (1, 2), (1, 1)),
    Alone("_search", TWICE, {(-1, 0): 1, (1, 2): 0}, (1, 2), (1, 1)),
)


@pytest.mark.parametrize("alone", ALONE, ids=str)
def test_each_way_of_shortening_does_something_by_itself(
    alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = executed(alone.program, AtPositions(alone.begins.items()))
    assert result.failure and cost(result) == alone.costs
    for way in WAYS:
        if way != alone.way:
            monkeypatch.setattr(shrinking._Shrinker, way, nothing)
    assert cost(shrunk(alone.program, result).result) == alone.left


def noisy(tasks: int, rounds: int) -> Simulated:
    """Two of many tasks lose an update."""

    def noise() -> Generator[Op, Any, None]:
        for _ in range(rounds):
            yield add(Z, 1)

    def increment() -> Generator[Op, Any, None]:
        value = yield read(X)
        yield write(X, value + 1)

    return with_main(*[noise] * tasks, increment, increment, holds=lambda memory: memory[X] == 2)


def first_failure(program: Simulated) -> Result:
    walk = RandomWalk(SEED)
    return next(result for _ in itertools.count() if (result := executed(program, walk)).failure)


def test_many_switches_are_left_out_at_once() -> None:
    program = noisy(6, 25)
    result = first_failure(program)
    assert len(result.switches) > 100
    told: list[Shrunk] = []
    outcome = shrunk(program, result, shorter=told.append)
    assert cost(outcome.result) == (1, 1)
    assert next(found.tried for found in told if len(found.schedule.switches) < 5) < 25


def test_tasks_that_do_not_matter_are_put_off_all_at_once() -> None:
    """One of sixty that do the same is seen half done, which it is not if any of them is done."""

    def sets() -> Generator[Op, Any, None]:
        yield write(X, 1)
        yield write(Y, 1)

    def checks() -> Generator[Op, Any, None]:
        x = yield read(X)
        y = yield read(Y)
        yield write(Z, x - y)

    setters = range(1, 61)
    program = with_main(*[sets] * len(setters), checks, holds=lambda memory: memory[Z] <= 0)
    halves = [(task, 2.0) for task in setters]  # its start, and one write
    order = [(0, UNTIL_IT_CANNOT), *halves, (len(setters) + 1, UNTIL_IT_CANNOT)]
    result = executed(program, InOrder(order))
    assert result.failure and result.preemptions >= len(setters)
    told: list[Shrunk] = []
    outcome = shrunk(program, result, shorter=told.append)
    assert cost(outcome.result) == (1, 1)
    assert next(found.tried for found in told if len(found.schedule.switches) < 20) < 40


def test_end_of_a_long_schedule_is_left_out_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for way in WAYS[1:]:
        monkeypatch.setattr(shrinking._Shrinker, way, nothing)
    program = noisy(2, 200)
    result = first_failure(program)
    outcome = shrunk(program, result)
    assert len(outcome.schedule.switches) < len(result.switches) / 4
    assert outcome.tried < 12


def test_budget_is_kept_and_what_it_leads_to_fails() -> None:
    program = noisy(4, 10)
    result = first_failure(program)
    for budget in (1, 2, 5, 20):
        outcome = shrunk(program, result, budget=budget)
        assert outcome.tried <= budget
        assert executed(program, AtSteps(outcome.schedule.switches)).failure == result.failure
    outcome = shrunk(program, result, seconds=0)
    assert outcome.tried == 1 and outcome.schedule.switches == result.switches


def test_whatever_is_found_on_the_way_is_told() -> None:
    program = noisy(4, 10)
    result = first_failure(program)
    told: list[Shrunk] = []
    outcome = shrunk(program, result, shorter=told.append)
    costs = [cost(found.result) for found in told]
    assert costs == sorted(set(costs), reverse=True) and len(costs) > 3
    assert told[-1].schedule == outcome.schedule
    for found in told:
        again = executed(program, AtSteps(found.schedule.switches))
        assert (again.failure, again.switches) == (result.failure, found.schedule.switches)


def test_same_schedules_are_tried_each_time() -> None:
    program = noisy(3, 5)
    result = first_failure(program)
    tried: list[dict[int, int]] = []

    async def run(words: Schedule, strategy: Strategy) -> tuple[Result, Schedule]:
        other = executed(program, strategy)
        tried.append(other.switches)
        return other, Schedule(other.switches)

    for _ in range(2):
        asyncio.run(shrink(Schedule(result.switches), result, run))
    half = len(tried) // 2
    assert tried[:half] == tried[half:] and half > 20


def test_words_that_are_found_on_the_way_stay_with_the_schedule_that_found_them() -> None:
    """They are more choice points, so what was tried before has to be tried again."""
    program = noisy(3, 5)
    result = first_failure(program)
    given: list[tuple[tuple[int, ...], Hashable]] = []
    told: list[Shrunk] = []

    async def run(words: Schedule, strategy: Strategy) -> tuple[Result, Schedule]:
        assert isinstance(strategy, Follower)
        given.append((words.watched, strategy.key))
        other = executed(program, strategy)
        watched = words.watched or ((1,) if len(other.switches) < 2 else ())
        return other, Schedule(other.switches, watched)

    outcome = asyncio.run(shrink(Schedule(result.switches), result, run, shorter=told.append))
    *before, last = told
    assert cost(outcome.result) == (1, 1) and outcome.schedule.watched == (1,)
    assert {found.schedule.watched for found in before} == {()} and last.schedule.watched == (1,)
    assert {watched for watched, _ in given[: last.tried]} == {()}
    assert {watched for watched, _ in given[last.tried :]} == {(1,)}
    no_switch = {AtPositions([]).key, AtSteps({}).key}
    assert {key for _, key in given[last.tried : last.tried + 2]} == no_switch


def test_another_failure_is_not_taken_for_the_same() -> None:
    """Whatever does not fail by an assertion has a wrong status."""
    program = Simulated(check_then_act().bodies, lambda memory: False)
    results = failing(program)
    aborts = [result for result in results if result.failure == "SIGABRT"]
    assert min(map(cost, results)) < min(map(cost, aborts))
    outcome = shrunk(program, aborts[-1])
    assert outcome.result.failure == "SIGABRT" and outcome.shortest
    assert cost(outcome.result) == min(map(cost, aborts))


def test_what_does_not_fail_again_is_left_as_it_was() -> None:
    async def run(words: Schedule, strategy: Strategy) -> tuple[Result, Schedule]:
        return Result(), words

    schedule = Schedule({3: 1, 5: 0})
    result = Result("SIGSEGV", switches={3: 1, 5: 0})
    outcome = asyncio.run(shrink(schedule, result, run))
    assert (outcome.repeatable, outcome.schedule, outcome.tried) == (False, schedule, 1)
    assert outcome.result is result


# -- real ones


def target_of(program: Program, directory: Path) -> Target:
    built = build(program, fixed=False, directory=directory)
    return Target(program.command(built), ENVIRONMENT, str(directory))


async def found(session: Session) -> tuple[Result, Schedule]:
    """The first failure."""
    for _ in range(SCHEDULES):
        result = await session.next()
        if result.failure:
            return result, session.schedule_of(result)
    raise AssertionError(f"not found in {SCHEDULES} schedules")


PREEMPTIONS = {"cond_if": 1, "writer_starves": 1, "ring_buffer": 1, "barrier": 0}
"""With which the shrunk schedules of these fail."""


@pytest.mark.machine
@pytest.mark.fixed_machine
@pytest.mark.many_traps
@pytest.mark.parametrize("program", all_programs(), ids=str)
async def test_no_switch_of_an_example_can_be_taken_away(program: Program, directory: Path) -> None:
    async with Session(target_of(program, directory), seed=SEED, share_loop=False) as session:
        result, schedule = await found(session)
        failure = await session.shortened(result, schedule, SCHEDULES)
        assert failure.why == result.failure and not failure.detail.startswith("the same schedule")
        assert failure.preemptions == PREEMPTIONS.get(program.name, failure.preemptions)
        short = failure.schedule
        follower = AtSteps(short.switches)
        again = await session.replay(short, follower)
        assert (again.failure, again.switches) == (failure.why, short.switches)
        for left in without_each_switch(dict(short.switches)):
            other = await session.replay(short, AtSteps(left))
            assert other.failure != failure.why, f"{short.switches}: {left} is enough"
        for gone in follower.positions:
            kept = {at: task for at, task in follower.positions.items() if at != gone}
            other = await session.replay(short, AtPositions(kept.items()))
            assert other.failure != failure.why, f"{short.switches}: {kept} is enough"


@pytest.mark.machine
@pytest.mark.fixed_machine
@pytest.mark.parametrize("name", ["cond_if", "writer_starves"])
async def test_one_preemption_is_reached_from_wherever_it_begins(
    name: str, directory: Path
) -> None:
    target = target_of(program_named(name), directory)
    for seed in range(2, 5):
        async with Session(target, seed=seed, share_loop=False) as session:
            failure = await session.shortened(*await found(session), SCHEDULES)
        assert failure.preemptions == 1 and len(failure.schedule.switches) == 1


@pytest.mark.machine
@pytest.mark.fixed_machine
async def test_shrinking_that_is_cancelled_has_told_the_shortest_so_far(directory: Path) -> None:
    told: list[Failure] = []
    async with Session(target_of(program_named("cond_if"), directory), seed=SEED) as session:
        result, schedule = await found(session)
        job = asyncio.current_task()
        assert job is not None

        def shorter(failure: Failure) -> None:
            told.append(failure)
            if len(told) == 3:
                job.cancel()

        with pytest.raises(asyncio.CancelledError):
            await session.shortened(result, schedule, SCHEDULES, shorter=shorter)
        job.uncancel()
    failure = told[-1]
    assert failure.why == result.failure
    assert len(failure.schedule.switches) < len(schedule.switches)
    (replayed,) = await replay(failure)
    assert failure.is_shown_by(replayed)


@pytest.mark.machine
@pytest.mark.fixed_machine
async def test_failure_that_there_is_no_time_to_shorten_is_the_failure(directory: Path) -> None:
    target = target_of(program_named("lost_update"), directory)
    async with Session(target, seed=SEED) as session:
        result, schedule = await found(session)
        before = session.engine.executions
        failure = await session.shortened(result, schedule, SCHEDULES, seconds=0)
        assert session.engine.executions <= before + 2
    assert (failure.why, failure.schedule) == (result.failure, schedule)
    (replayed,) = await replay(failure)
    assert failure.is_shown_by(replayed)


def test_shrinking_takes_no_longer_than_searching_may() -> None:
    assert Options().shrink_s == SHRINK_S
    assert Options(seconds=5).shrink_s == 5
    assert Options(seconds=5 * SHRINK_S).shrink_s == SHRINK_S


@pytest.mark.machine
@pytest.mark.fixed_machine
async def test_exploration_goes_on_as_if_nothing_had_been_shrunk(directory: Path) -> None:
    target = target_of(program_named("lost_update"), directory)
    later: list[list[Ran]] = []
    interleavings: list[int] = []
    for shorten in (False, True):
        async with Session(target, seed=SEED, share_loop=False) as session:
            result, schedule = await found(session)
            if shorten:
                await session.shortened(result, schedule, SCHEDULES)
            later.append([ran(session, await session.next()) for _ in range(30)])
            interleavings.append(len(session.interleavings))
    assert later[0] == later[1]
    assert interleavings[0] == interleavings[1] < math.inf
