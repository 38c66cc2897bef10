"""signalfd: pending signals that are read.

Linux: fs/signalfd.c.  What is read are the signals of whoever reads, not of whoever
made the descriptor, hence `poll_queues_of`.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.fs.anon import AnonFile, anon_path
from uvm_async.kernel.signal import (
    SI_TIMER,
    SIGBUS,
    SIGCHLD,
    SIGFPE,
    SIGILL,
    SIGIO,
    SIGSEGV,
    SIGTRAP,
    SigInfo,
)
from uvm_async.sched.wait import WaitQueue, block_on

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task
    from uvm_async.mm.iov import IovIter

__all__ = ["SIGINFO", "SignalFile"]

O_RDWR, O_NONBLOCK = 2, 0o4000
POLLIN: Final = 0x1
SIGINFO: Final = Struct("<IiiIIiIIIIiiQQQQH2xiQI28x")
"""ssi_signo, errno, code, pid, uid, fd, tid, band, overrun, trapno, status, int, ptr, utime,
stime, addr, addr_lsb, syscall, call_addr, arch: 128 bytes."""
FAULTS: Final = (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP)


def _pack(info: SigInfo) -> bytes:
    """struct signalfd_siginfo: what is filled in depends on the signal, as in siginfo_t."""
    pid = uid = fd = tid = band = overrun = status = number = pointer = 0
    utime = stime = addr = 0
    if info.code == SI_TIMER:
        tid, overrun, pointer = info.timer_id, info.overrun, info.value
    elif info.code > 0 and info.signo == SIGCHLD:
        pid, uid, status = info.pid, info.uid, info.status
        utime, stime = info.utime, info.stime
    elif info.code > 0 and info.signo in FAULTS:
        addr = info.addr
    elif info.code > 0 and info.signo == SIGIO:
        band, fd = info.band, info.fd
    else:
        pid, uid, pointer = info.pid, info.uid, info.value
    number = (pointer & 0xFFFFFFFF ^ 0x80000000) - 0x80000000
    return SIGINFO.pack(
        info.signo, info.errno, info.code, pid, uid, fd, tid, band & 0xFFFFFFFF, overrun, 0,
        status, number, pointer, utime, stime, addr, 0, 0, 0, 0,
    )  # fmt: skip


class SignalFile(AnonFile):
    """An open signalfd; `mask` as everywhere: bit n-1 is signal n."""

    def __init__(self, task: Task, mask: int, flags: int) -> None:
        super().__init__(anon_path(task.kernel, b"[signalfd]"), O_RDWR | flags)
        self.mask = mask
        self.changed = WaitQueue()
        """Woken when the mask changes."""

    def set_mask(self, mask: int) -> None:
        """signalfd(2) on an open one."""
        self.mask = mask
        self.changed.wake_up()

    def _take(self, task: Task) -> SigInfo | None:
        return task.pending.take(self.mask) or task.process.pending.take(self.mask)

    async def read_iter(self, task: Task, it: IovIter, pos: int | None = None) -> int:
        """As many signals as fit; waits for the first. Raises EINVAL, EAGAIN."""
        if pos is not None:
            raise Errno.ESPIPE
        if it.count < SIGINFO.size:
            raise Errno.EINVAL
        done = 0
        while it.count >= SIGINFO.size:
            info = self._take(task)
            if info is None:
                if done:
                    break
                if self.flags & O_NONBLOCK:
                    raise Errno.EAGAIN
                await block_on(*self.poll_queues_of(task))
            try:
                stored = await it.copy_to(_pack(info))
            except Errno.EFAULT:
                stored = 0
            if stored < SIGINFO.size:
                if done:
                    break
                raise Errno.EFAULT
            done += SIGINFO.size
        return done

    def poll(self, task: Task) -> int:
        pending = task.pending.mask | task.process.pending.mask
        return POLLIN if pending & self.mask else 0

    def poll_queues(self) -> Iterable[WaitQueue]:
        return (self.changed,)

    def poll_queues_of(self, task: Task) -> Iterable[WaitQueue]:
        return (self.changed, task.pending.wait, task.process.pending.wait)
