"""The request queue of a disk: merges neighbours, sorts, bounds, keeps order where it matters.

Linux: block/blk-mq.c, block/elevator.c, block/blk-flush.c.  This half runs on the
host's event loop, as jobs: kernel coroutines reach it through `sched.wait.host`.

Bios enter *epochs*.  Within an epoch nothing overlaps but reads, so its requests
may run in any order, side by side: they are merged with their neighbours and
served in one direction (C-SCAN).  An epoch starts only when the one before has
ended.  A bio that conflicts with one already waiting opens a new epoch; a flush
is an epoch of its own.  So barriers, FUA and conflicts are one mechanism.

Invariants:
- at most `depth` requests run, at most `limit` bios wait (submitters sleep);
- bios that conflict complete in the order in which they were submitted;
- the queue holds no state: when no submitter sleeps in it, it is empty.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from uvm_async.block.bio import Bio, Op, flush_bio
from uvm_async.errors import Errno

__all__ = ["MERGE_BYTES", "Request", "RequestQueue"]

MERGE_BYTES = 1 << 20
"""No request grows beyond this by merging: one host call stays short."""

MERGE_BIOS = 512
"""Nor beyond so many bios: below the host's limit of 1,024 to an iovec."""


class Request:
    """Bios of one kind that lie side by side: one host call."""

    __slots__ = ("bios", "end", "op", "start")

    def __init__(self, bio: Bio) -> None:
        self.op = bio.op
        self.start = bio.offset
        self.end = bio.end
        self.bios = [bio]

    def followed_by(self, other: Request) -> bool:
        """Can `other` be appended?"""
        return (
            self.end == other.start
            and self.op is other.op
            and self.op is not Op.FLUSH
            and other.end - self.start <= MERGE_BYTES
            and len(self.bios) + len(other.bios) <= MERGE_BIOS
        )

    def append(self, other: Request) -> None:
        self.bios += other.bios
        self.end = other.end


class _Batch:
    """Bios submitted together, and who waits for them."""

    __slots__ = ("done", "left")

    def __init__(self, done: asyncio.Future[None]) -> None:
        self.left = 0
        self.done = done


class _Epoch:
    __slots__ = ("reads", "running", "sealed", "starts", "waiting", "write_ends", "writes")

    def __init__(self, *, sealed: bool) -> None:
        self.sealed = sealed
        """Nothing may join: it is a flush."""
        self.waiting: list[Request] = []
        self.starts: list[int] = []
        """`start` of each waiting request, ascending."""
        self.running = 0
        self.reads: list[tuple[int, int]] = []
        self.writes: list[int] = []
        """Starts of its writes and discards, ascending; they are disjoint."""
        self.write_ends: list[int] = []

    def conflicts(self, op: Op, start: int, end: int) -> bool:
        at = bisect_left(self.writes, end) - 1
        if at >= 0 and self.write_ends[at] > start:
            return True
        return op is not Op.READ and any(s < end and start < e for s, e in self.reads)

    def add(self, bio: Bio) -> None:
        if bio.op is Op.READ:
            self.reads.append((bio.offset, bio.end))
        elif bio.op is not Op.FLUSH:
            at = bisect_left(self.writes, bio.offset)
            self.writes.insert(at, bio.offset)
            self.write_ends.insert(at, bio.end)
        at = bisect_right(self.starts, bio.offset)
        self.waiting.insert(at, Request(bio))
        self.starts.insert(at, bio.offset)
        self._merge(at)
        if at:
            self._merge(at - 1)

    def _merge(self, at: int) -> None:
        """Join a waiting request with the one behind it, if they are one."""
        if at + 1 < len(self.waiting) and self.waiting[at].followed_by(self.waiting[at + 1]):
            self.waiting[at].append(self.waiting.pop(at + 1))
            del self.starts[at + 1]

    def remove(self, bio: Bio) -> None:
        """`bio` is complete and conflicts with nothing any more."""
        if bio.op is Op.READ:
            self.reads.remove((bio.offset, bio.end))
        elif bio.op is not Op.FLUSH:
            at = bisect_left(self.writes, bio.offset)
            del self.writes[at], self.write_ends[at]

    def take(self, head: int) -> Request:
        """The next request at or after byte `head`, wrapping to the lowest."""
        at = bisect_left(self.starts, head)
        if at == len(self.starts):
            at = 0
        del self.starts[at]
        return self.waiting.pop(at)


class RequestQueue:
    """One disk's queue. `perform` carries out one request and raises OSError if it cannot."""

    def __init__(
        self,
        perform: Callable[[Request], Awaitable[None]],
        *,
        depth: int = 32,
        limit: int = 1024,
    ) -> None:
        self._perform = perform
        self._depth = depth
        self._limit = limit
        self._epochs: deque[_Epoch] = deque()
        self._pending: dict[Bio, tuple[_Batch, Bio]] = {}
        """Each bio under way: its batch, and the bio that its failure belongs to."""
        self._head = 0
        self._running = 0
        self._queued = 0
        self._writing = 0
        self._room: deque[asyncio.Future[None]] = deque()
        self._jobs: set[asyncio.Task[None]] = set()
        self.merged = 0
        """How often two requests became one, ever."""

    @property
    def idle(self) -> bool:
        return not self._epochs

    def conflicts(self, start: int, end: int) -> bool:
        """Would a read of [start, end) have to wait for a write or discard that is under way?"""
        return self._writing > 0 and any(e.conflicts(Op.READ, start, end) for e in self._epochs)

    async def run(self, bios: Sequence[Bio]) -> None:
        """Submit `bios`, wait until all are complete. Errors are in the bios."""
        loop = asyncio.get_running_loop()
        batch = _Batch(loop.create_future())
        batch.left += 1  # until all are in the queue
        for bio in bios:
            while self._queued >= self._limit:
                room: asyncio.Future[None] = loop.create_future()
                self._room.append(room)
                self._kick()
                await room
            self._enter(bio, batch)
        batch.left -= 1
        if batch.left:
            # One turn of the loop later, so that what others submit in this turn can merge.
            loop.call_soon(self._kick)
            await batch.done

    def _enter(self, bio: Bio, batch: _Batch) -> None:
        bio.error = None
        if bio.preflush:
            self._append(flush_bio(), batch, bio)
        self._append(bio, batch, bio)
        if bio.fua:
            self._append(flush_bio(), batch, bio)

    def _append(self, bio: Bio, batch: _Batch, parent: Bio) -> None:
        barrier = bio.op is Op.FLUSH
        epoch = self._epochs[-1] if self._epochs else None
        if epoch is None or barrier or epoch.sealed or epoch.conflicts(bio.op, bio.offset, bio.end):
            epoch = _Epoch(sealed=barrier)
            self._epochs.append(epoch)
        before = len(epoch.waiting)
        epoch.add(bio)
        self.merged += before + 1 - len(epoch.waiting)
        batch.left += 1
        self._pending[bio] = (batch, parent)
        self._queued += 1
        self._writing += bio.op in (Op.WRITE, Op.DISCARD)

    def _kick(self) -> None:
        while self._epochs and self._running < self._depth:
            epoch = self._epochs[0]
            if not epoch.waiting:
                if epoch.running:
                    return
                self._epochs.popleft()
                continue
            request = epoch.take(self._head)
            self._head = request.end
            epoch.running += 1
            self._running += 1
            job = asyncio.get_running_loop().create_task(self._execute(epoch, request))
            self._jobs.add(job)
            job.add_done_callback(self._jobs.discard)

    async def _execute(self, epoch: _Epoch, request: Request) -> None:
        error: type[Errno] | None = None
        bug: Exception | None = None
        try:
            await self._perform(request)
        except OSError:
            error = Errno.EIO
        except Exception as failure:
            bug = failure
        # Cancelled, the machine is being taken down: then nobody is told, and nothing started.
        epoch.running -= 1
        self._running -= 1
        for bio in request.bios:
            epoch.remove(bio)
            self._complete(bio, error, bug)
        self._kick()

    def _complete(self, bio: Bio, error: type[Errno] | None, bug: Exception | None) -> None:
        batch, parent = self._pending.pop(bio)
        parent.error = parent.error or error
        self._queued -= 1
        self._writing -= bio.op in (Op.WRITE, Op.DISCARD)
        batch.left -= 1
        if not batch.done.done():
            if bug is not None:
                batch.done.set_exception(bug)
            elif batch.left == 0:
                batch.done.set_result(None)
        while self._room and self._queued < self._limit:
            room = self._room.popleft()
            if not room.done():
                room.set_result(None)
                break
