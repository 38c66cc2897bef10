"""Advisory locks: flock(2), the record locks of fcntl(2), and open file description locks.

Linux: fs/locks.c.  All three hang on the inode (`Inode.locks`).  They differ in
who owns them: a record lock belongs to a descriptor table and ends when that
table closes *any* descriptor of the file; the other two belong to the open file.

Invariants:
- an owner's record locks stand together, by `start`; they do not overlap, and
  neighbours of one type are one lock;
- `FdTable.lock_waits` says who waits for whom, while it waits (EDEADLK).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from uvm_async.errors import Errno
from uvm_async.fs.fdtable import FdTable
from uvm_async.sched.wait import WaitQueue, block_on
from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.fs.inode import File, Inode
    from uvm_async.kernel.task import Task

__all__ = [
    "F_RDLCK",
    "F_UNLCK",
    "F_WRLCK",
    "OFFSET_MAX",
    "InodeLocks",
    "RecordLock",
    "conflicting_lock",
    "flock",
    "set_record_lock",
]

F_RDLCK, F_WRLCK, F_UNLCK = 0, 1, 2
LOCK_SH, LOCK_EX, LOCK_NB, LOCK_UN = 1, 2, 4, 8
OFFSET_MAX = (1 << 63) - 1


@dataclass(slots=True, eq=False)
class RecordLock:
    """Bytes `start` to `end`, both included."""

    owner: FdTable | File
    type: int
    start: int
    end: int
    pid: int
    """The process that set it; -1 for an open file description's lock."""


class InodeLocks(Entity):
    """Linux: struct file_lock_context."""

    def __init__(self) -> None:
        self.records: list[RecordLock] = []
        self.flocks: dict[File, int] = {}
        self.queue = WaitQueue()

    def forget(self, owner: FdTable | File) -> None:
        """A file was closed, or a table closed a descriptor of it: its locks are gone."""
        kept = [lock for lock in self.records if lock.owner is not owner]
        changed = len(kept) != len(self.records)
        self.records = kept
        if not isinstance(owner, FdTable):
            changed = self.flocks.pop(owner, None) is not None or changed
        if changed:
            self.queue.wake_up()

    def conflict(self, owner: FdTable | File, kind: int, start: int, end: int) -> RecordLock | None:
        """The first lock of somebody else that stands in the way (F_UNLCK: of `owner` itself)."""
        for lock in self.records:
            if lock.start > end or lock.end < start:
                continue
            if (lock.owner is owner) is not (kind == F_UNLCK):
                continue
            if F_WRLCK in (kind, lock.type) or kind == F_UNLCK:
                return lock
        return None

    def set(self, wanted: RecordLock) -> None:
        """Its owner's locks in the range become of type `wanted.type` (F_UNLCK: none)."""
        mine = [lock for lock in self.records if lock.owner is wanted.owner]
        at = self.records.index(mine[0]) if mine else len(self.records)
        others = [lock for lock in self.records if lock.owner is not wanted.owner]
        self.records = [*others[:at], *_merged(mine, wanted), *others[at:]]
        self.queue.wake_up()


def _merged(locks: list[RecordLock], wanted: RecordLock) -> list[RecordLock]:
    """One owner's locks with `wanted` laid over them."""
    result: list[RecordLock] = []
    start, end = wanted.start, wanted.end
    for lock in locks:
        if lock.type == wanted.type and lock.start <= end + 1 and lock.end >= start - 1:
            start, end = min(lock.start, start), max(lock.end, end)
        elif lock.start > wanted.end or lock.end < wanted.start:
            result.append(lock)
        else:
            if lock.start < wanted.start:
                result.append(replace(lock, end=wanted.start - 1))
            if lock.end > wanted.end:
                result.append(replace(lock, start=wanted.end + 1))
    if wanted.type != F_UNLCK:
        result.append(replace(wanted, start=start, end=end))
    result.sort(key=lambda lock: lock.start)
    return result


class LockWait(Entity):
    """In `task.restart` of F_SETLKW: its line in `FdTable.lock_waits`."""

    def __init__(self, files: FdTable, pid: int) -> None:
        self.files = files
        self.pid = pid

    def abandon(self) -> None:
        """It waits no more."""
        self.files.lock_waits.pop(self.pid, None)


def _locks(inode: Inode) -> InodeLocks:
    if inode.locks is None:
        inode.locks = InodeLocks()
    return inode.locks


def conflicting_lock(
    inode: Inode, owner: FdTable | File, kind: int, start: int, end: int
) -> RecordLock | None:
    """F_GETLK: the lock that would make F_SETLK fail, or None."""
    return inode.locks.conflict(owner, kind, start, end) if inode.locks is not None else None


def _would_deadlock(me: FdTable, blocker: object) -> bool:
    """Does `blocker` wait, directly or not, for `me`?"""
    seen: dict[object, None] = {}
    todo = [blocker]
    while todo:
        owner = todo.pop()
        if owner is me:
            return True
        if owner in seen or not isinstance(owner, FdTable):
            continue
        seen[owner] = None
        todo += owner.lock_waits.values()
    return False


async def set_record_lock(task: Task, inode: Inode, wanted: RecordLock, *, wait: bool) -> None:
    """F_SETLK, F_SETLKW and their OFD kin. Raises EAGAIN, EDEADLK, EINTR."""
    owner = wanted.owner
    if wanted.type == F_UNLCK and inode.locks is None:
        return
    locks = _locks(inode)
    task.abandon_restart()
    blocker = None
    if wanted.type != F_UNLCK:
        blocker = locks.conflict(owner, wanted.type, wanted.start, wanted.end)
    if blocker is None:
        locks.set(wanted)
        return
    if not wait:
        raise Errno.EAGAIN
    if isinstance(owner, FdTable):
        if _would_deadlock(owner, blocker.owner):
            raise Errno.EDEADLK
        task.restart = LockWait(owner, task.pid)
        owner.lock_waits[task.pid] = blocker.owner
    await block_on(locks.queue)


async def flock(task: Task, file: File, operation: int) -> None:
    """flock(2). Raises EWOULDBLOCK, EINVAL, EINTR. A conversion gives the old lock up first."""
    wanted = operation & ~LOCK_NB
    if wanted not in (LOCK_SH, LOCK_EX, LOCK_UN):
        raise Errno.EINVAL
    locks = _locks(file.inode)
    held = locks.flocks.get(file)
    if held == wanted:
        return
    if held is not None:
        del locks.flocks[file]
        locks.queue.wake_up()
    if wanted == LOCK_UN:
        return
    for kind in locks.flocks.values():
        if LOCK_EX in (kind, wanted):
            if operation & LOCK_NB:
                raise Errno.EAGAIN
            await block_on(locks.queue)
    locks.flocks[file] = wanted
