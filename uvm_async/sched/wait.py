"""Wait queues, and the two sleeps.

Linux: kernel/sched/wait.c.  A kernel function that may sleep is `async def` and
sleeps in one of two ways:

*Interruptible* (`block_on`): the call is **always run again from its top** when
it is woken, by whatever woke it: `block_on` never returns.  What the second run
needs to know from the first (absolute deadline, bytes done, a grant) is in
`task.restart`, a plain object written before the await.  So a blocked task is
plain data: its place in the queues, and its registers.  If a signal is pending,
`block_on` raises `Interrupted` instead of sleeping; let it pass, unless there is
a partial result to answer.

*Uninterruptible* (`wait_for`, `host`, `Mutex`): short, for disk I/O and inode
locks; the coroutine is kept, resumed where it stood, never cancelled by the
guest.  A freeze lets these finish.  Never do an interruptible sleep with a
`Mutex` held.

These functions yield requests to whoever drives the coroutine (the scheduler);
kernel coroutines are never asyncio tasks.

Invariant: a waiter stands in a queue from the moment it sleeps until it is
woken; `wake_up` takes it out of *all* the queues it stands in.
"""

from __future__ import annotations

import types
from collections.abc import Awaitable, Generator
from typing import Any, NoReturn, Protocol, TypeVar

from uvm_async.state import Entity

__all__ = [
    "Block",
    "Host",
    "Interrupted",
    "Mutex",
    "Wait",
    "WaitQueue",
    "block_on",
    "host",
    "wait_for",
]

T = TypeVar("T")


class Waiter(Protocol):
    """What stands in a queue (in practice: a Task)."""

    def wake(self) -> None:
        """Take yourself out of all queues and become runnable."""


class Interrupted(Exception):
    """A signal is pending: the interruptible sleep does not happen.

    If it reaches the system call layer, the call is restarted or ends in EINTR, as
    `restart` says (see signal(7), "Interruption of system calls").
    """

    def __init__(self, restart: str = "sys") -> None:
        super().__init__(restart)
        self.restart = restart
        """'sys': restarted under SA_RESTART (ERESTARTSYS); 'nohand': only if no handler ran
        (ERESTARTNOHAND); 'block': by restart_syscall (ERESTART_RESTARTBLOCK); 'intr': never."""


class WaitQueue(Entity):
    """Tasks that wait for one thing, in order of arrival."""

    __slots__ = ("waiters",)

    def __init__(self) -> None:
        self.waiters: dict[Waiter, None] = {}

    def __bool__(self) -> bool:
        return bool(self.waiters)

    def wake_up(self, count: int = 1 << 62) -> int:
        """Make the first `count` waiters runnable; answers how many were."""
        woken = 0
        while self.waiters and woken < count:
            waiter = next(iter(self.waiters))
            waiter.wake()
            woken += 1
        return woken


class Block:
    """Request: interruptible sleep on queues until woken or `deadline_ns` (monotonic)."""

    __slots__ = ("deadline_ns", "queues", "restart")

    def __init__(
        self, queues: tuple[WaitQueue, ...], deadline_ns: int | None, restart: str
    ) -> None:
        self.queues = queues
        self.deadline_ns = deadline_ns
        self.restart = restart


class Wait:
    """Request: uninterruptible sleep on one queue; resumed in place."""

    __slots__ = ("queue",)

    def __init__(self, queue: WaitQueue) -> None:
        self.queue = queue


class Host:
    """Request: run an awaitable as a job of the host's event loop; resumed with its result."""

    __slots__ = ("awaitable",)

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self.awaitable = awaitable


@types.coroutine
def _request(request: Any) -> Generator[Any, Any, Any]:
    return (yield request)


async def block_on(
    *queues: WaitQueue, deadline_ns: int | None = None, restart: str = "sys"
) -> NoReturn:
    """Interruptible sleep; the call runs again from its top when woken.

    `deadline_ns` is absolute, on the machine's monotonic clock. Raises `Interrupted`
    (with `restart`) if a signal is pending.
    """
    await _request(Block(queues, deadline_ns, restart))
    raise AssertionError("an interruptible sleep never returns")


async def wait_for(queue: WaitQueue) -> None:
    """Uninterruptible sleep until `queue` is woken. Check your condition again after it."""
    await _request(Wait(queue))


async def host(awaitable: Awaitable[T]) -> T:
    """The one bridge to asyncio: run `awaitable` as a job of the loop, uninterruptibly.

    Its exception, if any, is raised here.
    """
    result: T = await _request(Host(awaitable))
    return result


class Mutex(Entity):
    """A sleeping lock (Linux: struct mutex), FIFO, held across uninterruptible sleeps only.

    `async with inode.lock: ...`
    """

    __slots__ = ("locked", "queue")

    def __init__(self) -> None:
        self.locked = False
        self.queue = WaitQueue()

    async def __aenter__(self) -> None:
        while self.locked:
            await wait_for(self.queue)
        self.locked = True

    async def __aexit__(self, *_: object) -> None:
        self.locked = False
        self.queue.wake_up(1)
