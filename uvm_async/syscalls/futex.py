"""Futexes: man 2 futex, get_robust_list."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.kernel.futex import (
    FUTEX_TID_MASK,
    FUTEX_WAITERS,
    MATCH_ANY,
    FutexWaiter,
    compare_exchange,
    futex_key,
    futex_wait,
    load_word,
)
from uvm_async.sched.wait import block_on
from uvm_async.syscalls.table import Addr, Flags, Pid, Size, UInt, syscall

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

(WAIT, WAKE, FD, REQUEUE, CMP_REQUEUE, WAKE_OP, LOCK_PI, UNLOCK_PI, TRYLOCK_PI, WAIT_BITSET,
 WAKE_BITSET, WAIT_REQUEUE_PI, CMP_REQUEUE_PI, LOCK_PI2) = range(14)  # fmt: skip
PRIVATE: Final = 128
CLOCK_REALTIME: Final = 256
TIMED: Final = (WAIT, WAIT_BITSET, LOCK_PI, LOCK_PI2, WAIT_REQUEUE_PI)


async def _deadline(task: Task, addr: int, command: int, realtime: bool) -> int | None:
    """The absolute monotonic deadline that a timeout argument means."""
    if not addr:
        return None
    sec, nsec = struct.unpack("<qq", await task.mm.copy_from_user(addr, 16))
    if sec < 0 or not 0 <= nsec < 10**9:
        raise Errno.EINVAL
    value: int = sec * 10**9 + nsec
    clock = task.kernel.clock
    if command == WAIT:
        return clock.monotonic_ns() + value
    if realtime or command == LOCK_PI:
        return clock.monotonic_ns() + value - clock.realtime_ns()
    return value


@syscall("futex", missing="FUTEX_WAIT_REQUEUE_PI, FUTEX_CMP_REQUEUE_PI; PI futexes do not boost")
async def sys_futex(
    task: Task, addr: Addr, op: Flags, value: UInt, timeout: Addr, addr2: Addr, value3: UInt
) -> int:
    """Fast user-space locking. man 2 futex."""
    command = op & 127
    private = bool(op & PRIVATE)
    realtime = bool(op & CLOCK_REALTIME)
    if realtime and command not in (WAIT, WAIT_BITSET, WAIT_REQUEUE_PI, LOCK_PI2):
        raise Errno.ENOSYS
    table = task.kernel.futexes
    if command in (WAIT, WAIT_BITSET):
        deadline = None
        if task.restart is None:
            deadline = await _deadline(task, timeout, command, realtime)
        mask = value3 if command == WAIT_BITSET else MATCH_ANY
        restart = "sys" if not timeout else "block"
        return await futex_wait(task, addr, value, mask, deadline, private=private, restart=restart)
    if command in (WAKE, WAKE_BITSET):
        mask = value3 if command == WAKE_BITSET else MATCH_ANY
        if not mask:
            raise Errno.EINVAL
        key = await futex_key(task, addr, private=private)
        count = value if value < 1 << 31 else 1
        return table.wake(key, max(1, count), mask)
    if command in (REQUEUE, CMP_REQUEUE):
        many = timeout & 0xFFFFFFFF
        if value >= 1 << 31 or many >= 1 << 31:
            raise Errno.EINVAL
        key = await futex_key(task, addr, private=private)
        key2 = await futex_key(task, addr2, private=private, write=True)
        if command == CMP_REQUEUE and await load_word(task.mm, addr) != value3:
            raise Errno.EAGAIN
        woken = table.wake(key, value)
        return woken + table.requeue(key, key2, many)
    if command == WAKE_OP:
        key = await futex_key(task, addr, private=private)
        key2 = await futex_key(task, addr2, private=private, write=True)
        woken = 0
        condition = await _wake_op(task, addr2, value3)
        woken = table.wake(key, value)
        if condition:
            woken += table.wake(key2, timeout & 0xFFFFFFFF)
        return woken
    if command in (LOCK_PI, LOCK_PI2, TRYLOCK_PI):
        return await _lock_pi(task, addr, command, timeout, realtime, private)
    if command == UNLOCK_PI:
        return await _unlock_pi(task, addr, private)
    raise Errno.ENOSYS


async def _wake_op(task: Task, addr: int, encoded: int) -> bool:
    """FUTEX_WAKE_OP's atomic operation on the second word, and its condition on the old value."""
    op, cmp = encoded >> 28 & 15, encoded >> 24 & 15
    oparg, cmparg = _sign12(encoded >> 12), _sign12(encoded)
    if op & 8:
        oparg = 1 << (oparg & 31)
    op &= 7
    if op > 4 or cmp > 5:
        raise Errno.ENOSYS
    while True:
        old = await load_word(task.mm, addr)
        new = (oparg, old + oparg, old | oparg, old & ~oparg, old ^ oparg)[op] & 0xFFFFFFFF
        if await compare_exchange(task.mm, addr, old, new) == old:
            break
    signed = (old ^ 0x80000000) - 0x80000000
    return (
        signed == cmparg, signed != cmparg, signed < cmparg,
        signed <= cmparg, signed > cmparg, signed >= cmparg,
    )[cmp]  # fmt: skip


def _sign12(value: int) -> int:
    return ((value & 0xFFF) ^ 0x800) - 0x800


async def _lock_pi(
    task: Task, addr: int, command: int, timeout: int, realtime: bool, private: bool
) -> int:
    waiter: FutexWaiter | None = task.restart
    table = task.kernel.futexes
    if waiter is not None and waiter.granted:
        return 0
    if waiter is None:
        key = await futex_key(task, addr, private=private, write=True)
        while True:
            word = await load_word(task.mm, addr)
            owner = word & FUTEX_TID_MASK
            if owner == task.pid:
                raise Errno.EDEADLK
            if not owner or owner not in task.kernel.tasks:
                new = (word & ~FUTEX_TID_MASK) | task.pid
                if await compare_exchange(task.mm, addr, word, new) == word:
                    return 0
                continue
            if command == TRYLOCK_PI:
                raise Errno.EAGAIN
            if await compare_exchange(task.mm, addr, word, word | FUTEX_WAITERS) == word:
                break
        deadline = await _deadline(task, timeout, command, realtime)
        waiter = task.restart = FutexWaiter(task, key, MATCH_ANY, deadline)
        waiter.pi = True
        table.add(waiter)
    if waiter.deadline_ns is not None and task.kernel.clock.monotonic_ns() >= waiter.deadline_ns:
        table.remove(waiter)
        raise Errno.ETIMEDOUT
    await block_on(waiter.queue, deadline_ns=waiter.deadline_ns)


async def _unlock_pi(task: Task, addr: int, private: bool) -> int:
    key = await futex_key(task, addr, private=private, write=True)
    table = task.kernel.futexes
    while True:
        word = await load_word(task.mm, addr)
        if word & FUTEX_TID_MASK != task.pid:
            raise Errno.EPERM
        line = [w for w in table.waiters.get(key, []) if w.pi]
        new = 0
        if line:
            new = line[0].task.pid | (FUTEX_WAITERS if len(line) > 1 else 0)
        if await compare_exchange(task.mm, addr, word, new) == word:
            break
    if line:
        table.grant(line[0])
    return 0


@syscall("set_robust_list")
def sys_set_robust_list(task: Task, head: Addr, size: Size) -> int:
    """man 2 set_robust_list."""
    if size != 24:
        raise Errno.EINVAL
    task.robust_list = head
    return 0


@syscall("get_robust_list")
async def sys_get_robust_list(task: Task, pid: Pid, head: Addr, size: Addr) -> int:
    """man 2 get_robust_list."""
    target = task.kernel.tasks.get(pid) if pid else task
    if target is None:
        raise Errno.ESRCH
    await task.mm.copy_to_user(size, (24).to_bytes(8, "little"))
    await task.mm.copy_to_user(head, target.robust_list.to_bytes(8, "little"))
    return 0
