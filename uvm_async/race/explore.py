"""Exploring a program: executions until something fails, or the budget is spent.

    async for failure in explore(Target(("./counter",)), Options(schedules=1000)):
        print(failure.why, failure.save())

The command `uvm race` is a client of this, and of nothing else.

With one job everything happens in this event loop.  With more, chunks of
executions are jobs of a `concurrent.futures.Executor`: a pool of processes, or
what is handed in (Dask's `client.get_executor()`); each has a machine of its own,
and a seed that follows from the exploration's and its number.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Final

from uvm_async.errors import UsageError
from uvm_async.race.engine import Limits, Target
from uvm_async.race.failure import Failure
from uvm_async.race.model import Result
from uvm_async.race.record import record
from uvm_async.race.session import Checks, Session
from uvm_async.race.shrink import shrink
from uvm_async.race.strategies import make_strategy
from uvm_async.race.strategies.replay import Replay
from uvm_async.race.trace import Trace

__all__ = ["Options", "Progress", "explore", "replay", "traced"]

CHUNK: Final = 250
"""Executions a job; a machine of its own is up in a tenth of a second."""
SCHEDULES: Final = 1_000
SEED_STEP: Final = 1_000_003


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
    shrink_budget: int = 2_000
    """Executions for making one failing schedule short."""

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
) -> AsyncIterator[Failure]:
    """Explore; yields each failure that is different from those before (in how it failed), shrunk.

    `progress` is kept up to date, and `listener` called with it. Raises UsageError, NoThreads,
    MachineError.
    """
    options = options or Options()
    progress = progress if progress is not None else Progress()
    make_strategy(options.strategy, options.seed)  # a bad name is told at once
    listener = listener or (lambda progress: None)
    if executor is None and options.jobs <= 1:
        async for failure in _alone(target, options, progress, listener):
            yield failure
        return
    async for failure in _together(target, options, progress, listener, executor):
        yield failure


async def _alone(
    target: Target, options: Options, progress: Progress, listener: Listener
) -> AsyncIterator[Failure]:
    started = time.monotonic()
    known: dict[str, None] = {}
    async with Session(
        target, strategy=options.strategy, seed=options.seed, granularity=options.granularity,
        limits=options.limits, checks=options.checks,
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
    execution = session.executions
    if options.shrink:
        progress.shrinking = True
        listener(progress)
        shrunk = await shrink(
            schedule, result, lambda strategy: session.replay(schedule, strategy),
            Replay(schedule), budget=options.shrink_budget,
        )  # fmt: skip
        schedule, result = shrunk.schedule, shrunk.result
        session.forget(shrunk.tried)
        progress.shrinking = False
        listener(progress)
    failure = session.failure(result, schedule)
    failure.execution = execution
    return failure


# -- jobs


@dataclass(frozen=True, slots=True)
class _Chunk:
    """One job."""

    target: Target
    options: Options
    number: int
    schedules: int
    words: tuple[int, ...]
    known: tuple[str, ...]
    seconds: float | None
    stop: str
    """Path of a file; when it is gone, the job ends."""


@dataclass(slots=True)
class _Outcome:
    """What a job answers."""

    schedules: int
    interleavings: list[int]
    words: tuple[int, ...]
    steps: int
    tasks: int
    failures: list[Failure]
    finished: bool
    claim: str


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run_chunk(chunk: _Chunk) -> _Outcome:
    """In a process of the pool: a session of its own."""
    try:
        import uvloop

        factory: Any = uvloop.new_event_loop
    except ImportError:
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_chunk(chunk))


async def _chunk(chunk: _Chunk) -> _Outcome:
    options = chunk.options
    seed = options.seed + chunk.number * SEED_STEP
    started = time.monotonic()
    known = dict.fromkeys(chunk.known)
    failures: list[Failure] = []
    done = 0
    async with Session(
        chunk.target, strategy=options.strategy, seed=seed, granularity=options.granularity,
        limits=options.limits, checks=options.checks, words=chunk.words,
    ) as session:  # fmt: skip
        while done < chunk.schedules and len(known) < options.failures:
            if chunk.seconds is not None and time.monotonic() - started >= chunk.seconds:
                break
            if session.finished or (chunk.stop and not os.path.exists(chunk.stop)):
                break
            result = await session.next()
            done += 1
            if result.failure and result.failure not in known:
                known[result.failure] = None
                failures.append(
                    await _shrunk(session, result, options, Progress(), lambda progress: None)
                )
        return _Outcome(
            done, list(session.interleavings), session.active_words, session.profile.steps,
            session.profile.tasks, failures, session.finished, session.strategy.claim(),
        )  # fmt: skip


async def _together(
    target: Target,
    options: Options,
    progress: Progress,
    listener: Listener,
    executor: Executor | None,
) -> AsyncIterator[Failure]:
    started = time.monotonic()
    known: dict[str, None] = {}
    interleavings: set[int] = set()
    words: tuple[int, ...] = ()
    ours = executor is None
    jobs = max(options.jobs, 1)
    stop, path = tempfile.mkstemp(prefix="uvm-race-")
    os.close(stop)
    if executor is None:
        executor = ProcessPoolExecutor(
            jobs, multiprocessing.get_context("spawn"), initializer=_ignore_interrupts
        )
    systematic = bool(getattr(make_strategy(options.strategy, options.seed), "systematic", False))
    pending: dict[asyncio.Future[_Outcome], Future[_Outcome]] = {}
    submitted = number = 0
    over = False
    try:
        while True:
            left = options.budget - submitted
            while not over and left > 0 and len(pending) < (1 if systematic else jobs):
                count = left if systematic else max(1, min(CHUNK, left // jobs))
                seconds = options.seconds
                if seconds is not None:
                    seconds -= time.monotonic() - started
                    if seconds <= 0:
                        over = True
                        break
                chunk = _Chunk(
                    target, replace(options, jobs=1), number, count, words, tuple(known), seconds,
                    path if ours else "",
                )  # fmt: skip
                future = executor.submit(_run_chunk, chunk)
                pending[asyncio.wrap_future(future)] = future
                submitted += count
                left -= count
                number += 1
            if not pending:
                return
            done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for job in done:
                del pending[job]
                outcome = job.result()
                interleavings.update(outcome.interleavings)
                words = tuple(sorted({*words, *outcome.words}))
                progress.schedules += outcome.schedules
                progress.seconds = time.monotonic() - started
                progress.interleavings = len(interleavings)
                progress.words = len(words)
                progress.steps = max(progress.steps, outcome.steps)
                progress.tasks = max(progress.tasks, outcome.tasks)
                if outcome.finished:
                    progress.claim = outcome.claim
                    over = True
                listener(progress)
                for failure in outcome.failures:
                    if failure.why not in known and len(known) < options.failures:
                        known[failure.why] = None
                        progress.failures += 1
                        yield failure
            if len(known) >= options.failures:
                return
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
        for waiting in pending.values():
            waiting.cancel()
        if ours:
            executor.shutdown(wait=True, cancel_futures=True)


async def replay(
    failure: Failure,
    *,
    times: int = 1,
    checks: Checks | None = None,
    inspect: Callable[[Session, Result], None] | None = None,
    find_callers: bool = False,
) -> list[Result]:
    """Run a failure's schedule again, so often; `inspect` is called at the end of each execution,
    with everything still as the end has left it.

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
