"""The engine: one seed is one exploration, nothing is left of an execution, all ends are told."""

from __future__ import annotations

import asyncio
import functools
import gc
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

from race.corpus import build, program_named
from race.rig import Ran, build_guest, executions, ran, target
from support.guests import Builder
from support.options import TRANSPORTS, TRAPS
from uvm_async._host import lib
from uvm_async.errors import UsageError
from uvm_async.race import engine as engine_module
from uvm_async.race.engine import Engine, Limits, NoThreads, Target
from uvm_async.race.explore import Options, explore, replay
from uvm_async.race.machine import ControlledMachine
from uvm_async.race.model import Kind, Result, Schedule
from uvm_async.race.session import Checks, Session

pytestmark = [pytest.mark.machine, pytest.mark.fixed_machine, pytest.mark.many_traps]

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.SelectorEventLoop,
}


def example(name: str, directory: Path, *, static: bool = True, fixed: bool = False) -> Target:
    program = program_named(name)
    built = build(program, fixed=fixed, static=static, directory=directory)
    return target(built, cwd=directory)


async def explored(where: Target, n: int, *, seed: int = 1, strategy: str = "mix") -> list[Ran]:
    async with Session(where, strategy=strategy, seed=seed) as session:
        return [one async for one in executions(session, n)]


# -- one seed is one exploration


@pytest.mark.parametrize("static", [True, False], ids=["static", "dynamic"])
async def test_two_explorations_with_one_seed_are_one(directory: Path, static: bool) -> None:
    where = example("lost_update", directory, static=static)
    first = await explored(where, 30)
    assert len({one.accesses for one in first}) > 4
    for _ in range(9):
        assert await explored(where, 30) == first
    assert await explored(where, 30, seed=2) != first


@pytest.mark.parametrize("strategy", ["random", "pct", "pos", "surw", "rff", "delay", "preemption"])
async def test_every_strategy_is_a_function_of_its_seed(directory: Path, strategy: str) -> None:
    where = example("deadlock_two_locks", directory)
    assert await explored(where, 25, strategy=strategy) == await explored(
        where, 25, strategy=strategy
    )


@pytest.mark.parametrize("name", ["shared_mapping", "signal_race", "use_after_free", "cond_if"])
async def test_processes_signals_and_allocators_repeat_too(directory: Path, name: str) -> None:
    where = example(name, directory)
    assert await explored(where, 25) == await explored(where, 25)


def test_both_loops_make_the_same_exploration(directory: Path) -> None:
    where = example("lost_update", directory, static=False)
    answers = []
    for factory in LOOPS.values():
        with asyncio.Runner(loop_factory=factory) as runner:
            answers.append(runner.run(explored(where, 25)))
    assert answers[0] == answers[1]


async def test_trap_doors_and_transports_make_the_same_exploration(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = example("deadlock_two_locks", directory)
    answers = []
    for trap in TRAPS:
        for transport in TRANSPORTS:
            chosen = functools.partial(ControlledMachine, trap=trap, transport=transport)
            monkeypatch.setattr(engine_module, "ControlledMachine", chosen)
            answers.append(await explored(where, 20))
    assert all(answer == answers[0] for answer in answers)


async def test_schedule_runs_the_same_in_a_machine_of_its_own(directory: Path) -> None:
    """The first execution of a machine is as all later ones, and leases do not matter."""
    where = example("order_violation", directory, static=False)
    async with Session(where, strategy="random", seed=3) as session:
        for _ in range(10):
            await session.next()
        known = [ran(session, await session.next()) for _ in range(5)]
    for one in known:
        async with Session(where) as session:
            again = ran(session, await session.replay(one.schedule))
        assert again == one


# -- nothing is left


async def test_schedule_is_the_same_whatever_ran_before(tmp_path: Path, guests: Builder) -> None:
    where = target(build_guest(guests, "puts_back"), cwd=tmp_path)
    async with Session(where, strategy="random", seed=5) as session:
        for _ in range(12):
            await session.next()
        one = ran(session, await session.replay(Schedule({}, session.active_words)))
        assert (one.failure, one.stderr) == ("", b"")
        others = set()
        for seed in range(50):
            other = ran(session, await session.next())
            assert (other.failure, other.stderr) == ("", b""), seed
            others.add(other.accesses)
            assert ran(session, await session.replay(one.schedule)) == one
        assert len(others) > 40


async def test_everything_a_program_changes_is_put_back(tmp_path: Path, guests: Builder) -> None:
    """Files, names, directories, pipes, signals, timers, memory, children: the guest fails if it
    finds one of them changed."""
    for variant in ("static", "dynamic"):
        where = target(build_guest(guests, "puts_back", variant), cwd=tmp_path)
        outputs = set()
        async with Session(where, strategy="pct", seed=7) as session:
            async for one in executions(session, 60):
                assert (one.failure, one.status, one.stderr) == ("", 0, b"")
                outputs.add(one.stdout)
        assert (
            len(outputs) > 1
        )  # times and random bytes depend on the schedule, and on nothing else
    assert [path.name for path in tmp_path.iterdir()] == []  # the host has seen none of it


async def test_memory_does_not_grow(tmp_path: Path, guests: Builder) -> None:
    where = target(build_guest(guests, "puts_back"), cwd=tmp_path)
    async with Session(where, strategy="random") as session:
        kernel = session.engine.machine.kernel
        counts = set()
        for _ in range(30):
            await session.next()
            session.engine._back()
            counts.add((len(kernel.tasks), len(kernel.processes)))
        assert len(counts) == 1


# -- ends


@pytest.mark.parametrize(("name", "writes"), [("kernel_reads", False), ("kernel_writes", True)])
async def test_what_a_call_copies_is_an_access_of_its_task(
    tmp_path: Path, name: str, writes: bool
) -> None:
    async with Session(example(name, tmp_path), strategy="random", seed=1) as session:
        copies = []
        for _ in range(20):
            result = await session.next()
            log = session.engine.machine.area.log(session.engine.machine.controlled.calls)
            copies += [
                (event, after, before)
                for (before, _), (event, after) in itertools.pairwise(log)
                if event.by_kernel and event.writes == writes
            ]
    assert result.steps and copies
    for event, after, before in copies:
        assert before.kind in (Kind.CALL, Kind.RETURN) and before.task == event.task
        assert before.call in ("read", "write") and event.ip == before.ip
        if writes:
            assert (event.size, event.value, after) == (4, 3, 0)
        else:
            assert event.size == 16 and event.value == after


async def test_program_without_threads_is_told(tmp_path: Path) -> None:
    engine = Engine(Target(("/bin/true",), {}, str(tmp_path)))
    with pytest.raises(NoThreads, match=r"/bin/true never starts a thread or a process \(it ended"):
        try:
            await engine.start()
        finally:
            await engine.close()


async def test_program_that_computes_for_ever_hangs(guests: Builder) -> None:
    where = target(build_guest(guests, "spins"), "compute")
    started = time.monotonic()
    found = [
        failure
        async for failure in explore(
            where, Options(schedules=3, limits=Limits(host_s=1.0), shrink=False)
        )
    ]
    assert [failure.why for failure in found] == ["hang"]
    assert time.monotonic() - started < 30


async def test_threads_that_spin_on_each_other_for_ever_are_a_livelock(guests: Builder) -> None:
    where = target(build_guest(guests, "spins"), "pingpong")
    options = Options(schedules=3, limits=Limits(steps=3_000, host_s=60), shrink=False)
    found = [failure async for failure in explore(where, options)]
    assert [failure.why for failure in found] == ["livelock"]


@pytest.mark.parametrize(
    ("what", "strategy", "times", "limits"),
    [
        *(("spinlock", name, 40, Limits()) for name in ("surw", "pos", "rff", "pct", "preemption")),
        ("computes", "mix", 3, Limits()),
        ("cancelled", "mix", 3, Limits()),
        ("long", "pct", 3, Limits(steps=100)),
        ("bounded", "mix", 20, Limits()),
    ],
)
async def test_right_program_ends_under_every_strategy(
    guests: Builder, what: str, strategy: str, times: int, limits: Limits
) -> None:
    where = target(build_guest(guests, "fair"), what)
    async with Session(where, strategy=strategy, seed=1, limits=limits) as session:
        async for one in executions(session, times):
            assert (one.failure, one.stdout) == ("", b"ended\n")
    # Of 3,200 choice points.
    assert what != "long" or session.profile.steps > limits.steps


@pytest.mark.parametrize("what", ["flag", "page", "sleeper"])
async def test_spin_on_a_word_nobody_else_has_touched_lets_others_run(
    guests: Builder, what: str
) -> None:
    where = target(build_guest(guests, "spins"), what)
    async with Session(where, strategy="random", limits=Limits(host_s=60)) as session:
        async for one in executions(session, 25):
            assert (one.failure, one.stdout) == ("", b"woken\n")
        assert session.words >= 1


async def test_start_that_is_cancelled_leaves_nothing_unawaited() -> None:
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    engine = Engine(target(Path("/bin/sh"), "-c", "while :; do :; done"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(engine.start(), 0.5)
    await engine.close()
    gc.collect()
    await asyncio.sleep(0)
    assert told == []


def test_hang_is_time_without_a_choice_point() -> None:
    race = SimpleNamespace(step=0, watched=0, mode=lib.UVM_RACE_LISTED)
    controlled = SimpleNamespace(forced=0)
    machine: Any = SimpleNamespace(area=SimpleNamespace(race=race), controlled=controlled)
    patience = engine_module._Patience(10, machine, 100)
    assert patience.deadline == 110 and not patience.ends(109)
    race.step = 7
    assert not patience.ends(110) and patience.deadline == 120
    race.watched = 9  # accesses that are no choice points
    race.step += 3  # nor are those at which who computes was stopped
    controlled.forced += 3
    assert patience.ends(120)

    race.step = controlled.forced = 0
    race.mode = lib.UVM_RACE_ALL  # while words are looked for accesses count, for a while
    patience = engine_module._Patience(10, machine, 100)
    for times in range(1, engine_module.TOUCHES_TIMES):
        race.watched += 1
        assert not patience.ends(100 + 10 * times)
    race.watched += 1
    assert patience.ends(100 + 10 * engine_module.TOUCHES_TIMES)
    patience = engine_module._Patience(10, machine, 0)
    assert not patience.ends(10) and patience.ends(20)  # it makes none


async def test_stack_pointer_in_the_shims_own_stack_kills_the_task(guests: Builder) -> None:
    where = target(build_guest(guests, "wild_stack"))
    found = [f async for f in explore(where, Options(schedules=3, shrink=False))]
    assert [f.why for f in found] == ["SIGKILL"]


async def test_an_executable_that_is_not_there_is_wrong_use() -> None:
    with pytest.raises(UsageError, match="cannot run /no/such: No such file"):
        async for _ in explore(Target(("/no/such",), {}, "/"), Options(schedules=1)):
            pass


# -- what counts


async def test_predicate_sees_the_end_of_each_execution(directory: Path) -> None:
    outputs = []

    def total_is_whole(engine: Engine, result: Result) -> str | None:
        outputs.append(result.stdout)
        return "half a total" if b"total 1\n" in result.stdout else None

    where = example("lost_update", directory)
    checks = Checks(predicate=total_is_whole)
    options = Options(schedules=200, checks=checks, failures=2)
    found = [failure async for failure in explore(where, options)]
    assert outputs and found
    for failure in found:
        results = await replay(failure, times=2, checks=checks)
        assert [result.failure for result in results] == [failure.why] * 2


async def test_race_counts_only_if_asked(directory: Path) -> None:
    where = example("torn_counter", directory)
    checks = Checks(fail_on_race=True)
    found = [f async for f in explore(where, Options(schedules=100, checks=checks, shrink=False))]
    assert len(found) == 1 and " on " in found[0].why
