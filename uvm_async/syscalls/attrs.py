"""Attributes: mode, owner, times, size, umask.

Linux: fs/open.c, fs/utimes.c, fs/attr.c.  Order: the path, then a mount that may
be written (EROFS), then who may (EPERM, EACCES).
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.fs.attr import change_mode, change_owner, change_times, check_size, truncate_inode
from uvm_async.fs.inode import Path
from uvm_async.fs.lifetime import held, held_fd
from uvm_async.fs.mount import check_writable
from uvm_async.fs.namei import AT_FDCWD, lookup
from uvm_async.fs.permission import MAY_WRITE, check_permission
from uvm_async.syscalls.abi import TIMESPEC, TIMEVAL, UTIMBUF
from uvm_async.syscalls.stat import AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW
from uvm_async.syscalls.table import Addr, Fd, Flags, Int, Long, Mode, PathPtr, UInt, syscall

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

__all__: list[str] = []

UTIME_NOW: Final = 0x3FFFFFFF
UTIME_OMIT: Final = 0x3FFFFFFE
SECOND_NS: Final = 1_000_000_000
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2
FALLOC_FL_KNOWN: Final = 0xFB


async def _place(task: Task, dfd: int, filename: int, flags: int) -> Path:
    """The path of a call that takes AT_SYMLINK_NOFOLLOW and AT_EMPTY_PATH. Raises EINVAL."""
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise Errno.EINVAL
    return await lookup(
        task,
        dfd,
        await task.mm.get_path(filename),
        follow=not flags & AT_SYMLINK_NOFOLLOW,
        empty=bool(flags & AT_EMPTY_PATH),
    )


# -- mode


async def _chmod(task: Task, dfd: int, filename: int, mode: int, flags: int) -> int:
    async with held(await _place(task, dfd, filename, flags)) as path:
        check_writable(path.mount)
        await change_mode(task, path.inode, mode)
    return 0


@syscall("chmod")
async def sys_chmod(task: Task, filename: PathPtr, mode: Mode) -> int:
    """Change a file's mode bits. man 2 chmod."""
    return await _chmod(task, AT_FDCWD, filename, mode, 0)


@syscall("fchmodat")
async def sys_fchmodat(task: Task, dfd: Fd, filename: PathPtr, mode: Mode) -> int:
    """chmod relative to a directory's descriptor. man 2 fchmodat."""
    return await _chmod(task, dfd, filename, mode, 0)


@syscall("fchmodat2")
async def sys_fchmodat2(task: Task, dfd: Fd, filename: PathPtr, mode: Mode, flags: Flags) -> int:
    """fchmodat with flags. man 2 fchmodat."""
    return await _chmod(task, dfd, filename, mode, flags)


@syscall("fchmod")
async def sys_fchmod(task: Task, fd: Fd, mode: Mode) -> int:
    """Change an open file's mode bits. man 2 fchmod."""
    async with held_fd(task, fd) as file:
        if file.path is not None:
            check_writable(file.path.mount)
        await change_mode(task, file.inode, mode)
    return 0


@syscall("umask")
def sys_umask(task: Task, mask: Int) -> int:
    """Set the file mode creation mask; answers the old one. man 2 umask."""
    old, task.fs.umask = task.fs.umask, mask & 0o777
    return old


# -- owner


async def _chown(task: Task, dfd: int, filename: int, user: int, group: int, flags: int) -> int:
    async with held(await _place(task, dfd, filename, flags)) as path:
        check_writable(path.mount)
        await change_owner(task, path.inode, user, group)
    return 0


@syscall("chown")
async def sys_chown(task: Task, filename: PathPtr, user: UInt, group: UInt) -> int:
    """Change a file's owner and group. man 2 chown."""
    return await _chown(task, AT_FDCWD, filename, user, group, 0)


@syscall("lchown")
async def sys_lchown(task: Task, filename: PathPtr, user: UInt, group: UInt) -> int:
    """Change the owner and group of a file or of a symbolic link itself. man 2 lchown."""
    return await _chown(task, AT_FDCWD, filename, user, group, AT_SYMLINK_NOFOLLOW)


@syscall("fchownat")
async def sys_fchownat(
    task: Task, dfd: Fd, filename: PathPtr, user: UInt, group: UInt, flag: Flags
) -> int:
    """chown relative to a directory's descriptor. man 2 fchownat."""
    return await _chown(task, dfd, filename, user, group, flag)


@syscall("fchown")
async def sys_fchown(task: Task, fd: Fd, user: UInt, group: UInt) -> int:
    """Change an open file's owner and group. man 2 fchown."""
    async with held_fd(task, fd) as file:
        if file.path is not None:
            check_writable(file.path.mount)
        await change_owner(task, file.inode, user, group)
    return 0


# -- times

Times = tuple[tuple[int, int], tuple[int, int]]
"""(seconds, nanoseconds) of access and of modification; UTIME_NOW and UTIME_OMIT may be in."""


def _nanoseconds(time: tuple[int, int], now: int) -> int | None:
    seconds, nanoseconds = time
    if nanoseconds == UTIME_OMIT:
        return None
    if nanoseconds == UTIME_NOW:
        return now
    return seconds * SECOND_NS + nanoseconds


async def _set_times(task: Task, path: Path, times: Times | None) -> int:
    for _, nanoseconds in times or ():
        if not 0 <= nanoseconds < SECOND_NS and nanoseconds not in (UTIME_NOW, UTIME_OMIT):
            raise Errno.EINVAL
    check_writable(path.mount)
    now = task.kernel.clock.realtime_ns()
    if times is None or (times[0][1] == UTIME_NOW and times[1][1] == UTIME_NOW):
        await change_times(task, path.inode, None, None, to_now=True)
        return 0
    atime, mtime = (_nanoseconds(time, now) for time in times)
    await change_times(task, path.inode, atime, mtime, to_now=False)
    return 0


async def _utimens(task: Task, dfd: int, filename: int, times: Times | None, flags: int) -> int:
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise Errno.EINVAL
    if filename == 0 and dfd != AT_FDCWD:
        if flags:
            raise Errno.EINVAL
        async with held_fd(task, dfd) as file:
            if file.path is None:
                raise Errno.EINVAL
            return await _set_times(task, file.path, times)
    async with held(await _place(task, dfd, filename, flags)) as path:
        return await _set_times(task, path, times)


@syscall("utimensat")
async def sys_utimensat(task: Task, dfd: Fd, filename: PathPtr, utimes: Addr, flags: Flags) -> int:
    """Change a file's times with nanoseconds. man 2 utimensat."""
    times: Times | None = None
    if utimes:
        values = await task.mm.copy_from_user(utimes, 2 * TIMESPEC.size)
        atime, mtime = TIMESPEC.iter_unpack(values)
        if atime[1] == UTIME_OMIT and mtime[1] == UTIME_OMIT:
            return 0
        times = (atime[0], atime[1]), (mtime[0], mtime[1])
    return await _utimens(task, dfd, filename, times, flags)


async def _utimes(task: Task, dfd: int, filename: int, utimes: int) -> int:
    times: Times | None = None
    if utimes:
        values = await task.mm.copy_from_user(utimes, 2 * TIMEVAL.size)
        atime, mtime = TIMEVAL.iter_unpack(values)
        for _, microseconds in (atime, mtime):
            if not 0 <= microseconds < 1_000_000:
                raise Errno.EINVAL
        times = (atime[0], atime[1] * 1000), (mtime[0], mtime[1] * 1000)
    return await _utimens(task, dfd, filename, times, 0)


@syscall("utimes")
async def sys_utimes(task: Task, filename: PathPtr, utimes: Addr) -> int:
    """Change a file's times with microseconds. man 2 utimes."""
    return await _utimes(task, AT_FDCWD, filename, utimes)


@syscall("futimesat")
async def sys_futimesat(task: Task, dfd: Fd, filename: PathPtr, utimes: Addr) -> int:
    """utimes relative to a directory's descriptor. man 2 futimesat."""
    return await _utimes(task, dfd, filename, utimes)


@syscall("utime")
async def sys_utime(task: Task, filename: PathPtr, times: Addr) -> int:
    """Change a file's times in whole seconds. man 2 utime."""
    parsed: Times | None = None
    if times:
        atime, mtime = UTIMBUF.unpack(await task.mm.copy_from_user(times, UTIMBUF.size))
        parsed = (atime, 0), (mtime, 0)
    return await _utimens(task, AT_FDCWD, filename, parsed, 0)


# -- size


@syscall("truncate")
async def sys_truncate(task: Task, path: PathPtr, length: Long) -> int:
    """Truncate or extend a file. man 2 truncate."""
    if length < 0:
        raise Errno.EINVAL
    async with held(await lookup(task, AT_FDCWD, await task.mm.get_path(path))) as found:
        inode = found.inode
        if inode.is_dir:
            raise Errno.EISDIR
        if not inode.is_reg:
            raise Errno.EINVAL
        check_writable(found.mount)
        check_permission(task.cred, inode, MAY_WRITE)
        if inode.writers < 0:
            raise Errno.ETXTBSY
        await truncate_inode(task, inode, length)
    return 0


@syscall("ftruncate")
async def sys_ftruncate(task: Task, fd: Fd, length: Long) -> int:
    """Truncate or extend an open file. man 2 ftruncate."""
    if length < 0:
        raise Errno.EINVAL
    async with held_fd(task, fd) as file:
        if file.path is None or not file.inode.is_reg or not file.writable:
            raise Errno.EINVAL
        await truncate_inode(task, file.inode, length)
    return 0


@syscall("fallocate", missing="Only preallocation and, on tmpfs, punching holes.")
async def sys_fallocate(task: Task, fd: Fd, mode: Int, offset: Long, length: Long) -> int:
    """Manipulate the space of a file. man 2 fallocate."""
    async with held_fd(task, fd) as file:
        if offset < 0 or length <= 0:
            raise Errno.EINVAL
        if mode & ~FALLOC_FL_KNOWN:
            raise Errno.EOPNOTSUPP
        if mode & FALLOC_FL_PUNCH_HOLE and not mode & FALLOC_FL_KEEP_SIZE:
            raise Errno.EOPNOTSUPP
        if not file.writable:
            raise Errno.EBADF
        inode = file.inode
        if stat.S_ISFIFO(inode.mode):
            raise Errno.ESPIPE
        if inode.is_dir:
            raise Errno.EISDIR
        if not inode.is_reg:
            raise Errno.ENODEV
        if offset + length > (1 << 63) - 1:
            raise Errno.EFBIG
        if not mode & FALLOC_FL_KEEP_SIZE and offset + length > inode.size:
            check_size(task, offset + length)
        async with inode.lock:
            await inode.fallocate(mode, offset, length)
            now = task.kernel.clock.realtime_ns()
            await inode.setattr(mtime_ns=now, ctime_ns=now)
    return 0
