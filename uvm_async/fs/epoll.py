"""epoll: a set of files to wait for.

Linux: fs/eventpoll.c.  Each watched file is an `EpollItem` that stands in the
file's poll queues like a waiting task.  Woken, it leaves them and goes to the
`ready` list; `harvest` puts it back into the queues *before* it asks the file, so
nothing that happens meanwhile is lost.  A level-triggered item that still holds
stays ready; an edge-triggered one becomes ready again by the next wake-up only.

Invariants:
- an item that is enabled stands in its file's queues or is ready (or both);
- items end with their file, not with the descriptor they were added by.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.fs.anon import AnonFile, anon_path
from uvm_async.fs.inode import File
from uvm_async.sched.wait import WaitQueue
from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

__all__ = ["EpollFile", "EpollItem"]

O_RDWR: Final = 2
POLLIN, POLLERR, POLLHUP, POLLRDNORM = 0x1, 0x8, 0x10, 0x40
EPOLLEXCLUSIVE: Final = 1 << 28
EPOLLWAKEUP: Final = 1 << 29
EPOLLONESHOT: Final = 1 << 30
EPOLLET: Final = 1 << 31
PRIVATE_BITS: Final = EPOLLEXCLUSIVE | EPOLLWAKEUP | EPOLLONESHOT | EPOLLET
EXCLUSIVE_OK: Final = 0x5 | 0x8 | 0x10 | EPOLLEXCLUSIVE | EPOLLWAKEUP | EPOLLET
MAX_NESTING: Final = 5


class EpollItem(Entity):
    """One watched file (Linux: struct epitem)."""

    def __init__(self, ep: EpollFile, file: File, fd: int, events: int, data: int) -> None:
        self.ep = ep
        self.file = file
        self.fd = fd
        self.events = events | POLLERR | POLLHUP
        self.data = data
        self.standing: tuple[WaitQueue, ...] = ()

    def wake(self) -> None:
        """Something happened to the file (called by the queue's `wake_up`)."""
        self.leave()
        if _wanted(self):
            self.ep.ready[self] = None
            self.ep.wait.wake_up()

    def arm(self, task: Task) -> None:
        """Stand in the file's queues."""
        self.leave()
        self.standing = tuple(self.file.poll_queues_of(task))
        for queue in self.standing:
            queue.waiters[self] = None

    def leave(self) -> None:
        for queue in self.standing:
            queue.waiters.pop(self, None)
        self.standing = ()

    def detach(self) -> None:
        """The end of it."""
        self.leave()
        self.ep.ready.pop(self, None)
        self.ep.items.pop((self.file, self.fd), None)
        if self.file.watchers is not None:
            self.file.watchers.pop(self, None)


class EpollFile(AnonFile):
    """An open epoll instance (Linux: struct eventpoll)."""

    def __init__(self, task: Task) -> None:
        super().__init__(anon_path(task.kernel, b"[eventpoll]"), O_RDWR)
        self.items: dict[tuple[File, int], EpollItem] = {}
        self.ready: dict[EpollItem, None] = {}
        self.wait = WaitQueue()

    # -- epoll_ctl

    def add(self, task: Task, file: File, fd: int, events: int, data: int) -> None:
        """EPOLL_CTL_ADD. Raises EEXIST, ELOOP."""
        if (file, fd) in self.items:
            raise Errno.EEXIST
        if isinstance(file, EpollFile) and (file.watches(self) or file.depth() >= MAX_NESTING):
            raise Errno.ELOOP
        item = EpollItem(self, file, fd, events, data)
        self.items[file, fd] = item
        if file.watchers is None:
            file.watchers = {}
        file.watchers[item] = None
        self._enable(task, item)

    def modify(self, task: Task, file: File, fd: int, events: int, data: int) -> None:
        """EPOLL_CTL_MOD. Raises ENOENT, EINVAL (EPOLLEXCLUSIVE)."""
        item = self._item(file, fd)
        if (item.events | events) & EPOLLEXCLUSIVE:
            raise Errno.EINVAL
        item.events, item.data = events | POLLERR | POLLHUP, data
        self.ready.pop(item, None)
        self._enable(task, item)

    def delete(self, file: File, fd: int) -> None:
        """EPOLL_CTL_DEL. Raises ENOENT."""
        self._item(file, fd).detach()

    def _item(self, file: File, fd: int) -> EpollItem:
        item = self.items.get((file, fd))
        if item is None:
            raise Errno.ENOENT
        return item

    def _enable(self, task: Task, item: EpollItem) -> None:
        item.arm(task)
        if item.file.poll(task) & _wanted(item):
            self.ready[item] = None
            self.wait.wake_up()

    def watches(self, file: File) -> bool:
        """Is `file` this one, or watched by it, directly or not?"""
        todo: list[File] = [self]
        while todo:
            current = todo.pop()
            if current is file:
                return True
            if isinstance(current, EpollFile):
                todo += [key[0] for key in current.items]
        return False

    def depth(self) -> int:
        """Epolls on top of each other, from this one down."""
        below = [key[0].depth() for key in self.items if isinstance(key[0], EpollFile)]
        return 1 + max(below, default=0)

    # -- epoll_wait

    def harvest(self, task: Task, most: int) -> list[tuple[int, int]]:
        """Up to `most` (events, data) that hold now."""
        found: list[tuple[int, int]] = []
        for item in list(self.ready):
            if len(found) >= most:
                break
            del self.ready[item]
            item.arm(task)
            events = item.file.poll(task) & _wanted(item)
            if not events:
                continue
            found.append((events, item.data))
            if item.events & EPOLLONESHOT:
                item.events &= PRIVATE_BITS
            elif not item.events & EPOLLET:
                self.ready[item] = None
        return found

    def poll(self, task: Task) -> int:
        for item in list(self.ready):
            if item.file.poll(task) & _wanted(item):
                return POLLIN | POLLRDNORM
            del self.ready[item]
            item.arm(task)
        return 0

    def poll_queues(self) -> Iterable[WaitQueue]:
        return (self.wait,)

    async def release(self) -> None:
        for item in list(self.items.values()):
            item.detach()


def _wanted(item: EpollItem) -> int:
    """What it reports; nothing once a one-shot has fired."""
    return item.events & ~PRIVATE_BITS
