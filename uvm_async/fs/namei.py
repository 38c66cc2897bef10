"""Places by name: looking one up, and opening it.

Linux: fs/namei.c (path_lookupat, path_openat), fs/open.c.  The walk itself is
`fs/walk.py`, changing directories `fs/dirops.py`.

Lock order: as in `fs/dirops.py`; a created file is held before its directory is
let go, so that nobody can free it before it is open.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.fs.attr import truncate_inode
from uvm_async.fs.dcache import d_add, d_path
from uvm_async.fs.dirops import may_create, new_owner
from uvm_async.fs.fdtable import O_PATH
from uvm_async.fs.inode import Dentry, File, Inode, Path
from uvm_async.fs.lifetime import fput, held, path_get, path_put
from uvm_async.fs.mount import MS_NODEV, MS_NOEXEC, check_writable
from uvm_async.fs.permission import (
    MAY_EXEC,
    MAY_READ,
    MAY_WRITE,
    FsCred,
    check_permission,
    owner_or_capable,
)
from uvm_async.fs.pipe import FifoOpening, resume_fifo
from uvm_async.fs.walk import AT_FDCWD, LastType, Resolve, Walk, lookup_child, start_of

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

__all__ = ["AT_FDCWD", "Resolve", "d_path", "lookup", "open_path"]

O_ACCMODE: Final = 3
O_CREAT: Final = 0o100
O_EXCL: Final = 0o200
O_NOCTTY: Final = 0o400
O_TRUNC: Final = 0o1000
O_APPEND: Final = 0o2000
O_LARGEFILE: Final = 0o100000
O_DIRECTORY: Final = 0o200000
O_NOFOLLOW: Final = 0o400000
O_NOATIME: Final = 0o1000000
O_CLOEXEC: Final = 0o2000000
O_TMPFILE_BIT: Final = 0o20000000

NOT_KEPT: Final = O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC
ACCESS: Final = (MAY_READ, MAY_WRITE, MAY_READ | MAY_WRITE, MAY_READ | MAY_WRITE)


async def lookup(
    task: Task,
    dirfd: int,
    path: bytes,
    *,
    follow: bool = True,
    empty: bool = False,
    directory: bool = False,
    cred: FsCred | None = None,
) -> Path:
    """The place that an existing path names.

    `empty`: an empty path is `dirfd` itself (AT_EMPTY_PATH); `directory`: it must be one.
    Raises ENOENT, ENOTDIR, EACCES, ELOOP, ENAMETOOLONG, EBADF. Nothing is held: whoever
    sleeps before using the answer takes it with `held` (fs/lifetime.py).
    """
    if not path and empty:
        found = start_of(task, dirfd)
    else:
        found = await Walk(task, dirfd, path, cred=cred).to_end(follow=follow)
    if directory and not found.inode.is_dir:
        raise Errno.ENOTDIR
    return found


class PathFile(File):
    """What O_PATH opens: a place, and nothing that could be done with its contents."""


async def open_path(
    task: Task,
    dirfd: int,
    path: bytes,
    flags: int,
    mode: int = 0,
    *,
    resolve: int = 0,
    for_exec: bool = False,
) -> File:
    """open(2): an open file with one reference, which is the caller's.

    `flags` are O_*, `mode` the permission bits of a new file before the umask. `for_exec`
    opens a program: it must be a regular file that may be executed (EACCES). May sleep
    interruptibly (a FIFO); then the call runs again and this function goes on.
    """
    if isinstance(task.restart, FifoOpening):
        return await resume_fifo(task)
    if flags & O_TMPFILE_BIT:
        flags |= O_DIRECTORY
        return await _open_tmpfile(task, Walk(task, dirfd, path, resolve=resolve), flags, mode)
    walk = Walk(task, dirfd, path, resolve=resolve)
    created = False
    if flags & O_CREAT:
        created = await _to_end_creating(walk, flags, mode)
    else:
        await walk.to_end(follow=not flags & O_NOFOLLOW)
    found = walk.path
    if not created:
        path_get(found)
    try:
        return await _open_found(task, found, flags, created=created, for_exec=for_exec)
    finally:
        await path_put(found)


async def _to_end_creating(walk: Walk, flags: int, mode: int) -> bool:
    """O_CREAT: walk to the last component, make it if it is not there; True if it was made.

    A made file is held once, for the caller. Raises EISDIR, EEXIST, EACCES, EROFS, ENOSPC.
    """
    follow = not flags & (O_NOFOLLOW | O_EXCL)
    while True:
        kind, name = await walk.to_parent()
        if kind is LastType.DOTDOT:
            walk.up()
        if kind is not LastType.NORM:
            raise Errno.EEXIST if flags & O_EXCL else Errno.EISDIR
        if walk.trailing:
            raise Errno.EISDIR
        parent = walk.dentry
        assert parent.inode is not None
        child = parent.children.get(name) if parent.inode.cache_names else None
        if child is None or child.inode is None:
            async with held(walk.path), parent.inode.lock:
                child = await lookup_child(parent, name)
                if child.inode is None:
                    child = await _create(walk, parent.inode, name, mode)
                    walk.dentry = child
                    path_get(walk.path)
                    return True
        await walk.enter(child, follow=follow)
        if not walk.stack and (walk.dentry is not parent or walk.jumped):
            return False


async def _create(walk: Walk, parent: Inode, name: bytes, mode: int) -> Dentry:
    task = walk.task
    check_writable(walk.mount)
    may_create(walk.cred, parent)
    mode = stat.S_IFREG | (mode & 0o7777 & ~task.fs.umask)
    mode, gid = new_owner(walk.cred, parent, mode)
    inode = await parent.create(name, mode, walk.cred.fsuid, gid)
    return d_add(walk.dentry, name, inode)


async def _open_found(
    task: Task, found: Path, flags: int, *, created: bool, for_exec: bool
) -> File:
    """Check and open an existing place, which the caller holds."""
    inode = found.inode
    if flags & O_CREAT:
        if flags & O_EXCL and not created:
            raise Errno.EEXIST
        if inode.is_dir:
            raise Errno.EISDIR
    if flags & O_DIRECTORY and not inode.is_dir:
        raise Errno.ENOTDIR
    if flags & O_PATH:
        place = PathFile(found, flags & (O_PATH | O_DIRECTORY | O_NOFOLLOW))
        place.cred = task.cred
        return place
    truncate = bool(flags & O_TRUNC) and inode.is_reg and not created
    if truncate:
        check_writable(found.mount)
    mask = 0 if created else ACCESS[flags & O_ACCMODE]
    if flags & O_TRUNC and not created:
        mask |= MAY_WRITE
    _may_open(task.cred, found, MAY_EXEC if for_exec else mask, flags)
    writes = flags & O_ACCMODE != 0
    if writes and stat.S_IFMT(inode.mode) in (stat.S_IFREG, stat.S_IFDIR):
        check_writable(found.mount)
    file = await inode.open(task, found, flags | O_LARGEFILE)
    file.flags &= ~NOT_KEPT
    file.cred = task.cred
    if truncate:
        try:
            await truncate_inode(task, inode, 0)
        except BaseException:
            await fput(file)
            raise
    return file


def _may_open(cred: FsCred, found: Path, mask: int, flags: int) -> None:
    """Linux: may_open. Raises ELOOP, EISDIR, EACCES, EROFS, EPERM."""
    inode = found.inode
    kind = stat.S_IFMT(inode.mode)
    if kind == stat.S_IFLNK:
        raise Errno.ELOOP
    if kind == stat.S_IFDIR:
        if mask & MAY_WRITE:
            raise Errno.EISDIR
        if mask & MAY_EXEC:
            raise Errno.EACCES
    elif kind == stat.S_IFREG:
        if mask & MAY_EXEC and found.mount.flags & MS_NOEXEC:
            raise Errno.EACCES
    else:
        if kind in (stat.S_IFBLK, stat.S_IFCHR) and found.mount.flags & MS_NODEV:
            raise Errno.EACCES
        if mask & MAY_EXEC:
            raise Errno.EACCES
    check_permission(cred, inode, mask)
    if flags & O_NOATIME and not owner_or_capable(cred, inode):
        raise Errno.EPERM


async def _open_tmpfile(task: Task, walk: Walk, flags: int, mode: int) -> File:
    """O_TMPFILE: a regular file without a name. Raises ENOTDIR, EACCES, EROFS, EOPNOTSUPP."""
    where = await walk.to_end(follow=not flags & O_NOFOLLOW)
    walk.require_directory()
    async with held(where):
        check_writable(where.mount)
        parent = where.inode
        check_permission(walk.cred, parent, MAY_WRITE | MAY_EXEC)
        mode = stat.S_IFREG | (mode & 0o7777 & ~task.fs.umask)
        mode, gid = new_owner(walk.cred, parent, mode)
        inode = await parent.tmpfile(mode, walk.cred.fsuid, gid)
        inode.linkable = not flags & O_EXCL
        dentry = Dentry(b"#%d" % inode.ino, where.dentry, inode)
        found = path_get(Path(where.mount, dentry))
        try:
            file = await inode.open(task, found, flags & ~O_DIRECTORY | O_LARGEFILE)
        finally:
            await path_put(found)
    file.flags = file.flags & ~NOT_KEPT | O_DIRECTORY
    file.cred = task.cred
    return file
