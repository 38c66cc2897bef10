"""Directories: making, removing, entering, listing.

Linux: fs/namei.c, fs/open.c, fs/readdir.c, fs/d_path.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from uvm_async.errors import Errno
from uvm_async.fs import dirops
from uvm_async.fs.dcache import d_path
from uvm_async.fs.file import DirFile
from uvm_async.fs.inode import DirEntry
from uvm_async.fs.lifetime import held_fd
from uvm_async.fs.namei import AT_FDCWD, lookup
from uvm_async.fs.permission import CAP_SYS_CHROOT, MAY_EXEC, capable, check_permission
from uvm_async.syscalls.abi import DIRENT, DIRENT64
from uvm_async.syscalls.table import Addr, Fd, Mode, PathPtr, Size, UInt, syscall

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

__all__: list[str] = []

SMALLEST_RECORD = 24
MOST_ENTRIES = 1024
"""Asked of a file system at a time."""


@syscall("mkdir")
async def sys_mkdir(task: Task, pathname: PathPtr, mode: Mode) -> int:
    """Create a directory. man 2 mkdir."""
    await dirops.mkdir(task, AT_FDCWD, await task.mm.get_path(pathname), mode)
    return 0


@syscall("mkdirat")
async def sys_mkdirat(task: Task, dfd: Fd, pathname: PathPtr, mode: Mode) -> int:
    """mkdir relative to a directory's descriptor. man 2 mkdirat."""
    await dirops.mkdir(task, dfd, await task.mm.get_path(pathname), mode)
    return 0


@syscall("rmdir")
async def sys_rmdir(task: Task, pathname: PathPtr) -> int:
    """Delete an empty directory. man 2 rmdir."""
    await dirops.rmdir(task, AT_FDCWD, await task.mm.get_path(pathname))
    return 0


@syscall("chdir")
async def sys_chdir(task: Task, filename: PathPtr) -> int:
    """Change the working directory. man 2 chdir."""
    path = await lookup(task, AT_FDCWD, await task.mm.get_path(filename), directory=True)
    check_permission(task.cred, path.inode, MAY_EXEC)
    await task.fs.set_cwd(path)
    return 0


@syscall("fchdir")
async def sys_fchdir(task: Task, fd: Fd) -> int:
    """Change the working directory to an open one. man 2 fchdir."""
    async with held_fd(task, fd, raw=True) as file:
        if file.path is None or not file.inode.is_dir:
            raise Errno.ENOTDIR
        check_permission(task.cred, file.inode, MAY_EXEC)
        await task.fs.set_cwd(file.path)
    return 0


@syscall("chroot")
async def sys_chroot(task: Task, filename: PathPtr) -> int:
    """Change the root directory. man 2 chroot."""
    path = await lookup(task, AT_FDCWD, await task.mm.get_path(filename), directory=True)
    check_permission(task.cred, path.inode, MAY_EXEC)
    if not capable(task.cred, CAP_SYS_CHROOT):
        raise Errno.EPERM
    await task.fs.set_root(path)
    return 0


@syscall("getcwd")
async def sys_getcwd(task: Task, buf: Addr, size: Size) -> int:
    """Get the working directory's path; answers its length with the NUL. man 2 getcwd."""
    text = d_path(task.fs.root, task.fs.cwd, for_getcwd=True) + b"\0"
    if len(text) > size:
        raise Errno.ERANGE
    await task.mm.copy_to_user(buf, text)
    return len(text)


# -- listing


def _dirent64(entry: DirEntry) -> bytes:
    size = (19 + len(entry.name) + 1 + 7) & ~7
    head = DIRENT64.pack(entry.ino, entry.next_pos, size, entry.type)
    return (head + entry.name).ljust(size, b"\0")


def _dirent(entry: DirEntry) -> bytes:
    size = (18 + len(entry.name) + 2 + 7) & ~7
    head = DIRENT.pack(entry.ino, entry.next_pos, size)
    return (head + entry.name).ljust(size - 1, b"\0") + bytes((entry.type,))


async def _getdents(
    task: Task, fd: int, dirent: int, count: int, pack: Callable[[DirEntry], bytes]
) -> int:
    async with held_fd(task, fd) as file:
        if not isinstance(file, DirFile):
            raise Errno.ENOTDIR
        packed = bytearray()
        next_pos = file.pos
        limit = max(1, min(count // SMALLEST_RECORD, MOST_ENTRIES))
        entries = await file.entries(limit)
        for entry in entries:
            record = pack(entry)
            if len(packed) + len(record) > count:
                break
            packed += record
            next_pos = entry.next_pos
        if entries and not packed:
            raise Errno.EINVAL
        await task.mm.copy_to_user(dirent, bytes(packed))
        file.pos = next_pos
        return len(packed)


@syscall("getdents64")
async def sys_getdents64(task: Task, fd: Fd, dirent: Addr, count: UInt) -> int:
    """Get directory entries. man 2 getdents64."""
    return await _getdents(task, fd, dirent, count, _dirent64)


@syscall("getdents")
async def sys_getdents(task: Task, fd: Fd, dirent: Addr, count: UInt) -> int:
    """Get directory entries in the older form. man 2 getdents."""
    return await _getdents(task, fd, dirent, count, _dirent)
