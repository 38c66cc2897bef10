"""pidfds: descriptors that stand for a process, or for one thread.

Linux: fs/pidfs.c, kernel/pid.c.  The pidfd outlives its process; what can be asked
of it then is ESRCH.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.fs.anon import anon_path
from uvm_async.fs.inode import File
from uvm_async.sched.wait import WaitQueue

if TYPE_CHECKING:
    from uvm_async.kernel.kernel import Kernel
    from uvm_async.kernel.task import Process, Task

__all__ = ["PIDFD_THREAD", "PidFile", "pidfd_file"]

PIDFD_THREAD: Final = 0o200
O_RDWR: Final = 2
POLLIN, POLLRDNORM, POLLHUP = 0x1, 0x40, 0x10


class PidFile(File):
    """An open pidfd; `thread`: of that thread only (PIDFD_THREAD)."""

    def __init__(self, kernel: Kernel, process: Process, thread: Task | None, flags: int) -> None:
        super().__init__(anon_path(kernel, b"[pidfd]"), O_RDWR | flags)
        self.kernel = kernel
        self.process = process
        self.thread = thread

    @property
    def reaped(self) -> bool:
        """Has somebody waited for it?"""
        if self.thread is not None and self.thread is not self.process.leader:
            return self.thread not in self.process.tasks
        return self.kernel.processes.get(self.process.pid) is not self.process

    def target(self) -> Process:
        """The process, which may be a zombie. Raises ESRCH."""
        if self.reaped:
            raise Errno.ESRCH
        return self.process

    def poll(self, task: Task) -> int:
        """Readable once the process (or thread) has ended; hung up once it was waited for."""
        if self.reaped:
            return POLLIN | POLLRDNORM | POLLHUP
        ended = (
            self.process.zombie if self.thread is None else self.thread not in self.process.tasks
        )
        return POLLIN | POLLRDNORM if ended else 0

    def poll_queues(self) -> Iterable[WaitQueue]:
        return (self.process.wait_exit,)


def pidfd_file(file: File) -> PidFile:
    """Raises EBADF if it is none."""
    if not isinstance(file, PidFile):
        raise Errno.EBADF
    return file
