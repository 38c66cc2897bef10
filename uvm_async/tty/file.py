"""An open terminal.

Linux: drivers/tty/tty_io.c (tty_read, tty_write), n_tty.c (n_tty_read, n_tty_write).

A read that waits for VMIN bytes leaves what has come in the queue until there are
enough, so nothing but deadlines must survive its sleep.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from uvm_async.errors import Errno
from uvm_async.fs.inode import File, Path
from uvm_async.sched.wait import Interrupted, WaitQueue, block_on
from uvm_async.tty import ioctl
from uvm_async.tty.termios import Cc, Lflag, Oflag

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task
    from uvm_async.mm.iov import IovIter
    from uvm_async.tty.base import Tty

__all__ = ["TtyFile"]

SIGTTIN: Final = 21
O_NONBLOCK: Final = 0o4000
TENTH_NS: Final = 100_000_000
CHUNK_BYTES: Final = 64
"""Linux reads in pieces of this: with a VMIN beyond it a read gets one such piece."""
WAKEUP_CHARS: Final = 256
"""POLLOUT: fewer bytes than this are on their way to the screen."""
POLLIN, POLLOUT, POLLERR, POLLHUP = 0x1, 0x4, 0x8, 0x10
POLLRDNORM, POLLWRNORM = 0x40, 0x100


@dataclass(slots=True)
class ReadProgress:
    """Of a read that waits: until when, and how much it has seen."""

    deadline_ns: int | None
    seen: int


@dataclass(slots=True)
class WriteProgress:
    """Of a write that waits: `done` bytes are on the line."""

    done: int


class TtyFile(File):
    """An open terminal device."""

    seekable: ClassVar[bool] = False

    def __init__(self, path: Path, flags: int, tty: Tty, *, is_console: bool = False) -> None:
        super().__init__(path, flags)
        self.tty = tty
        self.is_console = is_console
        """Opened as /dev/console: job control does not stop its readers and writers."""
        tty.opens += 1

    # -- reading

    async def read_iter(self, task: Task, it: IovIter, pos: int | None = None) -> int:
        """Raises EAGAIN, EIO (an orphaned or deaf background), EFAULT; 0 at ^D or hang-up."""
        tty = self.tty
        if tty.hung_up:
            return 0
        if not self.is_console:
            tty.check_change(task, SIGTTIN)
        if not it.count:
            return 0
        if not await self._wait_for_input(task, it.count):
            return 0
        ldisc, count = tty.ldisc, it.count
        if not ldisc.canonical and tty.termios.cc[Cc.MIN] > CHUNK_BYTES:
            count = min(count, CHUNK_BYTES)
        await it.fault_in(min(count, max(ldisc.readable(), 1)))
        data = ldisc.take(count)
        tty.pump()
        return await it.copy_to(data)

    async def _wait_for_input(self, task: Task, count: int) -> bool:
        """Returns when a read may answer: False with nothing."""
        tty = self.tty
        ldisc = tty.ldisc
        if ldisc.canonical:
            if not ldisc.has_input():
                await self._sleep(task, None, 0)
            return True
        cc = tty.termios.cc
        minimum, time_ns = cc[Cc.MIN], cc[Cc.TIME] * TENTH_NS
        have = len(ldisc.queue)
        want = min(minimum or 1, count, CHUNK_BYTES)
        if have >= want:
            return True
        progress = task.restart if isinstance(task.restart, ReadProgress) else None
        now = task.kernel.clock.monotonic_ns()
        deadline: int | None = None
        if minimum == 0:  # the time runs from the call on
            deadline = now + time_ns if progress is None else progress.deadline_ns
        elif time_ns and have:  # the time runs from each byte on
            if progress is not None and progress.seen == have and progress.deadline_ns is not None:
                deadline = progress.deadline_ns
            else:
                deadline = now + time_ns
        if tty.hung_up or (deadline is not None and now >= deadline):
            return have > 0
        try:
            await self._sleep(task, deadline, have)
        except (Errno.EAGAIN, Interrupted):
            if not have:
                raise
        return True

    async def _sleep(self, task: Task, deadline_ns: int | None, seen: int) -> None:
        if self.flags & O_NONBLOCK:
            raise Errno.EAGAIN
        task.restart = ReadProgress(deadline_ns, seen)
        await block_on(self.tty.read_wait, deadline_ns=deadline_ns)

    # -- writing

    async def write_iter(self, task: Task, it: IovIter, pos: int | None = None) -> int:
        """Raises EAGAIN, EIO (hung up), EFAULT."""
        tty, resumed = self.tty, task.restart
        done = resumed.done if isinstance(resumed, WriteProgress) else 0
        if done:
            it.advance(done)
        try:
            if tty.termios.lflag & Lflag.TOSTOP and not self.is_console:
                tty.check_change(task)
            tty.ldisc.screen.flush()
            while it.count:
                if tty.hung_up or tty.out.broken:
                    raise Errno.EIO
                if not tty.room:
                    if self.flags & O_NONBLOCK:
                        raise Errno.EAGAIN
                    task.restart = WriteProgress(done)
                    await block_on(tty.out.wait)
                want = min(it.count, tty.room)
                data = it.take(want) or await it.copy_from(want)
                if tty.termios.oflag & Oflag.OPOST:
                    tty.put(tty.ldisc.screen.process(data))
                else:
                    tty.put(data)
                done += len(data)
        except (Errno.EFAULT, Errno.EAGAIN, Errno.EIO, Interrupted):
            if not done:
                raise
        return done

    # -- the rest

    def poll(self, task: Task) -> int:
        tty = self.tty
        cc = tty.termios.cc
        mask = 0
        need = cc[Cc.MIN] if cc[Cc.MIN] and not cc[Cc.TIME] else 1
        ldisc = tty.ldisc
        if ldisc.has_input() if ldisc.canonical else len(ldisc.queue) >= need:
            mask |= POLLIN | POLLRDNORM
        if tty.hung_up:
            mask |= POLLIN | POLLRDNORM | POLLERR | POLLHUP | POLLOUT | POLLWRNORM
        elif len(tty.out.buffer) < WAKEUP_CHARS and tty.room:
            mask |= POLLOUT | POLLWRNORM
        return mask

    def poll_queues(self) -> Iterable[WaitQueue]:
        return (self.tty.read_wait, self.tty.out.wait)

    async def ioctl(self, task: Task, cmd: int, arg: int) -> int:
        """ioctl_tty(2). Raises ENOTTY for what no terminal knows, EIO once hung up."""
        return await ioctl.tty_ioctl(task, self, cmd, arg)

    async def release(self) -> None:
        self.tty.opens -= 1
        if not self.tty.opens:
            self.tty.exclusive = False
