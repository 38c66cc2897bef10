"""Pipes and FIFOs.

Linux: fs/pipe.c.  A pipe is a ring of buffers of at most a page.  As in Linux, a
write fills up the last buffer only with the part of it that is no whole page,
and only if all of that fits: so writes of up to PIPE_BUF bytes are never torn,
and how much a pipe holds depends on how it was written.

Sleeps are interruptible: bytes that a blocked write has already stored are in
`task.restart` (`PipeProgress`), a FIFO that is being opened is (`FifoOpening`).

Invariants:
- `used_bytes` is the sum of what is unread;
- `readers` and `writers` count open files, and a FIFO's opens in progress.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from uvm_async.errors import Errno
from uvm_async.fs.anon import PseudoSuperBlock, internal_mount, pseudo_path
from uvm_async.fs.inode import File, Inode, Path
from uvm_async.sched.wait import Interrupted, WaitQueue, block_on
from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.fs.fdtable import FdTable
    from uvm_async.kernel.task import Task
    from uvm_async.mm.iov import IovIter

__all__ = [
    "PAGE_BYTES",
    "SIGPIPE",
    "FifoOpening",
    "Pipe",
    "PipeBuffer",
    "PipeFile",
    "create_pipe",
    "open_fifo",
    "resume_fifo",
]

PAGE_BYTES: Final = 4096
DEFAULT_SLOTS: Final = 16
MAX_SLOTS: Final = (1 << 20) // PAGE_BYTES
"""What an ordinary user may ask for (/proc/sys/fs/pipe-max-size)."""
SIGPIPE: Final = 13
O_NONBLOCK: Final = 0o4000
O_DIRECT: Final = 0o40000
NOT_KEPT: Final = 0o100 | 0o200 | 0o400 | 0o1000 | 0o2000000
FIONREAD: Final = 0x541B

POLLIN, POLLOUT, POLLERR, POLLHUP = 0x1, 0x4, 0x8, 0x10
POLLRDNORM, POLLWRNORM = 0x40, 0x100


@dataclass(slots=True)
class PipeBuffer:
    """Up to a page of data, of which the first `read` bytes are gone."""

    data: bytes
    read: int = 0
    packet: bool = False
    """Written under O_DIRECT: read as a whole or cut, never joined with others."""

    @property
    def left(self) -> int:
        return len(self.data) - self.read


class Pipe(Entity):
    """Linux: struct pipe_inode_info."""

    def __init__(self) -> None:
        self.buffers: list[PipeBuffer] = []
        self.slots = DEFAULT_SLOTS
        self.used_bytes = 0
        self.readers = 0
        self.writers = 0
        self.read_opens = 0
        """How often it was opened for reading, ever; tells a waiting opener that somebody came."""
        self.write_opens = 0
        self.read_wait = WaitQueue()
        """Woken when there may be something to read, or nobody left who writes."""
        self.write_wait = WaitQueue()

    @property
    def full(self) -> bool:
        return len(self.buffers) >= self.slots

    def append(self, data: bytes, *, packet: bool = False) -> None:
        """A buffer of its own for at most a page; there must be a free slot."""
        self.buffers.append(PipeBuffer(data, packet=packet))
        self.used_bytes += len(data)

    def merges(self, count: int) -> bool:
        """Would `count` more bytes fit behind the last buffer's?"""
        if not self.buffers:
            return False
        last = self.buffers[-1]
        return not last.packet and len(last.data) + count <= PAGE_BYTES

    def merge(self, data: bytes) -> None:
        self.buffers[-1].data += data
        self.used_bytes += len(data)

    def push(self, data: bytes) -> None:
        """Store all of `data`, which came from elsewhere and must not be lost, even if others
        have filled the pipe since there was room for it; and tell the readers."""
        for at in range(0, len(data), PAGE_BYTES):
            self.append(data[at : at + PAGE_BYTES])
        self.read_wait.wake_up()

    def consume(self, count: int) -> None:
        """`count` bytes of the first buffer have been read."""
        first = self.buffers[0]
        first.read += count
        self.used_bytes -= count
        if first.read == len(first.data):
            self.drop_first()

    def drop_first(self) -> None:
        """The first buffer's slot is free; what is left of it is lost."""
        was_full = len(self.buffers) >= self.slots
        self.used_bytes -= self.buffers.pop(0).left
        if was_full:
            self.write_wait.wake_up()


@dataclass(slots=True)
class PipeProgress:
    """Of a write that blocked: `done` bytes are in the pipe."""

    done: int


class PipeSuperBlock(PseudoSuperBlock):
    """Of pipes without a name."""

    fs_type: ClassVar[bytes] = b"pipefs"
    magic: ClassVar[int] = 0x50495045


class PipeFile(File):
    """An open end of a pipe, or both."""

    def __init__(self, path: Path, flags: int, pipe: Pipe) -> None:
        super().__init__(path, flags & ~NOT_KEPT)
        self.pipe = pipe
        self.hung_up = False
        self.no_hangup_before = -1
        """Opened while nobody wrote: no POLLHUP until `Pipe.write_opens` differs from this."""
        if self.readable:
            pipe.readers += 1
            pipe.read_opens += 1
        if self.writable:
            pipe.writers += 1
            pipe.write_opens += 1

    async def read_iter(self, task: Task, it: IovIter, pos: int | None = None) -> int:
        """Raises EAGAIN, EFAULT, ESPIPE (pread); 0 when nobody writes any more."""
        if pos is not None:
            raise Errno.ESPIPE
        pipe, done = self.pipe, 0
        buffers = pipe.buffers
        while it.count:
            if not buffers:
                if done or not pipe.writers:
                    break
                if self.flags & O_NONBLOCK:
                    raise Errno.EAGAIN
                await block_on(pipe.read_wait)
            first = buffers[0]
            part: bytes | memoryview = first.data
            if first.read or len(part) > it.count:
                part = memoryview(part)[first.read : first.read + it.count]
            copied = it.put(part)
            done += copied
            if copied < len(part):
                pipe.consume(copied)
                try:
                    await it.fault_in(min(it.count, PAGE_BYTES))
                except Errno.EFAULT:
                    if done:
                        break
                    raise
            elif first.packet:
                pipe.consume(copied)
                if buffers and buffers[0] is first:
                    pipe.drop_first()
                break
            else:
                pipe.consume(copied)
        return done

    async def write_iter(self, task: Task, it: IovIter, pos: int | None = None) -> int:
        """Raises EAGAIN, EPIPE (with SIGPIPE), EFAULT, ESPIPE (pwrite)."""
        if pos is not None:
            raise Errno.ESPIPE
        pipe, resumed = self.pipe, task.restart
        done = resumed.done if isinstance(resumed, PipeProgress) else 0
        if done:
            it.advance(done)
        packet = bool(self.flags & O_DIRECT)
        tail = 0 if done or packet else it.count % PAGE_BYTES
        try:
            while it.count:
                merge = tail and pipe.merges(tail)
                if not pipe.readers or (len(pipe.buffers) >= pipe.slots and not merge):
                    await self._wait_for_room(task, tail, done)
                want = tail if merge else min(it.count, PAGE_BYTES)
                data = it.take(want)
                if len(data) < want:
                    data += await it.copy_from(want - len(data))
                    # Others may have filled the pipe while the page was brought in.
                    await self._wait_for_room(task, len(data) if tail else 0, done)
                if tail and pipe.merges(len(data)):
                    pipe.merge(data)
                else:
                    pipe.append(data, packet=packet)
                tail = 0
                done += len(data)
                if pipe.read_wait.waiters:
                    pipe.read_wait.wake_up()
        except (Errno.EFAULT, Errno.EAGAIN, Errno.EPIPE, Interrupted):
            if not done:
                raise
        return done

    async def _wait_for_room(self, task: Task, tail: int, done: int) -> None:
        """Returns if there is room for a buffer, or for `tail` bytes behind the last one."""
        pipe = self.pipe
        if not pipe.readers:
            task.kernel.send_signal(task, SIGPIPE)
            raise Errno.EPIPE
        if pipe.full and not (tail and pipe.merges(tail)):
            if self.flags & O_NONBLOCK:
                raise Errno.EAGAIN
            task.restart = PipeProgress(done)
            await block_on(pipe.write_wait)

    def poll(self, task: Task) -> int:
        pipe, mask = self.pipe, 0
        if self.readable:
            if pipe.buffers:
                mask |= POLLIN | POLLRDNORM
            if not pipe.writers and pipe.write_opens != self.no_hangup_before:
                mask |= POLLHUP
        if self.writable:
            if not pipe.full:
                mask |= POLLOUT | POLLWRNORM
            if not pipe.readers:
                mask |= POLLERR
        return mask

    def poll_queues(self) -> Iterable[WaitQueue]:
        queues = []
        if self.readable:
            queues.append(self.pipe.read_wait)
        if self.writable:
            queues.append(self.pipe.write_wait)
        return queues

    async def ioctl(self, task: Task, cmd: int, arg: int) -> int:
        """FIONREAD. Raises ENOTTY, EFAULT."""
        if cmd != FIONREAD:
            raise Errno.ENOTTY
        await task.mm.copy_to_user(arg, self.pipe.used_bytes.to_bytes(4, "little"))
        return 0

    def set_size(self, size: int, *, privileged: bool) -> int:
        """F_SETPIPE_SZ; answers the size it got. Raises EINVAL, EPERM, EBUSY."""
        if size > 1 << 31:
            raise Errno.EINVAL
        slots = 1
        while slots * PAGE_BYTES < size:
            slots *= 2
        if slots > MAX_SLOTS and slots > self.pipe.slots and not privileged:
            raise Errno.EPERM
        if slots < len(self.pipe.buffers):
            raise Errno.EBUSY
        self.pipe.slots = slots
        self.pipe.write_wait.wake_up()
        return slots * PAGE_BYTES

    def hang_up(self) -> None:
        """This end is gone, as far as the other can see."""
        if self.hung_up:
            return
        self.hung_up = True
        pipe = self.pipe
        if self.readable:
            pipe.readers -= 1
        if self.writable:
            pipe.writers -= 1
        if not pipe.readers and not pipe.writers:
            self.inode.pipe = None
        else:
            pipe.read_wait.wake_up()
            pipe.write_wait.wake_up()

    async def release(self) -> None:
        self.hang_up()


class FifoOpening(Entity):
    """In `task.restart`: an open(2) of a FIFO that waits for somebody at the other end."""

    def __init__(self, files: FdTable, file: PipeFile) -> None:
        self.files = files
        self.file = file
        self.seen_opens = self._opens()

    def _opens(self) -> int:
        pipe = self.file.pipe
        return pipe.write_opens if self.file.readable else pipe.read_opens

    @property
    def met(self) -> bool:
        """Somebody has opened the other end since (and may be gone again)."""
        return self._opens() != self.seen_opens

    def abandon(self) -> None:
        """The open does not go on: a handler ran, or the task is gone."""
        self.file.hang_up()
        self.files.deferred.append(self.file)


def create_pipe(task: Task, flags: int) -> tuple[PipeFile, PipeFile]:
    """pipe2(2): (read end, write end), each with one reference."""
    mount = internal_mount(task.kernel, PipeSuperBlock)
    assert isinstance(mount.sb, PipeSuperBlock)
    ino = mount.sb.new_ino()
    now = task.kernel.clock.realtime_ns()
    cred = task.cred
    inode = Inode(mount.sb, ino, stat.S_IFIFO | 0o600, uid=cred.fsuid, gid=cred.fsgid, now_ns=now)
    inode.pipe = Pipe()
    path = pseudo_path(mount, inode, b"pipe:[%d]" % ino)
    kept = flags & (O_NONBLOCK | O_DIRECT)
    return PipeFile(path, kept, inode.pipe), PipeFile(path, kept | 1, inode.pipe)


async def open_fifo(task: Task, path: Path, flags: int) -> File:
    """Open a FIFO (or, through /proc/PID/fd, a pipe), waiting for the other end.

    Raises ENXIO (O_WRONLY | O_NONBLOCK and nobody reads), EINVAL, EINTR.
    """
    inode = path.inode
    access = flags & 3
    if access == 3:
        raise Errno.EINVAL
    waits = path.mount.sb.fs_type != PipeSuperBlock.fs_type
    if inode.pipe is None:
        inode.pipe = Pipe()
    pipe = inode.pipe
    if access == 1 and flags & O_NONBLOCK and waits and not pipe.readers:
        raise Errno.ENXIO
    file = PipeFile(path, flags, pipe)
    pipe.read_wait.wake_up()
    pipe.write_wait.wake_up()
    if not waits or access == 2 or (pipe.writers if access == 0 else pipe.readers):
        return file
    if flags & O_NONBLOCK:
        file.no_hangup_before = pipe.write_opens
        return file
    task.restart = FifoOpening(task.files, file)
    return await resume_fifo(task)


async def resume_fifo(task: Task) -> File:
    """Go on with the open that `task.restart` describes. Raises EINTR."""
    opening = task.restart
    assert isinstance(opening, FifoOpening)
    file = opening.file
    if opening.met:
        task.restart = None
        return file
    await block_on(file.pipe.read_wait if file.readable else file.pipe.write_wait)
