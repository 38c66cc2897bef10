"""eventfd: a counter that can be waited for. Linux: fs/eventfd.c."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.fs.anon import AnonFile, anon_path
from uvm_async.sched.wait import WaitQueue, block_on

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task
    from uvm_async.mm.iov import IovIter

__all__ = ["EFD_SEMAPHORE", "EventFile", "create_eventfd"]

EFD_SEMAPHORE: Final = 1
O_RDWR, O_NONBLOCK = 2, 0o4000
MAX: Final = (1 << 64) - 2
"""Largest count; one more would be POLLERR in the kernel, and cannot be written."""
POLLIN, POLLOUT = 0x1, 0x4


class EventFile(AnonFile):
    """An open eventfd. Invariant: 0 <= count <= MAX."""

    def __init__(self, task: Task, count: int, *, semaphore: bool, flags: int) -> None:
        super().__init__(anon_path(task.kernel, b"[eventfd]"), flags)
        self.count = count
        self.semaphore = semaphore
        self.wait = WaitQueue()
        """Woken whenever the count changes."""

    async def read_iter(self, task: Task, it: IovIter, pos: int | None = None) -> int:
        """The count, which becomes 0 (semaphore: 1, and one less). Raises EINVAL, EAGAIN."""
        if pos is not None:
            raise Errno.ESPIPE
        if it.count < 8:
            raise Errno.EINVAL
        if not self.count:
            if self.flags & O_NONBLOCK:
                raise Errno.EAGAIN
            await block_on(self.wait)
        taken = 1 if self.semaphore else self.count
        self.count -= taken
        self.wait.wake_up()
        await it.copy_to(taken.to_bytes(8, "little"))
        return 8

    async def write_iter(self, task: Task, it: IovIter, pos: int | None = None) -> int:
        """Add to the count. Raises EINVAL (not 8 bytes, or all ones), EAGAIN, EFAULT."""
        if pos is not None:
            raise Errno.ESPIPE
        if it.count != 8:
            raise Errno.EINVAL
        data = await it.copy_from(8)
        if len(data) < 8:
            raise Errno.EFAULT
        added = int.from_bytes(data, "little")
        if added > MAX:
            raise Errno.EINVAL
        if self.count + added > MAX:
            if self.flags & O_NONBLOCK:
                raise Errno.EAGAIN
            await block_on(self.wait)
        self.count += added
        self.wait.wake_up()
        return 8

    def poll(self, task: Task) -> int:
        return (POLLIN if self.count else 0) | (POLLOUT if self.count < MAX else 0)

    def poll_queues(self) -> Iterable[WaitQueue]:
        return (self.wait,)


def create_eventfd(task: Task, count: int, flags: int) -> EventFile:
    """eventfd2(2); `flags` are EFD_SEMAPHORE and O_NONBLOCK."""
    return EventFile(
        task,
        count,
        semaphore=bool(flags & EFD_SEMAPHORE),
        flags=O_RDWR | flags & O_NONBLOCK,
    )
