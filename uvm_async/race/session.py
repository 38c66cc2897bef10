"""A program under exploration: an engine, what is known of the program, a judge.

What tasks share is found first: executions under random choices with every page
watched, until two in a row find nothing new.  From then on the set of watched
words stands still, but for a look now and then (`LOOK_AGAIN`), for strategies
that do not need it to stand still.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Final

from uvm_async.errors import UsageError
from uvm_async.race.controlled import FOUND
from uvm_async.race.engine import Engine, Limits, Target, mappings_of
from uvm_async.race.failure import Failure, cpu_features, file_hash
from uvm_async.race.happens_before import find_races
from uvm_async.race.model import Profile, Result, Schedule
from uvm_async.race.shrink import SHRINK_S, Shrunk, shrink
from uvm_async.race.strategies import Strategy, make_strategy
from uvm_async.race.strategies.replay import Replay
from uvm_async.race.untamed import doubt

__all__ = ["Checks", "Session", "load_predicate"]

MAX_FOUND: Final = 100
"""So many words may be found by spinning on them, one at a time."""
MIN_PROFILING: Final = 3
MAX_PROFILING: Final = 12
LOOK_AGAIN: Final = (8, 64)
"""After so many executions one watches every page again, unless the strategy is systematic: at
first, and later, doubling in between."""
LOOK_COST: Final = 8
"""Nor may it cost more than this part of all the others."""
TRAP_COST: Final = 50
"""What a trap to the kernel costs, in watched accesses."""
MAX_INTERLEAVINGS: Final = 1_000_000
MAX_EVENTS_FOR_PAIRS: Final = 2_000
NOT_REPEATABLE: Final = (
    "the same schedule has not failed again: the program depends on something that is not "
    "controlled ({}or a task that computed long without a trap)"
)

Predicate = Callable[["Engine", Result], "str | None"]


@dataclass(frozen=True, slots=True)
class Checks:
    """What counts as a failure besides a death by signal, a deadlock, a livelock."""

    status: int = 0
    """The exit status that is right."""
    deterministic: bool = False
    """Another output than the first execution's is a failure."""
    predicate: Predicate | None = None
    """Of the engine (memory, files) and the result at the end of an execution: says what is wrong,
    or nothing."""
    fail_on_race: bool = False
    """A data race (race/happens_before.py) is a failure, whatever came of it."""


class Session:
    """One program, one strategy. Use as an async context manager."""

    def __init__(
        self,
        target: Target,
        *,
        strategy: str = "mix",
        seed: int = 0,
        granularity: str = "conflict",
        limits: Limits | None = None,
        checks: Checks | None = None,
        words: tuple[int, ...] = (),
        share_loop: bool = True,
    ) -> None:
        """`words` are known to be shared: finding out is shorter then."""
        self.limits = limits or Limits()
        self.checks = checks or Checks()
        self.seed = seed
        self.strategy_name = strategy
        self.strategy = make_strategy(strategy, seed)
        self.engine = Engine(target, granularity=granularity, limits=self.limits)
        self.engine.share_loop = share_loop
        self.target = target
        self.profile = Profile()
        self._next_look = LOOK_AGAIN[1]
        """How many executions there must have been before every page is watched again,"""
        self._look_after = LOOK_AGAIN[0]
        """how many more at least, the next time,"""
        self._listed_cost = 0
        """and what the latest execution cost in which they were not."""
        self.profiled = granularity == "syscall"
        self.interleavings: dict[int, None] = {}
        self.executions = 0
        self._quiet = 0
        self._expected: tuple[int, bytes, bytes] | None = None
        self._files: dict[str, str] = {}
        self._words = words
        self._chosen_at: tuple[int, ...] = ()
        """Words that were choice points in the execution that has just ended: what it has found out
        is watched only from the next one on."""

    async def __aenter__(self) -> Session:
        try:
            await self.engine.start()
        except BaseException:
            await self.engine.close()
            raise
        if self._words:
            self.engine.machine.area.set_active(self._words)
        for mapping in mappings_of(self.engine.main):
            if mapping.path.startswith("/") and mapping.path not in self._files:
                self._files[mapping.path] = file_hash(mapping.path)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.engine.close()

    @property
    def words(self) -> int:
        """Words of memory that are watched."""
        return len(self._words)

    @property
    def active_words(self) -> tuple[int, ...]:
        """Which."""
        return self._words

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Executions that are not for exploring: what is watched, what is known of the program, and
        the count, come back."""
        executions, words, profiled = self.executions, self._words, self.profiled
        profile, interleavings = self.profile, self.interleavings
        self.profile, self.interleavings = copy.deepcopy(profile), {}
        try:
            yield
        finally:
            self.profile, self.interleavings = profile, interleavings
            self.executions, self._words, self.profiled = executions, words, profiled
            if self.engine.granularity != "syscall":
                self.engine.machine.area.set_active(words)

    @property
    def finished(self) -> bool:
        """The strategy has covered all it promised."""
        return self.strategy.finished

    async def next(self) -> Result:
        """One more execution, judged."""
        profiling = not self.profiled
        look = (
            not profiling
            and self.engine.granularity != "syscall"
            and self.executions >= self._next_look
            and not self.strategy.systematic
        )
        strategy = self.strategy
        if profiling and strategy.systematic:  # its words have to stand still
            strategy = make_strategy("random", self.seed + self.executions)
        strategy.begin(self.profile)
        mode = "all" if profiling or look else "listed"
        result = await self._execute(strategy, mode)
        strategy.end(result)
        if mode == "all":
            cost = self._cost()
            await self._see_whole(result)
            self._learn()
            self._look_again(cost)
        else:
            self._listed_cost = self._cost()
        return result

    async def _see_whole(self, result: Result) -> None:
        """Who touched a page first was not seen to, until another touched it. So the same once
        more, with all pages listed from the start on that were in the end."""
        if result.failure or not self.engine.machine.area.race.shared:
            return
        follower = Replay(self.schedule_of(result), self.seed)
        follower.begin(self.profile)
        await self.engine.execute(follower, mode="all")

    def _cost(self) -> int:
        """Of the execution that has just ended; no time, which would not be the same twice."""
        machine = self.engine.machine
        return int(machine.area.race.watched) + TRAP_COST * machine.kernel.sched.traps

    def _look_again(self, cost: int) -> None:
        """Every page was watched, which cost so much: when next?"""
        affordable = LOOK_COST * cost // max(self._listed_cost, 1) if self._listed_cost else 0
        self._next_look = self.executions + max(self._look_after, affordable)
        if self.profiled:
            self._look_after = min(2 * self._look_after, LOOK_AGAIN[1])

    async def _execute(self, strategy: Strategy, mode: str) -> Result:
        self.executions += 1
        checks = self.checks
        record = strategy.uses_events or checks.fail_on_race or checks.predicate is not None
        for _ in range(MAX_FOUND):
            result = await self.engine.execute(strategy, mode=mode, record=record)
            if result.failure != FOUND:
                break
            self._words = self._with_found()  # and once more, from the start
            strategy.begin(self.profile)
        self._chosen_at = self._active()
        self._note(result)
        self._judge(result)
        return result

    def _with_found(self) -> tuple[int, ...]:
        """A task has spun on a word that was not known to be shared: now it is."""
        area = self.engine.machine.area
        self.engine.learn()
        area.relist()
        return tuple(area.active_words())

    def _active(self) -> tuple[int, ...]:
        if self.engine.granularity == "syscall":
            return ()
        return self._words

    def _learn(self) -> None:
        """What tasks turned out to share is watched from now on."""
        area = self.engine.machine.area
        found = self.engine.learn()
        if found:
            self._words = tuple(area.active_words())
        if self.profiled:
            area.relist()  # pages were listed because their words were looked at
            return
        self._quiet = 0 if found else self._quiet + 1
        if (self._quiet >= 2 and self.executions >= MIN_PROFILING) or (
            self.executions >= MAX_PROFILING
        ):
            self.profiled = True
            area.relist()

    def _note(self, result: Result) -> None:
        """Into the profile; is it an order of events that has not been seen?"""
        profile = self.profile
        profile.executions += 1
        profile.steps = max(profile.steps, result.steps)
        area = self.engine.machine.area
        summary = area.summary(MAX_EVENTS_FOR_PAIRS if self.strategy.uses_events else 0)
        for task, count in summary.counts.items():
            profile.events[task] = max(profile.events.get(task, 0), count)
        profile.tasks = max(profile.tasks, len(summary.counts))
        order = int(area.race.order) ^ summary.calls << 16
        result.new_interleaving = order not in self.interleavings
        if result.new_interleaving and len(self.interleavings) < MAX_INTERLEAVINGS:
            self.interleavings[order] = None
        result.reads_from = summary.reads_from

    def _judge(self, result: Result) -> None:
        """Is it a failure?"""
        checks = self.checks
        exited = not result.status & 0x7F and result.failure in (
            "", f"exit status {result.status >> 8}",
        )  # fmt: skip
        if exited:
            status = result.status >> 8
            result.failure = "" if status == checks.status else f"exit status {status}"
        if not result.failure and checks.predicate is not None:
            result.failure = checks.predicate(self.engine, result) or ""
        if not result.failure and checks.fail_on_race:
            result.failure = self._race(result)
        if not result.failure and checks.deterministic:
            outcome = (result.status, result.stdout, result.stderr)
            if self._expected is None:
                self._expected = outcome
            elif outcome != self._expected:
                result.failure = "another output than before"

    def _race(self, result: Result) -> str:
        sources = self.engine.sources
        races = find_races(
            result.events, is_library=sources.is_library, processes=self.engine.processes()
        )
        accused = [race for race in races if race.accuses]
        if not accused:
            return ""
        race = accused[0]
        first, second = (sources.place(e.ip).where for e in (race.first, race.second))
        return f"{race.verdict.value} on {sources.address(race.first.addr)}: {first}, {second}"

    def schedule_of(self, result: Result) -> Schedule:
        """What replays the execution that has just ended."""
        return Schedule(dict(result.switches), self._chosen_at, self.engine.granularity)

    async def replay(self, schedule: Schedule, strategy: Strategy | None = None) -> Result:
        """Run under `schedule` (or, on its words, under `strategy`). `Result.detail` says where it
        left the schedule, if it did."""
        area = self.engine.machine.area
        if schedule.watched != self._words or self.profiled is False:
            area.set_active(schedule.watched)
            self._words = schedule.watched
            self.profiled = True
        follower = strategy or Replay(schedule, self.seed)
        follower.begin(self.profile)
        result = await self._execute(follower, "listed")
        follower.end(result)
        if isinstance(follower, Replay) and follower.diverged:
            result.detail = follower.diverged
        return result

    async def shortened(
        self,
        result: Result,
        schedule: Schedule,
        budget: int,
        *,
        seconds: float = SHRINK_S,
        shorter: Callable[[Failure], None] | None = None,
    ) -> Failure:
        """`failure`, of the shortest schedule that at most `budget` executions, in at most
        `seconds`, lead to; `shorter` is told what is found on the way."""
        execution = self.executions

        def failure_of(shrunk: Shrunk) -> Failure:
            failure = self.failure(shrunk.result, shrunk.schedule)
            failure.execution = execution
            return failure

        async def run(words: Schedule, strategy: Strategy) -> tuple[Result, Schedule]:
            outcome = await self.replay(words, strategy)
            return outcome, self.schedule_of(outcome)

        def found(shrunk: Shrunk) -> None:
            if shorter is not None:
                shorter(failure_of(shrunk))

        with self.aside():
            shrunk = await shrink(
                schedule, result, run, budget=budget, seconds=seconds, shorter=found
            )
        if not shrunk.repeatable:
            named = doubt(self.engine.sources)
            shrunk.result.detail = NOT_REPEATABLE.format(f"{named}, " if named else "")
        return failure_of(shrunk)

    def failure(self, result: Result, schedule: Schedule) -> Failure:
        """For the file."""
        limits: dict[str, float] = {
            "steps": self.limits.steps, "host_s": self.limits.host_s, "spin": self.limits.spin,
        }  # fmt: skip
        return Failure(
            target=replace(
                self.target, cwd=self.target.cwd or os.getcwd(), env=dict(self.target.env)
            ),
            schedule=schedule,
            why=result.failure,
            status=result.status,
            stdout=result.stdout,
            stderr=result.stderr,
            detail=result.detail,
            preemptions=result.preemptions,
            strategy=self.strategy_name,
            seed=self.seed,
            execution=self.executions,
            files=dict(self._files),
            cpu=cpu_features(),
            version=version("uvm-async"),
            limits=limits,
        )


def load_predicate(name: str) -> Predicate:
    """The predicate "package.module:function". Raises UsageError."""
    module, _, attribute = name.partition(":")
    try:
        found: Predicate = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"no predicate {name!r} (package.module:function): {error}") from None
    if not callable(found):
        raise UsageError(f"{name!r} is no function")
    return found
