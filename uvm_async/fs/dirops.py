"""Making, removing and moving names.

Linux: fs/namei.c (filename_create, do_unlinkat, do_renameat2 and the vfs_*
functions below them).  The order of checks is Linux's: what the name is (EEXIST,
EISDIR ...), then whether the mount may be written (EROFS), then permission.

Lock order: `SuperBlock.rename_lock` (only where a name moves to another
directory), then directories: an ancestor before its descendant, else the lower
inode number first; last a directory that is being removed or replaced.
"""

from __future__ import annotations

import stat
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from uvm_async.errors import Errno
from uvm_async.fs.dcache import d_add, d_delete, d_exchange, d_is_ancestor, d_move
from uvm_async.fs.inode import Dentry, Inode, Path
from uvm_async.fs.lifetime import held, inode_unlinked
from uvm_async.fs.mount import check_writable
from uvm_async.fs.permission import (
    CAP_FSETID,
    CAP_MKNOD,
    MAY_EXEC,
    MAY_READ,
    MAY_WRITE,
    FsCred,
    capable,
    check_permission,
    check_sticky,
    in_group,
    owner_or_capable,
    permitted,
)
from uvm_async.fs.walk import LastType, Walk, lookup_child

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

__all__ = [
    "RENAME_EXCHANGE",
    "RENAME_NOREPLACE",
    "check_rename_flags",
    "link",
    "may_create",
    "mkdir",
    "mknod",
    "new_owner",
    "rename",
    "rmdir",
    "symlink",
    "unlink",
]

RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4

Make = Callable[[Inode, bytes], Awaitable[Inode]]


def new_owner(cred: FsCred, parent: Inode, mode: int) -> tuple[int, int]:
    """(mode, gid) of a new inode: a directory with S_ISGID hands its group down."""
    if not parent.mode & stat.S_ISGID:
        return mode, cred.fsgid
    if stat.S_ISDIR(mode):
        mode |= stat.S_ISGID
    elif (
        mode & (stat.S_ISGID | stat.S_IXGRP) == stat.S_ISGID | stat.S_IXGRP
        and not in_group(cred, parent.gid)
        and not capable(cred, CAP_FSETID)
    ):
        mode &= ~stat.S_ISGID
    return mode, parent.gid


def may_create(cred: FsCred, parent: Inode) -> None:
    """Raises ENOENT (the directory was removed), EACCES, EROFS."""
    if parent.nlink == 0:
        raise Errno.ENOENT
    check_permission(cred, parent, MAY_WRITE | MAY_EXEC)


def may_delete(cred: FsCred, parent: Inode, victim: Inode, *, is_dir: bool) -> None:
    """Raises EACCES, EPERM, ENOTDIR, EISDIR, EBUSY, ENOENT."""
    check_permission(cred, parent, MAY_WRITE | MAY_EXEC)
    check_sticky(cred, parent, victim)
    if is_dir and not victim.is_dir:
        raise Errno.ENOTDIR
    if not is_dir and victim.is_dir:
        raise Errno.EISDIR
    if parent.nlink == 0:
        raise Errno.ENOENT


# -- making


async def _make(
    task: Task,
    walk: Walk,
    make: Make,
    *,
    is_dir: bool = False,
    check: Callable[[Path], None] | None = None,
) -> None:
    """A new name at the end of `walk`; `check` is asked before permission."""
    kind, name = await walk.to_parent()
    if kind is not LastType.NORM:
        raise Errno.EEXIST
    parent = walk.dentry.inode
    assert parent is not None
    async with held(walk.path), parent.lock:
        child = await lookup_child(walk.dentry, name)
        if child.inode is not None:
            raise Errno.EEXIST
        if walk.trailing and not is_dir:
            raise Errno.ENOENT
        check_writable(walk.mount)
        if check is not None:
            check(walk.path)
        may_create(walk.cred, parent)
        d_add(walk.dentry, name, await make(parent, name))


async def mkdir(task: Task, dirfd: int, path: bytes, mode: int) -> None:
    """mkdirat(2). Raises EEXIST, ENOENT, EACCES, EROFS, ENOSPC, EMLINK."""
    cred = task.cred

    async def make(parent: Inode, name: bytes) -> Inode:
        new_mode, gid = new_owner(cred, parent, stat.S_IFDIR | (mode & 0o1777 & ~task.fs.umask))
        return await parent.mkdir(name, new_mode, cred.fsuid, gid)

    await _make(task, Walk(task, dirfd, path), make, is_dir=True)


async def mknod(task: Task, dirfd: int, path: bytes, mode: int, rdev: int) -> None:
    """mknodat(2). Raises EPERM (a directory, a device without CAP_MKNOD), EINVAL, EEXIST."""
    cred = task.cred
    kind = stat.S_IFMT(mode) or stat.S_IFREG
    if kind not in (stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK):
        raise Errno.EPERM if kind == stat.S_IFDIR else Errno.EINVAL
    is_device = kind in (stat.S_IFCHR, stat.S_IFBLK)

    async def make(parent: Inode, name: bytes) -> Inode:
        if is_device and not capable(cred, CAP_MKNOD):
            raise Errno.EPERM
        new_mode, gid = new_owner(cred, parent, kind | (mode & 0o7777 & ~task.fs.umask))
        return await parent.create(name, new_mode, cred.fsuid, gid, rdev if is_device else 0)

    await _make(task, Walk(task, dirfd, path), make)


async def symlink(task: Task, target: bytes, dirfd: int, path: bytes) -> None:
    """symlinkat(2). Raises ENOENT (empty target), EEXIST, EACCES, EROFS, ENOSPC."""
    cred = task.cred
    if not target:
        raise Errno.ENOENT

    async def make(parent: Inode, name: bytes) -> Inode:
        _, gid = new_owner(cred, parent, stat.S_IFLNK | 0o777)
        return await parent.symlink(name, target, cred.fsuid, gid)

    await _make(task, Walk(task, dirfd, path), make)


async def link(task: Task, old: Path, dirfd: int, path: bytes) -> None:
    """linkat(2): a further name for what is at `old`, which the caller holds.

    Raises EXDEV, EPERM (a directory), EEXIST, EMLINK, ENOENT (its last name is gone).
    """
    inode = old.inode

    def same_mount(where: Path) -> None:
        if where.mount is not old.mount:
            raise Errno.EXDEV
        if not _safe_to_link(task.cred, inode):
            raise Errno.EPERM

    async def make(parent: Inode, name: bytes) -> Inode:
        if inode.is_dir:
            raise Errno.EPERM
        if inode.nlink == 0 and not inode.linkable:
            raise Errno.ENOENT
        await parent.link(name, inode)
        return inode

    await _make(task, Walk(task, dirfd, path), make, check=same_mount)


def _safe_to_link(cred: FsCred, inode: Inode) -> bool:
    """Linux: may_linkat, with /proc/sys/fs/protected_hardlinks set: who does not own a file
    may only link what it could write, and no set-id program."""
    if owner_or_capable(cred, inode):
        return True
    group_runs = stat.S_ISGID | stat.S_IXGRP
    if not inode.is_reg or inode.mode & stat.S_ISUID or inode.mode & group_runs == group_runs:
        return False
    return permitted(cred, inode, MAY_READ | MAY_WRITE)


# -- removing


async def unlink(task: Task, dirfd: int, path: bytes) -> None:
    """unlinkat(2). Raises EISDIR, ENOTDIR, ENOENT, EACCES, EPERM, EROFS, EBUSY."""
    walk = Walk(task, dirfd, path)
    kind, name = await walk.to_parent()
    if kind is not LastType.NORM:
        raise Errno.EISDIR
    parent = walk.dentry.inode
    assert parent is not None
    async with held(walk.path):
        check_writable(walk.mount)
        async with parent.lock:
            child = await lookup_child(walk.dentry, name)
            victim = child.inode
            if victim is None:
                raise Errno.ENOENT
            if walk.trailing:
                raise Errno.EISDIR if victim.is_dir else Errno.ENOTDIR
            may_delete(walk.cred, parent, victim, is_dir=False)
            if child.mounted is not None:
                raise Errno.EBUSY
            await parent.unlink(name, victim)
            d_delete(child)
        await inode_unlinked(victim)


async def rmdir(task: Task, dirfd: int, path: bytes) -> None:
    """rmdir(2). Raises ENOTEMPTY, ENOTDIR, EBUSY, EINVAL, ENOENT, EACCES, EPERM, EROFS."""
    walk = Walk(task, dirfd, path)
    kind, name = await walk.to_parent()
    if kind is not LastType.NORM:
        raise {
            LastType.DOT: Errno.EINVAL,
            LastType.DOTDOT: Errno.ENOTEMPTY,
        }.get(kind, Errno.EBUSY)
    parent = walk.dentry.inode
    assert parent is not None
    async with held(walk.path):
        check_writable(walk.mount)
        async with parent.lock:
            child = await lookup_child(walk.dentry, name)
            victim = child.inode
            if victim is None:
                raise Errno.ENOENT
            may_delete(walk.cred, parent, victim, is_dir=True)
            if child.mounted is not None:
                raise Errno.EBUSY
            async with victim.lock:
                await parent.rmdir(name, victim)
                _buried(child, victim)
        await inode_unlinked(victim)


def _buried(dentry: Dentry, directory: Inode) -> None:
    """A directory is gone: nothing is looked up or made in it any more."""
    directory.nlink = 0
    dentry.children.clear()
    d_delete(dentry)


# -- moving


def check_rename_flags(flags: int) -> None:
    """Raises EINVAL."""
    if flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE):
        raise Errno.EINVAL
    if flags & RENAME_NOREPLACE and flags & RENAME_EXCHANGE:
        raise Errno.EINVAL


async def rename(
    task: Task, old_dirfd: int, old: bytes, new_dirfd: int, new: bytes, flags: int = 0
) -> None:
    """renameat2(2). Raises what both unlink and link may, EINVAL (into itself), EXDEV."""
    check_rename_flags(flags)
    source = Walk(task, old_dirfd, old)
    old_kind, old_name = await source.to_parent()
    async with held(source.path):
        target = Walk(task, new_dirfd, new)
        new_kind, new_name = await target.to_parent()
        async with held(target.path):
            if source.mount is not target.mount:
                raise Errno.EXDEV
            if old_kind is not LastType.NORM:
                raise Errno.EBUSY
            if new_kind is not LastType.NORM:
                raise Errno.EEXIST if flags & RENAME_NOREPLACE else Errno.EBUSY
            check_writable(source.mount)
            gone = await _rename_locked(source, old_name, target, new_name, flags)
            if gone is not None:
                await inode_unlinked(gone)


async def _rename_locked(
    source: Walk, old_name: bytes, target: Walk, new_name: bytes, flags: int
) -> Inode | None:
    """Take the locks, check, move. Answers the inode that lost its name, if one did."""
    old_parent, new_parent = source.dentry, target.dentry
    async with AsyncExitStack() as locks:
        if old_parent is not new_parent:
            assert old_parent.inode is not None
            await locks.enter_async_context(old_parent.inode.sb.rename_lock)
        for directory in _lock_order(old_parent, new_parent):
            await locks.enter_async_context(directory.lock)
        one = await lookup_child(old_parent, old_name)
        if one.inode is None:
            raise Errno.ENOENT
        other = await lookup_child(new_parent, new_name)
        _check_names(source, one, target, other, flags)
        if one.inode is other.inode:
            return None
        _check_rename(source.cred, one, new_parent, other, exchange=bool(flags & RENAME_EXCHANGE))
        victim = other.inode
        if flags & RENAME_EXCHANGE:
            await _move(one, new_parent, new_name, victim, exchange=True)
            d_exchange(one, other)
            return None
        if victim is not None and victim.is_dir:
            await locks.enter_async_context(victim.lock)
        await _move(one, new_parent, new_name, victim, exchange=False)
        if victim is not None and victim.is_dir:
            _buried(other, victim)
        d_move(one, new_parent, new_name)
        return victim


def _lock_order(one: Dentry, other: Dentry) -> list[Inode]:
    assert one.inode is not None and other.inode is not None
    if one is other:
        return [one.inode]
    if d_is_ancestor(one, other):
        return [one.inode, other.inode]
    if d_is_ancestor(other, one) or other.inode.ino < one.inode.ino:
        return [other.inode, one.inode]
    return [one.inode, other.inode]


def _check_names(source: Walk, one: Dentry, target: Walk, other: Dentry, flags: int) -> None:
    """What the two names are. Raises EEXIST, ENOENT, ENOTDIR, EINVAL, ENOTEMPTY."""
    assert one.inode is not None
    exchange = bool(flags & RENAME_EXCHANGE)
    if flags & RENAME_NOREPLACE and other.inode is not None:
        raise Errno.EEXIST
    if exchange:
        if other.inode is None:
            raise Errno.ENOENT
        if not other.inode.is_dir and target.trailing:
            raise Errno.ENOTDIR
    if not one.inode.is_dir and (source.trailing or (target.trailing and not exchange)):
        raise Errno.ENOTDIR
    if d_is_ancestor(one, target.dentry):
        raise Errno.EINVAL
    if d_is_ancestor(other, source.dentry):
        raise Errno.EINVAL if exchange else Errno.ENOTEMPTY


def _check_rename(
    cred: FsCred, one: Dentry, new_parent: Dentry, other: Dentry, *, exchange: bool
) -> None:
    """Linux: vfs_rename. Raises EACCES, EPERM, EISDIR, ENOTDIR, EBUSY."""
    moved, replaced = one.inode, other.inode
    assert one.parent is not None and moved is not None
    old_dir, new_dir = one.parent.inode, new_parent.inode
    assert old_dir is not None and new_dir is not None
    may_delete(cred, old_dir, moved, is_dir=moved.is_dir)
    if replaced is None:
        may_create(cred, new_dir)
    else:
        is_dir = replaced.is_dir if exchange else moved.is_dir
        may_delete(cred, new_dir, replaced, is_dir=is_dir)
    if old_dir is not new_dir:
        # The entry ".." changes, hence the right to write the directory that moves.
        if moved.is_dir:
            check_permission(cred, moved, MAY_WRITE)
        if exchange and replaced is not None and replaced.is_dir:
            check_permission(cred, replaced, MAY_WRITE)
    if one.mounted is not None or other.mounted is not None:
        raise Errno.EBUSY


async def _move(
    one: Dentry, new_parent: Dentry, new_name: bytes, victim: Inode | None, *, exchange: bool
) -> None:
    assert one.parent is not None and one.parent.inode is not None
    assert one.inode is not None and new_parent.inode is not None
    await one.parent.inode.rename(
        one.name, one.inode, new_parent.inode, new_name, victim, exchange=exchange
    )
