"""Exploring a program: executions until something fails, or the budget is spent.

    async for failure in explore(Target(("./counter",)), Options(schedules=1000)):
        print(failure.why, failure.save())

The command `uvm race` is a client of this, and of nothing else.

With one job everything happens in this event loop.  With more, chunks of
executions are jobs of a `concurrent.futures.Executor` (race/jobs.py): a pool of
processes, or what is handed in (Dask's `client.get_executor(pure=False)`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from uvm_async.errors import UsageError
from uvm_async.race.cores import dump
from uvm_async.race.engine import Limits, Target
from uvm_async.race.failure import Failure
from uvm_async.race.model import Result
from uvm_async.race.record import record
from uvm_async.race.session import Checks, Session
from uvm_async.race.shrink import SHRINK_S
from uvm_async.race.strategies import make_strategy
from uvm_async.race.trace import Trace

__all__ = ["Options", "Progress", "explore", "replay", "traced"]

SCHEDULES: Final = 1_000


@dataclass(frozen=True, slots=True)
class Options:
    """How to explore."""

    strategy: str = "mix"
    schedules: int | None = None
    """Executions at most; None: 1,000, or no limit if there is one of time."""
    seconds: float | None = None
    granularity: str = "conflict"
    seed: int = 0
    jobs: int = 1
    limits: Limits = field(default_factory=Limits)
    checks: Checks = field(default_factory=Checks)
    failures: int = 1
    """Stop after so many different ones."""
    shrink: bool = True
    share_loop: bool = True
    """With one job, leave the loop to others between any two traps; else an execution, some
    milliseconds, has it to itself, which is faster."""
    shrink_budget: int = 2_000
    """Executions for making one failing schedule short."""

    @property
    def shrink_s(self) -> float:
        """Seconds for that: as long again as searching may take, and no more than a minute."""
        return SHRINK_S if self.seconds is None else min(self.seconds, SHRINK_S)

    @property
    def budget(self) -> int:
        """Executions at most."""
        if self.schedules is not None:
            return self.schedules
        return SCHEDULES if self.seconds is None else 1 << 62


@dataclass(slots=True)
class Progress:
    """How far an exploration has come."""

    schedules: int = 0
    seconds: float = 0.0
    interleavings: int = 0
    """Different orders of conflicting events."""
    words: int = 0
    """Words of memory that tasks share, and one writes."""
    steps: int = 0
    """Choice points of the longest execution."""
    tasks: int = 1
    failures: int = 0
    shrinking: bool = False
    claim: str = ""
    """What a systematic strategy has covered, when it has."""
    unreported: list[Failure] = field(default_factory=list)
    """Found, but not handed out before the exploration was cancelled; perhaps not shrunk."""

    @property
    def rate(self) -> float:
        """Schedules a second."""
        return self.schedules / self.seconds if self.seconds else 0.0


Listener = Callable[[Progress], None]


async def explore(
    target: Target,
    options: Options | None = None,
    progress: Progress | None = None,
    listener: Listener | None = None,
    executor: Executor | None = None,
) -> AsyncGenerator[Failure, None]:
    """Explore; yields each failure that is different from those before (in how it failed), shrunk.

    `progress` is kept up to date, and `listener` called with it. `executor`: where the jobs run,
    `options.jobs` at a time; what is handed in stays open. Raises UsageError, NoThreads,
    MachineError.
    """
    options = options or Options()
    progress = progress if progress is not None else Progress()
    strategy = make_strategy(options.strategy, options.seed)  # a bad name is told at once
    listener = listener or (lambda progress: None)
    if executor is None and (options.jobs <= 1 or strategy.systematic):
        failures = _alone(target, options, progress, listener)
    else:
        from uvm_async.race.jobs import together

        failures = together(
            target, options, progress, listener, executor, systematic=strategy.systematic
        )
    async with contextlib.aclosing(failures):
        async for failure in failures:
            yield failure


async def _alone(
    target: Target, options: Options, progress: Progress, listener: Listener
) -> AsyncGenerator[Failure, None]:
    started = time.monotonic()
    known: dict[str, None] = {}
    async with Session(
        target, strategy=options.strategy, seed=options.seed, granularity=options.granularity,
        limits=options.limits, checks=options.checks, share_loop=options.share_loop,
    ) as session:  # fmt: skip
        while progress.schedules < options.budget and len(known) < options.failures:
            if options.seconds is not None and time.monotonic() - started >= options.seconds:
                break
            if session.finished:
                progress.claim = session.strategy.claim()
                break
            result = await session.next()
            _tell(progress, session, started)
            listener(progress)
            if result.failure and result.failure not in known:
                known[result.failure] = None
                progress.failures += 1
                yield await _shrunk(session, result, options, progress, listener)


def _tell(progress: Progress, session: Session, started: float) -> None:
    progress.schedules += 1
    progress.seconds = time.monotonic() - started
    progress.interleavings = len(session.interleavings)
    progress.words = session.words
    progress.steps = session.profile.steps
    progress.tasks = session.profile.tasks


async def _shrunk(
    session: Session, result: Result, options: Options, progress: Progress, listener: Listener
) -> Failure:
    schedule = session.schedule_of(result)
    failure = session.failure(result, schedule)
    if options.shrink:
        progress.unreported = [failure]
        progress.shrinking = True
        listener(progress)
        failure = await session.shortened(
            result, schedule, options.shrink_budget, seconds=options.shrink_s
        )
        progress.shrinking = False
        progress.unreported = []
        listener(progress)
    return failure


async def replay(
    failure: Failure,
    *,
    times: int = 1,
    checks: Checks | None = None,
    inspect: Callable[[Session, Result], None] | None = None,
    find_callers: bool = False,
    core: str | None = None,
) -> list[Result]:
    """Run a failure's schedule again, so often; `inspect` is called at the end of each execution,
    with everything still as the end has left it. `core`: where to leave a core of all threads at
    the failing step.

    Raises UsageError if it is not the same program and processor, or if an execution leaves the
    schedule.
    """
    failure.check()
    limits = Limits(
        int(failure.limits.get("steps", Limits().steps)),
        float(failure.limits.get("host_s", Limits().host_s)),
        int(failure.limits.get("spin", Limits().spin)),
    )
    results = []
    async with Session(
        failure.target, strategy="random", seed=failure.seed,
        granularity=failure.schedule.granularity, limits=limits, checks=checks,
    ) as session:  # fmt: skip
        session.engine.find_callers = find_callers
        if core is not None:
            session.engine.at_failure = partial(dump, session.engine, core)
        if inspect is not None:
            look = inspect
            session.engine.inspect = lambda engine, result: look(session, result)
        for _ in range(times):
            result = await session.replay(failure.schedule)
            if result.detail:
                raise UsageError(f"the execution leaves the schedule: {result.detail}")
            results.append(result)
    return results


async def traced(failure: Failure) -> Trace:
    """One replay, written down for a report. Raises as `replay`."""
    traces: list[Trace] = []
    await replay(
        failure,
        inspect=lambda session, result: traces.append(record(session.engine, result)),
        find_callers=True,
    )
    trace = traces[0]
    trace.failure = failure.why
    trace.notes = {
        "strategy": failure.strategy,
        "seed": str(failure.seed),
        "found at schedule": str(failure.execution),
    }
    return trace
