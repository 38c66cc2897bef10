"""Futexes.

Linux: kernel/futex/*.c, man 2 futex, man 2 get_robust_list.

A waiter is plain data: an entry in its key's list, in order of arrival, with the
mask it waits for and whether it was woken.  The wait itself is an ordinary
interruptible sleep that is run again from its top and finds `granted`.

A key is (address space or page cache, offset): private futexes by mm and address,
shared ones by what is mapped there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from uvm_async._host import ffi, lib
from uvm_async.arch.physmem import TASK_SIZE
from uvm_async.errors import Errno
from uvm_async.sched.wait import WaitQueue, block_on
from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task
    from uvm_async.mm.mm import Mm

__all__ = ["FutexTable", "FutexWaiter", "exit_robust_list", "futex_key", "futex_wake_cleared"]

MATCH_ANY: Final = 0xFFFFFFFF
FUTEX_WAITERS: Final = 0x80000000
FUTEX_OWNER_DIED: Final = 0x40000000
FUTEX_TID_MASK: Final = 0x3FFFFFFF
ROBUST_LIST_LIMIT: Final = 2048

Key = tuple[Any, int]


class FutexWaiter(Entity):
    """One waiter: also what its task keeps in `restart`."""

    __slots__ = ("deadline_ns", "granted", "index", "key", "mask", "pi", "queue", "task")

    def __init__(self, task: Task, key: Key, mask: int, deadline_ns: int | None) -> None:
        self.task = task
        self.key = key
        self.mask = mask
        self.deadline_ns = deadline_ns
        self.granted = False
        self.queue = WaitQueue()
        self.index = 0
        self.pi = False

    def abandon(self) -> None:
        """A handler has ended the call, or the task is gone."""
        self.task.kernel.futexes.remove(self)


class FutexTable(Entity):
    """All waiters of a machine, by key."""

    def __init__(self) -> None:
        self.waiters: dict[Key, list[FutexWaiter]] = {}

    def add(self, waiter: FutexWaiter) -> None:
        """Stand in line."""
        self.waiters.setdefault(waiter.key, []).append(waiter)

    def remove(self, waiter: FutexWaiter) -> None:
        """Leave the line (woken, timed out, interrupted)."""
        line = self.waiters.get(waiter.key)
        if line is not None and waiter in line:
            line.remove(waiter)
            if not line:
                del self.waiters[waiter.key]

    def wake(self, key: Key, count: int, mask: int = MATCH_ANY) -> int:
        """Grant the first `count` waiters whose mask matches; answers how many."""
        line = self.waiters.get(key)
        if not line:
            return 0
        woken = 0
        for waiter in list(line):
            if woken >= count:
                break
            if waiter.mask & mask:
                self.grant(waiter)
                woken += 1
        return woken

    def grant(self, waiter: FutexWaiter) -> None:
        """It has what it waited for."""
        self.remove(waiter)
        waiter.granted = True
        waiter.queue.wake_up()

    def requeue(self, source: Key, target: Key, count: int) -> int:
        """Move the first `count` waiters to another key; answers how many."""
        line = self.waiters.get(source, [])
        moved = line[:count]
        for waiter in moved:
            self.remove(waiter)
            waiter.key = target
            self.add(waiter)
        return len(moved)


async def futex_key(task: Task, addr: int, *, private: bool, write: bool = False) -> Key:
    """The key of the word at `addr`. Raises EINVAL (unaligned), EFAULT."""
    if addr & 3:
        raise Errno.EINVAL
    mm = task.mm
    if private:
        return mm, addr
    if not await mm.fault_in(addr, 4, write=write):
        raise Errno.EFAULT
    vma = mm.find(addr)
    if vma is not None and vma.shared and vma.mapping is not None:
        return vma.mapping, (vma.pgoff << 12) + addr - vma.start
    return mm, addr


async def load_word(mm: Mm, addr: int) -> int:
    """The 32-bit word at `addr`. Raises EFAULT."""
    if not 0 <= addr < TASK_SIZE:
        raise Errno.EFAULT
    value = ffi.new("uint32_t *")
    while lib.uvm_user_load32(mm.frames.pm, mm.pgd, addr, value):
        if not await mm.fault_in(addr, 4, write=False):
            raise Errno.EFAULT
    return int(value[0])


async def compare_exchange(mm: Mm, addr: int, expected: int, desired: int) -> int:
    """Atomically put `desired` where `expected` stands; answers what stood there. Raises EFAULT."""
    if not 0 <= addr < TASK_SIZE:
        raise Errno.EFAULT
    value = ffi.new("uint32_t *", expected)
    while lib.uvm_user_cmpxchg32(mm.frames.pm, mm.pgd, addr, value, desired):
        if not await mm.fault_in(addr, 4, write=True):
            raise Errno.EFAULT
    return int(value[0])


async def futex_wait(
    task: Task,
    addr: int,
    value: int,
    mask: int,
    deadline_ns: int | None,
    *,
    private: bool,
    restart: str,
) -> int:
    """Sleep while the word is `value`. Raises EAGAIN, ETIMEDOUT, EFAULT, EINVAL."""
    futexes = task.kernel.futexes
    waiter: FutexWaiter | None = task.restart
    if waiter is None:
        if not mask:
            raise Errno.EINVAL
        key = await futex_key(task, addr, private=private)
        if await load_word(task.mm, addr) != value & MATCH_ANY:
            raise Errno.EAGAIN
        waiter = task.restart = FutexWaiter(task, key, mask, deadline_ns)
        futexes.add(waiter)
    if waiter.granted:
        return waiter.index
    if waiter.deadline_ns is not None and task.kernel.clock.monotonic_ns() >= waiter.deadline_ns:
        futexes.remove(waiter)
        raise Errno.ETIMEDOUT
    await block_on(waiter.queue, deadline_ns=waiter.deadline_ns, restart=restart)


async def futex_wake_cleared(task: Task) -> None:
    """CLONE_CHILD_CLEARTID: zero the word and wake one who joins."""
    mm = task.mm
    addr = task.clear_child_tid
    try:
        await mm.copy_to_user(addr, bytes(4))
        task.kernel.futexes.wake(await futex_key(task, addr, private=True), 1)
        task.kernel.futexes.wake(await futex_key(task, addr, private=False), 1)
    except Errno:
        pass


async def exit_robust_list(task: Task) -> None:
    """Mark every robust futex that `task` holds as orphaned, and wake one waiter of each."""
    head = task.robust_list
    if not head:
        return
    task.robust_list = 0
    mm = task.mm
    try:
        entry = await mm.get_u64(head)
        offset = int.from_bytes(await mm.copy_from_user(head + 8, 8), "little", signed=True)
        pending = await mm.get_u64(head + 16)
        for _ in range(ROBUST_LIST_LIMIT):
            if entry & ~1 == head or not entry:
                break
            following = await mm.get_u64(entry & ~1)
            if entry != pending:
                await _owner_died(task, (entry & ~1) + offset)
            entry = following
        if pending:
            await _owner_died(task, (pending & ~1) + offset)
    except Errno:
        return


async def _owner_died(task: Task, addr: int) -> None:
    mm = task.mm
    if addr & 3:
        return
    while True:
        value = await load_word(mm, addr)
        if value & FUTEX_TID_MASK != task.pid:
            return
        new = (value & FUTEX_WAITERS) | FUTEX_OWNER_DIED
        if await compare_exchange(mm, addr, value, new) == value:
            break
    if value & FUTEX_WAITERS:
        table = task.kernel.futexes
        if not table.wake(await futex_key(task, addr, private=True), 1):
            table.wake(await futex_key(task, addr, private=False), 1)
