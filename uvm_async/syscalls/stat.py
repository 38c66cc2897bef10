"""What is known about a file: stat and its kin, statx, statfs, access, readlink.

Linux: fs/stat.c, fs/statfs.c, fs/open.c (do_faccessat).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.fs.dcache import d_path
from uvm_async.fs.file import touch_atime
from uvm_async.fs.inode import Inode, Path
from uvm_async.fs.lifetime import held, held_fd
from uvm_async.fs.mount import MS_NOEXEC, MS_RELATIME, check_writable
from uvm_async.fs.namei import AT_FDCWD, lookup
from uvm_async.fs.permission import MAY_EXEC, MAY_WRITE, FsCred, check_permission
from uvm_async.syscalls.abi import STAT, STATFS, STATX
from uvm_async.syscalls.table import Addr, Fd, Flags, Int, PathPtr, UInt, syscall

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

__all__ = ["AT_EMPTY_PATH", "AT_SYMLINK_FOLLOW", "AT_SYMLINK_NOFOLLOW"]

AT_SYMLINK_NOFOLLOW: Final = 0x100
AT_EACCESS: Final = 0x200
AT_SYMLINK_FOLLOW: Final = 0x400
AT_NO_AUTOMOUNT: Final = 0x800
AT_EMPTY_PATH: Final = 0x1000
AT_STATX_SYNC_TYPE: Final = 0x6000
STAT_FLAGS: Final = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE
STATX_BASIC_STATS: Final = 0x7FF
STATX_MNT_ID: Final = 0x1000
STATX_RESERVED: Final = 0x80000000
STATX_ATTR_MOUNT_ROOT: Final = 0x2000
ST_VALID: Final = 0x20
SECOND_NS: Final = 1_000_000_000


async def _answer_stat(task: Task, inode: Inode, statbuf: int) -> int:
    await inode.refresh()
    data = STAT.pack(
        inode.sb.dev,
        inode.ino,
        inode.nlink,
        inode.mode,
        inode.uid,
        inode.gid,
        inode.rdev,
        inode.size,
        inode.blksize,
        inode.blocks,
        *divmod(inode.atime_ns, SECOND_NS),
        *divmod(inode.mtime_ns, SECOND_NS),
        *divmod(inode.ctime_ns, SECOND_NS),
    )
    await task.mm.copy_to_user(statbuf, data)
    return 0


async def _fstat(task: Task, fd: int, statbuf: int) -> int:
    async with held_fd(task, fd, raw=True) as file:
        return await _answer_stat(task, file.inode, statbuf)


async def _stat(task: Task, dfd: int, filename: int, statbuf: int, flags: int) -> int:
    if flags & ~STAT_FLAGS:
        raise Errno.EINVAL
    empty = bool(flags & AT_EMPTY_PATH)
    if empty and filename == 0:
        path = b""
    else:
        path = await task.mm.get_path(filename)
    if empty and not path and dfd >= 0:
        return await _fstat(task, dfd, statbuf)
    found = await lookup(task, dfd, path, follow=not flags & AT_SYMLINK_NOFOLLOW, empty=empty)
    async with held(found):
        return await _answer_stat(task, found.inode, statbuf)


@syscall("stat")
async def sys_stat(task: Task, filename: PathPtr, statbuf: Addr) -> int:
    """Get a file's status. man 2 stat."""
    return await _stat(task, AT_FDCWD, filename, statbuf, 0)


@syscall("lstat")
async def sys_lstat(task: Task, filename: PathPtr, statbuf: Addr) -> int:
    """Get the status of a file or of a symbolic link itself. man 2 lstat."""
    return await _stat(task, AT_FDCWD, filename, statbuf, AT_SYMLINK_NOFOLLOW)


@syscall("fstat")
async def sys_fstat(task: Task, fd: Fd, statbuf: Addr) -> int:
    """Get the status of an open file. man 2 fstat."""
    return await _fstat(task, fd, statbuf)


@syscall("newfstatat")
async def sys_newfstatat(task: Task, dfd: Fd, filename: PathPtr, statbuf: Addr, flag: Flags) -> int:
    """Get a file's status relative to a directory's descriptor. man 2 fstatat."""
    return await _stat(task, dfd, filename, statbuf, flag)


@syscall("statx", missing="Birth times and direct I/O alignment.")
async def sys_statx(
    task: Task, dfd: Fd, filename: PathPtr, flags: Flags, mask: UInt, buffer: Addr
) -> int:
    """Get a file's extended status. man 2 statx."""
    if flags & ~STAT_FLAGS or flags & AT_STATX_SYNC_TYPE == AT_STATX_SYNC_TYPE:
        raise Errno.EINVAL
    if mask & STATX_RESERVED:
        raise Errno.EINVAL
    empty = bool(flags & AT_EMPTY_PATH)
    path = b"" if empty and filename == 0 else await task.mm.get_path(filename)
    found = await lookup(task, dfd, path, follow=not flags & AT_SYMLINK_NOFOLLOW, empty=empty)
    async with held(found):
        await found.inode.refresh()
        await task.mm.copy_to_user(buffer, _pack_statx(found))
    return 0


def _pack_statx(path: Path) -> bytes:
    inode = path.inode
    is_mount_root = path.dentry is path.mount.root
    return STATX.pack(
        STATX_BASIC_STATS | STATX_MNT_ID,
        inode.blksize,
        STATX_ATTR_MOUNT_ROOT if is_mount_root else 0,
        inode.nlink,
        inode.uid,
        inode.gid,
        inode.mode,
        inode.ino,
        inode.size,
        inode.blocks,
        STATX_ATTR_MOUNT_ROOT,
        *divmod(inode.atime_ns, SECOND_NS),
        0,
        0,
        *divmod(inode.ctime_ns, SECOND_NS),
        *divmod(inode.mtime_ns, SECOND_NS),
        os.major(inode.rdev),
        os.minor(inode.rdev),
        os.major(inode.sb.dev),
        os.minor(inode.sb.dev),
        path.mount.ident,
    )


# -- statfs


async def _answer_statfs(task: Task, path: Path, buf: int) -> int:
    sb = path.mount.sb
    found = await sb.statfs()
    flags = path.mount.flags & 0xC0F | (1 if sb.read_only else 0)
    if path.mount.flags & MS_RELATIME:
        flags |= 0x1000
    data = STATFS.pack(
        found.type,
        found.bsize,
        found.blocks,
        found.bfree,
        found.bavail,
        found.files,
        found.ffree,
        sb.dev & 0x7FFFFFFF,
        0,
        found.namelen,
        found.bsize,
        flags | found.flags | ST_VALID,
    )
    await task.mm.copy_to_user(buf, data)
    return 0


@syscall("statfs")
async def sys_statfs(task: Task, pathname: PathPtr, buf: Addr) -> int:
    """Get file system statistics. man 2 statfs."""
    async with held(await lookup(task, AT_FDCWD, await task.mm.get_path(pathname))) as path:
        return await _answer_statfs(task, path, buf)


@syscall("fstatfs")
async def sys_fstatfs(task: Task, fd: Fd, buf: Addr) -> int:
    """Get statistics of the file system an open file is on. man 2 fstatfs."""
    async with held_fd(task, fd, raw=True) as file:
        if file.path is None:
            raise Errno.EBADF
        return await _answer_statfs(task, file.path, buf)


# -- access


@dataclass(frozen=True, slots=True)
class RealCred:
    """A task's real ids, which access(2) goes by."""

    fsuid: int
    fsgid: int
    groups: Sequence[int]
    capabilities: int


async def _access(task: Task, dfd: int, filename: int, mode: int, flags: int) -> int:
    if mode & ~7 or flags & ~(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise Errno.EINVAL
    cred: FsCred = task.cred
    if not flags & AT_EACCESS:
        real = task.cred
        capabilities = real.permitted if real.uid == 0 else 0
        cred = RealCred(real.uid, real.gid, real.groups, capabilities)
    found = await lookup(
        task,
        dfd,
        await task.mm.get_path(filename),
        follow=not flags & AT_SYMLINK_NOFOLLOW,
        empty=bool(flags & AT_EMPTY_PATH),
        cred=cred,
    )
    inode = found.inode
    if mode & MAY_EXEC and inode.is_reg and found.mount.flags & MS_NOEXEC:
        raise Errno.EACCES
    check_permission(cred, inode, mode)
    if mode & MAY_WRITE and (inode.is_reg or inode.is_dir or inode.is_symlink):
        check_writable(found.mount)
    return 0


@syscall("access")
async def sys_access(task: Task, filename: PathPtr, mode: Int) -> int:
    """Check the real user's permissions for a file. man 2 access."""
    return await _access(task, AT_FDCWD, filename, mode, 0)


@syscall("faccessat")
async def sys_faccessat(task: Task, dfd: Fd, filename: PathPtr, mode: Int) -> int:
    """access relative to a directory's descriptor. man 2 faccessat."""
    return await _access(task, dfd, filename, mode, 0)


@syscall("faccessat2")
async def sys_faccessat2(task: Task, dfd: Fd, filename: PathPtr, mode: Int, flags: Flags) -> int:
    """faccessat with flags. man 2 faccessat2."""
    return await _access(task, dfd, filename, mode, flags)


# -- readlink


async def _readlink(task: Task, dfd: int, pathname: int, buf: int, bufsiz: int) -> int:
    if bufsiz <= 0:
        raise Errno.EINVAL
    name = await task.mm.get_path(pathname)
    found = await lookup(task, dfd, name, follow=False, empty=True)
    inode = found.inode
    if not inode.is_symlink:
        raise Errno.EINVAL if name else Errno.ENOENT
    async with held(found):
        target = await inode.get_link(task)
        touch_atime(found, inode, 0)
        text = d_path(task.fs.root, target) if isinstance(target, Path) else target
        await task.mm.copy_to_user(buf, text[:bufsiz])
    return min(len(text), bufsiz)


@syscall("readlink")
async def sys_readlink(task: Task, path: PathPtr, buf: Addr, bufsiz: Int) -> int:
    """Read the value of a symbolic link. man 2 readlink."""
    return await _readlink(task, AT_FDCWD, path, buf, bufsiz)


@syscall("readlinkat")
async def sys_readlinkat(task: Task, dfd: Fd, path: PathPtr, buf: Addr, bufsiz: Int) -> int:
    """readlink relative to a directory's descriptor. man 2 readlinkat."""
    return await _readlink(task, dfd, path, buf, bufsiz)
