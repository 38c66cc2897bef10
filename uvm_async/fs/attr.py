"""Changing attributes: mode, owner, times, size.

Linux: fs/attr.c, fs/open.c (do_truncate).  Everything goes through
`Inode.setattr` with the inode's lock held; `ctime_ns` is always the clock's.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from uvm_async.errors import Errno
from uvm_async.fs.permission import (
    CAP_CHOWN,
    CAP_FSETID,
    MAY_WRITE,
    capable,
    check_permission,
    drop_setid_bits,
    in_group,
    owner_or_capable,
)

if TYPE_CHECKING:
    from uvm_async.fs.inode import Inode
    from uvm_async.kernel.task import Task

__all__ = [
    "RLIMIT_FSIZE",
    "SIGXFSZ",
    "change_mode",
    "change_owner",
    "change_times",
    "check_size",
    "truncate_inode",
]

RLIMIT_FSIZE = 1
SIGXFSZ = 25
UNLIMITED = (1 << 64) - 1


def check_size(task: Task, size: int) -> None:
    """May a file become `size` bytes long? Raises EFBIG, with SIGXFSZ for the limit."""
    limit = task.process.rlimits.get(RLIMIT_FSIZE)
    if limit is not None and size > limit[0]:
        task.kernel.send_signal(task, SIGXFSZ)
        raise Errno.EFBIG
    if size > (1 << 63) - 1:
        raise Errno.EFBIG


async def truncate_inode(task: Task, inode: Inode, size: int) -> None:
    """The file becomes `size` bytes long. Raises EFBIG, ENOSPC, EIO."""
    if size > inode.size:
        check_size(task, size)
    async with inode.lock:
        now = task.kernel.clock.realtime_ns()
        mode = drop_setid_bits(inode, task.cred)
        await inode.setattr(size=size, mode=mode, mtime_ns=now, ctime_ns=now)


async def change_mode(task: Task, inode: Inode, mode: int) -> None:
    """chmod(2). Raises EPERM; S_ISGID is dropped without a word from who is not in the group."""
    if inode.is_symlink:
        raise Errno.EOPNOTSUPP
    cred = task.cred
    if not owner_or_capable(cred, inode):
        raise Errno.EPERM
    mode &= 0o7777
    if mode & stat.S_ISGID and not in_group(cred, inode.gid) and not capable(cred, CAP_FSETID):
        mode &= ~stat.S_ISGID
    async with inode.lock:
        await inode.setattr(mode=mode, ctime_ns=task.kernel.clock.realtime_ns())


async def change_owner(task: Task, inode: Inode, uid: int, gid: int) -> None:
    """chown(2); -1 (all ones) leaves one as it is. Raises EPERM.

    Set-id bits of what is no directory go (S_ISGID only where the group may execute).
    """
    cred = task.cred
    new_uid = None if uid in (-1, 0xFFFFFFFF) else uid
    new_gid = None if gid in (-1, 0xFFFFFFFF) else gid
    if not capable(cred, CAP_CHOWN):
        if new_uid is not None and not cred.fsuid == inode.uid == new_uid:
            raise Errno.EPERM
        if new_gid is not None and not (
            cred.fsuid == inode.uid and (in_group(cred, new_gid) or new_gid == inode.gid)
        ):
            raise Errno.EPERM
    mode = None
    if not inode.is_dir:
        kept = inode.mode & ~stat.S_ISUID
        if inode.mode & stat.S_IXGRP:
            kept &= ~stat.S_ISGID
        mode = stat.S_IMODE(kept) if kept != inode.mode else None
    async with inode.lock:
        now = task.kernel.clock.realtime_ns()
        await inode.setattr(uid=new_uid, gid=new_gid, mode=mode, ctime_ns=now)


async def change_times(
    task: Task, inode: Inode, atime_ns: int | None, mtime_ns: int | None, *, to_now: bool
) -> None:
    """utimensat(2); None leaves one as it is. `to_now`: both are the clock's, for which write
    permission is enough. Raises EACCES, EPERM."""
    if to_now:
        if not owner_or_capable(task.cred, inode):
            check_permission(task.cred, inode, MAY_WRITE)
    elif not owner_or_capable(task.cred, inode):
        raise Errno.EPERM
    async with inode.lock:
        now = task.kernel.clock.realtime_ns()
        if to_now:
            atime_ns = mtime_ns = now
        await inode.setattr(atime_ns=atime_ns, mtime_ns=mtime_ns, ctime_ns=now)
