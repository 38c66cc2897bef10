"""More than one core, more than one machine: an exploration cut into chunks, which are jobs.

Each chunk is a session of its own, with a machine of its own and a seed that
follows from the exploration's and the chunk's number; its size follows from its
number and what is left of the budget.  Nothing that another chunk finds changes
what it does, only how early it may end.  Failures are handed out in the order of
chunks.  So what an exploration finds is a function of its seed and budget, not
of who ran what when, nor of how many jobs there are.  (A limit of time cuts that
short, and which chunks it cuts is chance.)

Systematic searches are not cut: a chunk could not go on where another ended.

A process of our own pool is on a *leash*, a pipe of which we hold the other end:
when we let go, or die, the chunk under way answers what it has so far, and
`GRACE_S` later the process is gone whatever it does.  Somebody else's executor
(Dask) has no leash: what is under way there goes on to the end of its chunk.

A job keeps its loop and its stubs on one CPU, one that no other job of this host has.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import socket
import threading
import time
import traceback
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from multiprocessing import connection
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from typing import Any, Final

from uvm_async.errors import MachineError, UsageError
from uvm_async.race.engine import Target
from uvm_async.race.explore import Listener, Options, Progress
from uvm_async.race.failure import Failure
from uvm_async.race.model import Result
from uvm_async.race.session import Session

__all__ = ["Chunk", "Outcome", "run_chunk", "together"]

SMALLEST: Final = 50
"""Executions of the first chunks, so that a frequent failure is soon reported."""
LARGEST: Final = 250
"""Executions of later ones: a machine of its own, and finding out what tasks share, cost as much
as a few dozen."""
SEED_STEP: Final = 1_000_003
TICK_S: Final = 0.5
GRACE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """One job."""

    target: Target
    options: Options
    number: int
    schedules: int
    known: tuple[str, ...] = ()
    """Failures that chunks before this one have found."""
    seconds: float | None = None


@dataclass(slots=True)
class Outcome:
    """What a job answers."""

    schedules: int = 0
    interleavings: list[int] = field(default_factory=list)
    words: tuple[int, ...] = ()
    steps: int = 0
    tasks: int = 1
    failures: list[Failure] = field(default_factory=list)
    """Different ones, in the order in which they were found."""
    finished: bool = False
    claim: str = ""
    error: Exception | None = None
    """Why it ended early."""


# -- in a process, or a thread, of the executor

_leash: connection.Connection | None = None
"""Of a process of our pool: readable once nobody wants to know any more."""


def _on_leash(leash: connection.Connection) -> None:
    """A process of our pool starts."""
    global _leash
    _leash = leash
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who lets go decides, not the terminal
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with, args=(leash,), daemon=True).start()


def _end_with(leash: connection.Connection) -> None:
    connection.wait([leash])
    time.sleep(GRACE_S)
    os._exit(1)


def run_chunk(packed: bytes, theirs: str) -> Outcome:
    """One job, packed by version `theirs` of this package. Whatever it raises is in the outcome, so
    that what the future raises is the executor's own."""
    import uvloop

    outcome = Outcome()
    try:
        ours = version("uvm-async")
        if theirs != ours:
            raise UsageError(f"a job was given to uvm_async {ours}, and is of {theirs}")
        chunk = _unpacked(packed)
        with _one_cpu(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_explore(chunk, outcome))
    except Exception as error:
        outcome.error = _portable(error)
    return outcome


def _unpacked(packed: bytes) -> Chunk:
    try:
        chunk = pickle.loads(packed)
    except Exception as error:  # a module of the user's is imported here
        raise UsageError(
            f"a job cannot import what it needs: {type(error).__name__}: {error}"
        ) from error
    assert isinstance(chunk, Chunk)
    return chunk


def _portable(error: Exception) -> Exception:
    """`error` as it can go to another process: with its traceback, if that says anything."""
    if not isinstance(error, (UsageError, MachineError)):
        error.add_note("in a job:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return MachineError(f"a job has failed: {error!r}")
    return error


@contextlib.contextmanager
def _one_cpu() -> Iterator[None]:
    """This thread, and all that it starts, stays on one CPU, taken by a name that only one socket
    of this host can have: jobs know nothing of each other. If all are taken, it is on any."""
    before = os.sched_getaffinity(0)
    with contextlib.ExitStack() as stack:
        for cpu in sorted(before):
            claim = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            with contextlib.suppress(OSError):
                claim.bind(f"\0uvm-race-cpu-{cpu}")
                os.sched_setaffinity(0, {cpu})
                break
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, before)


async def _explore(chunk: Chunk, outcome: Outcome) -> None:
    """Fills in `outcome`, as far as it comes."""
    options = chunk.options
    started = time.monotonic()
    found: list[tuple[Failure, Result]] = []
    with _until_let_go():
        async with Session(
            chunk.target, strategy=options.strategy,
            seed=options.seed + chunk.number * SEED_STEP, granularity=options.granularity,
            limits=options.limits, checks=options.checks, share_loop=False,
        ) as session:  # fmt: skip
            whys = dict.fromkeys(chunk.known)
            try:
                while outcome.schedules < chunk.schedules and len(whys) < options.failures:
                    if chunk.seconds is not None and time.monotonic() - started >= chunk.seconds:
                        break
                    if session.finished:
                        break
                    result = await session.next()
                    outcome.schedules += 1
                    if result.failure and result.failure not in whys:
                        whys[result.failure] = None
                        failure = session.failure(result, session.schedule_of(result))
                        found.append((failure, result))
                        outcome.failures.append(failure)
            finally:
                outcome.interleavings = list(session.interleavings)
                outcome.words = session.active_words
                outcome.steps = session.profile.steps
                outcome.tasks = session.profile.tasks
                outcome.finished = session.finished
                outcome.claim = session.strategy.claim() if session.finished else ""
            # Only now, and after what it says of coverage: shrinking would change what comes after.
            if options.shrink:
                for index, (failure, result) in enumerate(found):
                    shorter = await session.shortened(
                        result, failure.schedule, options.shrink_budget, seconds=options.shrink_s
                    )
                    shorter.execution = failure.execution
                    outcome.failures[index] = shorter


@contextlib.contextmanager
def _until_let_go() -> Iterator[None]:
    """The body ends early, without an error, when the leash is let go."""
    leash = _leash
    if leash is None:
        yield
        return
    loop = asyncio.get_running_loop()
    job = asyncio.current_task()
    assert job is not None
    free = False

    def let_go() -> None:
        nonlocal free
        free = True
        loop.remove_reader(leash)
        job.cancel()

    loop.add_reader(leash, let_go)
    try:
        yield
    except asyncio.CancelledError:
        if not free:
            raise
        job.uncancel()
    finally:
        loop.remove_reader(leash)


# -- in the process that wants to know


class _Spawning(SpawnContext):
    """Starts processes, and remembers them: the pool does not say which they are."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[BaseProcess] = []

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]
        """What the pool calls to make one."""
        process = SpawnProcess(*args, **kwargs)
        self.started.append(process)
        return process


class _Pool:
    """Processes of our own, on a leash."""

    def __init__(self, jobs: int) -> None:
        self._context = _Spawning()
        self._theirs, self._ours = self._context.Pipe(duplex=False)
        self.executor = ProcessPoolExecutor(jobs, self._context, _on_leash, (self._theirs,))

    def let_go(self) -> None:
        """Whatever they do, they end."""
        with contextlib.suppress(OSError):
            self._ours.send_bytes(b"!")  # a fork of ours may hold a copy of this end
        self._ours.close()

    async def close(self) -> None:
        """When this has returned they are gone, and so are their machines."""
        ending = asyncio.ensure_future(
            asyncio.to_thread(self.executor.shutdown, cancel_futures=True)
        )
        await asyncio.wait([ending], timeout=GRACE_S)
        if not ending.done():  # one that has not come so far as to know of a leash, say
            for process in self._context.started:
                if process.is_alive():
                    process.kill()
        await ending
        self._theirs.close()


async def together(
    target: Target,
    options: Options,
    progress: Progress,
    listener: Listener,
    executor: Executor | None,
    *,
    systematic: bool,
) -> AsyncGenerator[Failure, None]:
    """`explore`, with `options.jobs` chunks at a time in `executor`, or in a pool of processes."""
    target = replace(
        target, cwd=os.path.abspath(target.cwd or "."), root=os.path.abspath(target.root)
    )
    pool = _Pool(options.jobs) if executor is None else None
    work = _Work(target, options, progress, pool.executor if pool else executor, systematic)
    try:
        while True:
            work.submit()
            if not work.pending:
                return
            await work.some()
            listener(progress)
            for failure in work.in_turn():
                yield failure
            if len(work.known) >= options.failures:
                return
    finally:
        if pool is not None:
            pool.let_go()
            await work.rest()
        work.give_up()
        if pool is not None:
            await pool.close()


class _Work:
    """Chunks: those that are under way, and those whose turn has not come."""

    def __init__(
        self,
        target: Target,
        options: Options,
        progress: Progress,
        executor: Executor | None,
        systematic: bool,
    ) -> None:
        assert executor is not None
        self.target = target
        self.options = options
        self.progress = progress
        self.executor = executor
        self.systematic = systematic
        self.pending: dict[asyncio.Future[Outcome], int] = {}
        self.known: dict[str, None] = {}
        """Failures that were handed out."""
        self._started = time.monotonic()
        self._left = options.budget
        self._next = 0
        self._turn = 0
        self._waiting: dict[int, Outcome] = {}
        """By number: those before are not all there."""
        self._interleavings: set[int] = set()
        self._words: set[int] = set()
        self._over = False

    def submit(self) -> None:
        """As many as can be under way."""
        options = self.options
        while not self._over and self._left > 0 and len(self.pending) < max(options.jobs, 1):
            seconds = options.seconds
            if seconds is not None:
                seconds -= time.monotonic() - self._started
                if seconds <= 0:
                    return
            number = self._next
            size = self._left if self.systematic else min(self._left, _size(number))
            chunk = Chunk(self.target, options, number, size, tuple(self.known), seconds)
            self.pending[_submitted(self.executor, _packed(chunk))] = number
            self._left -= size
            self._next = number + 1

    async def some(self) -> None:
        """Wait until one has ended, or a little."""
        done, _ = await asyncio.wait(
            self.pending, timeout=TICK_S, return_when=asyncio.FIRST_COMPLETED
        )
        self._ended(done)

    async def rest(self) -> None:
        """All have been told to end: what do they have?"""
        if self.pending:
            done, _ = await asyncio.wait(self.pending, timeout=GRACE_S)
            self._ended(done)

    def give_up(self) -> None:
        """Nobody wants to know what else comes."""
        for job in self.pending:
            job.cancel()
        wanted = self.options.failures - len(self.known)
        unreported: dict[str, Failure] = {}
        for _, outcome in sorted(self._waiting.items()):
            for failure in outcome.failures:
                if failure.why not in self.known:
                    unreported.setdefault(failure.why, failure)
        self.progress.unreported = list(unreported.values())[:wanted]

    def in_turn(self) -> Iterator[Failure]:
        """Failures that are new, of all chunks whose turn has come."""
        while (outcome := self._waiting.pop(self._turn, None)) is not None:
            self._turn += 1
            for failure in outcome.failures:
                if failure.why not in self.known and len(self.known) < self.options.failures:
                    self.known[failure.why] = None
                    self.progress.failures += 1
                    yield failure
            if outcome.error is not None and len(self.known) < self.options.failures:
                raise outcome.error

    def _ended(self, jobs: set[asyncio.Future[Outcome]]) -> None:
        progress = self.progress
        for job in jobs:
            outcome = _outcome_of(job)
            self._waiting[self.pending.pop(job)] = outcome
            self._interleavings.update(outcome.interleavings)
            self._words.update(outcome.words)
            progress.schedules += outcome.schedules
            progress.steps = max(progress.steps, outcome.steps)
            progress.tasks = max(progress.tasks, outcome.tasks)
            if outcome.finished:
                progress.claim = outcome.claim
            if outcome.finished or outcome.error is not None:
                self._over = True
        progress.seconds = time.monotonic() - self._started
        progress.interleavings = len(self._interleavings)
        progress.words = len(self._words)
        whys = dict(self.known)
        for outcome in self._waiting.values():
            whys.update((failure.why, None) for failure in outcome.failures)
        if len(whys) >= self.options.failures:
            self._over = True  # chunks with higher numbers could not change what is handed out


def _size(number: int) -> int:
    """Executions of the chunk with this number."""
    return min(LARGEST, SMALLEST << min(number // 2, 8))


def _packed(chunk: Chunk) -> bytes:
    try:
        return pickle.dumps(chunk)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UsageError(
            f"more than one job needs a predicate that can be imported: {error}"
        ) from error


def _submitted(executor: Executor, packed: bytes) -> asyncio.Future[Outcome]:
    # A new process ignores ^C from its first instruction on.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return asyncio.wrap_future(executor.submit(run_chunk, packed, version("uvm-async")))
    except RuntimeError as error:  # broken, or shut down
        raise MachineError(f"the executor takes no job: {error}") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _outcome_of(job: asyncio.Future[Outcome]) -> Outcome:
    if job.cancelled():
        return Outcome(error=MachineError("the executor has given up a job"))
    error = job.exception()
    if error is None:
        return job.result()
    if isinstance(error, Exception):
        return Outcome(error=MachineError(f"the executor has lost a job: {error}"))
    raise error
