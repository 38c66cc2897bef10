"""The guest's standard streams where they are no terminal: bytes from and to the embedder.

To the guest they look like the ends of a pipe (or whatever `mode` says).  To the
embedder they are two bounded buffers: it feeds a `StreamIn` when that asks for
more, and takes from a `StreamOut` what has come.  The links to the embedder
(`wanted`, `on_data`) are not state: whoever thaws a machine sets them again.

Input may be somebody else's too (the rest of what our caller reads), so the
embedder is told how much a read wants (`needs`, while `asking`), and need not take
its bytes to say that there are some (`pending`).

Invariants:
- a `StreamOut` with a limit holds at most that, and a page more for writers that
  were copying when others filled it;
- what was fed after `feed_eof` is an error of the embedder's.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from uvm_async.errors import Errno, from_oserror
from uvm_async.fs.anon import PseudoSuperBlock, internal_mount, pseudo_path
from uvm_async.fs.inode import File, Inode, Path
from uvm_async.sched.wait import Interrupted, WaitQueue, block_on
from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.kernel.kernel import Kernel
    from uvm_async.kernel.task import Task
    from uvm_async.mm.iov import IovIter

__all__ = ["StreamFile", "StreamIn", "StreamOut", "open_stream"]

LIMIT_BYTES: Final = 65536
PIPE_BUF: Final = 4096
"""Writes of up to this are never torn."""
SIGPIPE: Final = 13
O_NONBLOCK: Final = 0o4000
FIONREAD: Final = 0x541B
POLLIN, POLLOUT, POLLERR, POLLHUP = 0x1, 0x4, 0x8, 0x10
POLLRDNORM, POLLWRNORM = 0x40, 0x100


class StreamIn(Entity):
    """Bytes from the embedder."""

    TRANSIENT: ClassVar[frozenset[str]] = frozenset({"wanted"})

    def __init__(self, *, fill: bool = False, limit: int = LIMIT_BYTES) -> None:
        """`fill`: a read waits until it gets all it asked for or the end, so that what it answers
        does not depend on when bytes came (deterministic runs)."""
        self.buffer = bytearray()
        self.fill = fill
        self.limit = limit
        self.eof = False
        self.wait = WaitQueue()
        """Readers; woken when there is something to read, or the end."""
        self.poll_wait = WaitQueue()
        """Pollers; woken when what `poll` answers may have changed."""
        self.needs = 1
        """How many bytes the reader that asked last would like to see at once."""
        self.asking = False
        """`wanted` is called by a read that has nothing to answer yet."""
        self.polled = False
        """The guest has polled it: it wants to be told when something comes."""
        self.pending = 0
        """POLL* bits of what the embedder has not read yet, when it last looked."""
        self.unread = 0
        """How many bytes that were, where it could tell."""
        self.readers = 0
        """Open files of the guest on it."""
        self.wanted: Callable[[], None] | None = None
        """Called when a read asks for bytes, when there is room for more (`room`), when the guest
        polls, and when the last reader has gone."""

    @property
    def room(self) -> int:
        """How many bytes may be fed now."""
        return 0 if self.eof else max(self.limit - len(self.buffer), 0)

    def feed(self, data: bytes) -> None:
        """Bytes have come; more than `room` is taken too."""
        if self.eof:
            raise ValueError("fed after the end of the stream")
        self.buffer += data
        if data and (not self.fill or len(self.buffer) >= self.needs):
            self.wait.wake_up()
        if data:
            self.poll_wait.wake_up()

    def feed_eof(self) -> None:
        """Nothing will come any more."""
        self.eof = True
        self.came()

    def came(self) -> None:
        """Something to read, or the end, is there or at the embedder's."""
        self.wait.wake_up()
        self.poll_wait.wake_up()

    def ready(self, count: int) -> bool:
        """May a read of `count` bytes answer now?"""
        if self.eof:
            return True
        return len(self.buffer) >= (min(count, self.limit) if self.fill else 1)

    def ask(self, count: int) -> None:
        """A read has to have `count` bytes."""
        self.needs = min(count, self.limit)
        if self.wanted is not None and self.room:
            self.asking = True
            self.wanted()
            self.asking = False

    def look(self) -> None:
        """Let the embedder say what it has (`pending`)."""
        self.polled = True
        if self.wanted is not None and self.room:
            self.wanted()

    def taken(self) -> None:
        """A read has taken what it wanted: there is room, and the rest may be news to pollers."""
        self.pending = 0
        if self.wanted is not None and self.room:
            self.wanted()
        if self.pending:
            self.poll_wait.wake_up()


class StreamOut(Entity):
    """Bytes for the embedder."""

    TRANSIENT: ClassVar[frozenset[str]] = frozenset({"on_data"})

    def __init__(self, *, limit: int | None = LIMIT_BYTES) -> None:
        """`limit` None: writes never wait (deterministic runs)."""
        self.buffer = bytearray()
        self.limit = limit
        self.broken = False
        self.error = Errno.EPIPE.errno
        """What writers get once it is `broken`."""
        self.writers = 0
        """Open files of the guest on it."""
        self.wait = WaitQueue()
        """Woken when there is room, or the reader is gone."""
        self.on_data: Callable[[], None] | None = None
        """Called when `buffer` has grown, and when the last writer has gone."""

    @property
    def room(self) -> int:
        return 1 << 30 if self.limit is None else max(self.limit - len(self.buffer), 0)

    def put(self, data: bytes) -> None:
        self.buffer += data
        if data and self.on_data is not None:
            self.on_data()

    def drained(self, count: int) -> None:
        """The embedder has taken the first `count` bytes of `buffer`."""
        del self.buffer[:count]
        if self.room:
            self.wait.wake_up()

    def take(self) -> bytes:
        """All that is there, taken."""
        data = bytes(self.buffer)
        self.drained(len(data))
        return data

    def hang_up(self, error: int = Errno.EPIPE.errno) -> None:
        """Nobody reads any more: writers get SIGPIPE and EPIPE, or the errno that is given."""
        self.broken = True
        self.error = error
        self.buffer.clear()
        self.wait.wake_up()


@dataclass(slots=True)
class StreamProgress:
    """Of a write that blocked: `done` bytes are in the buffer."""

    done: int


class StreamSuperBlock(PseudoSuperBlock):
    """Of the embedder's streams."""

    fs_type: ClassVar[bytes] = b"streamfs"
    magic: ClassVar[int] = 0x50495045  # pipefs: that is what they pass for


class StreamInode(Inode):
    """What fstat(2) shows of a stream, and what opening /proc/self/fd/N leads to."""

    def __init__(self, sb: StreamSuperBlock, mode: int, rdev: int, now_ns: int) -> None:
        super().__init__(sb, sb.new_ino(), mode, rdev=rdev, now_ns=now_ns)
        self.source: StreamIn | None = None
        self.sink: StreamOut | None = None

    async def open(self, task: Task, path: Path, flags: int) -> File:
        return StreamFile(path, flags)


def open_stream(
    kernel: Kernel,
    stream: StreamIn | StreamOut,
    *,
    mode: int = stat.S_IFIFO | 0o600,
    rdev: int = 0,
    owner: tuple[int, int] = (0, 0),
) -> StreamFile:
    """An open file on a stream, with one reference. `mode` and `rdev` are what fstat(2) shows."""
    mount = internal_mount(kernel, StreamSuperBlock)
    assert isinstance(mount.sb, StreamSuperBlock)
    inode = StreamInode(mount.sb, mode, rdev, kernel.clock.realtime_ns())
    inode.uid, inode.gid = owner
    if isinstance(stream, StreamIn):
        inode.source = stream
    else:
        inode.sink = stream
    name = b"pipe:[%d]" if stat.S_ISFIFO(mode) else b"stream:[%d]"
    return StreamFile(pseudo_path(mount, inode, name % inode.ino), 0 if inode.source else 1)


class StreamFile(File):
    """An open stream."""

    def __init__(self, path: Path, flags: int) -> None:
        super().__init__(path, flags)
        inode = path.inode
        assert isinstance(inode, StreamInode)
        self.source = inode.source
        self.sink = inode.sink
        if self.source is not None:
            self.source.readers += 1
        if self.sink is not None:
            self.sink.writers += 1

    async def release(self) -> None:
        if self.source is not None:
            self.source.readers -= 1
            if not self.source.readers and self.source.wanted is not None:
                self.source.wanted()
        if self.sink is not None:
            self.sink.writers -= 1
            if not self.sink.writers and self.sink.on_data is not None:
                self.sink.on_data()

    async def read_iter(self, task: Task, it: IovIter, pos: int | None = None) -> int:
        """Raises EAGAIN, EFAULT, ESPIPE (pread), EBADF (it is a sink); 0 at the end."""
        if pos is not None:
            raise Errno.ESPIPE
        source = self.source
        if source is None:
            raise Errno.EBADF
        if not it.count:
            return 0
        await self._wait_for_bytes(source, it)
        done = 0
        while it.count and source.buffer:
            copied = it.put(bytes(source.buffer[: it.count]))
            del source.buffer[:copied]
            done += copied
            if not copied:
                try:
                    await it.fault_in(min(it.count, len(source.buffer)))
                except Errno.EFAULT:
                    break
        source.taken()
        return done

    async def _wait_for_bytes(self, source: StreamIn, it: IovIter) -> None:
        while True:
            if not source.ready(it.count):
                source.ask(it.count)
            if not source.ready(it.count):  # the embedder may have fed it at once
                if self.flags & O_NONBLOCK:
                    raise Errno.EAGAIN
                await block_on(source.wait)
            await it.fault_in(min(it.count, len(source.buffer)))
            if source.ready(it.count):  # still: another reader may have been faster
                return

    async def write_iter(self, task: Task, it: IovIter, pos: int | None = None) -> int:
        """Raises EAGAIN, EPIPE (with SIGPIPE) or what the embedder met, EFAULT, ESPIPE (pwrite),
        EBADF (it is a source)."""
        if pos is not None:
            raise Errno.ESPIPE
        sink, resumed = self.sink, task.restart
        if sink is None:
            raise Errno.EBADF
        done = resumed.done if isinstance(resumed, StreamProgress) else 0
        if done:
            it.advance(done)
        try:
            while it.count:
                await self._wait_for_room(task, sink, it.count, done)
                want = min(it.count, sink.room)
                data = it.take(want) or await it.copy_from(want)
                sink.put(data)
                done += len(data)
        except (Errno, Interrupted):
            if not done:
                raise
        return done

    async def _wait_for_room(self, task: Task, sink: StreamOut, count: int, done: int) -> None:
        if sink.broken:
            if sink.error != Errno.EPIPE.errno:
                raise from_oserror(OSError(sink.error, ""))
            task.kernel.send_signal(task, SIGPIPE)
            raise Errno.EPIPE
        if sink.room < (1 if done else min(count, PIPE_BUF)):
            if self.flags & O_NONBLOCK:
                raise Errno.EAGAIN
            task.restart = StreamProgress(done)
            await block_on(sink.wait)

    def poll(self, task: Task) -> int:
        mask = 0
        if self.source is not None:
            self.source.pending = 0
            if not self.source.buffer and not self.source.eof:
                self.source.look()
            mask |= self.source.pending
            if self.source.buffer or mask & POLLIN:
                mask |= POLLIN | POLLRDNORM
            if self.source.eof:
                mask |= POLLHUP
        if self.sink is not None:
            if self.sink.room >= PIPE_BUF:
                mask |= POLLOUT | POLLWRNORM
            if self.sink.broken:
                mask |= POLLERR
        return mask

    def poll_queues(self) -> Iterable[WaitQueue]:
        if self.source is not None:
            return (self.source.poll_wait,)
        return (self.sink.wait,) if self.sink is not None else ()

    async def ioctl(self, task: Task, cmd: int, arg: int) -> int:
        """FIONREAD. Raises ENOTTY, EFAULT."""
        if cmd != FIONREAD:
            raise Errno.ENOTTY
        count, source = 0, self.source
        if source is not None:
            source.unread = 0
            if not source.buffer and not source.eof:
                source.look()
            count = len(source.buffer) or source.unread
        await task.mm.copy_to_user(arg, count.to_bytes(4, "little"))
        return 0
