"""Opening, closing and duplicating: open, openat, openat2, creat, close, dup.

Linux: fs/open.c, fs/file.c.  Order of checks: flags (EINVAL), the path's memory
(EFAULT, ENAMETOOLONG), a free descriptor (EMFILE), then the walk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.fs.fdtable import fd_install, nofile_limit
from uvm_async.fs.lifetime import fput
from uvm_async.fs.namei import AT_FDCWD, Resolve, open_path
from uvm_async.syscalls.abi import OPEN_HOW
from uvm_async.syscalls.table import Addr, Fd, Flags, Mode, PathPtr, Size, UInt, syscall

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

__all__: list[str] = []

O_ACCMODE: Final = 3
O_CREAT: Final = 0o100
O_TRUNC: Final = 0o1000
O_DIRECTORY: Final = 0o200000
O_NOFOLLOW: Final = 0o400000
O_CLOEXEC: Final = 0o2000000
O_PATH: Final = 0o10000000
O_TMPFILE_BIT: Final = 0o20000000
O_WRONLY: Final = 1
VALID_FLAGS: Final = 0o37777703
"""Every O_* that Linux knows (VALID_OPEN_FLAGS)."""
PATH_FLAGS: Final = O_DIRECTORY | O_NOFOLLOW | O_PATH | O_CLOEXEC
ALL_RESOLVE: Final = int(
    Resolve.NO_XDEV
    | Resolve.NO_MAGICLINKS
    | Resolve.NO_SYMLINKS
    | Resolve.BENEATH
    | Resolve.IN_ROOT
    | Resolve.CACHED
)

CLOSE_RANGE_UNSHARE, CLOSE_RANGE_CLOEXEC = 2, 4


def _check_flags(flags: int) -> None:
    """Combinations that Linux refuses. Raises EINVAL."""
    if flags & (O_DIRECTORY | O_CREAT) == O_DIRECTORY | O_CREAT and not flags & O_PATH:
        raise Errno.EINVAL
    is_tmpfile = flags & O_TMPFILE_BIT and not flags & O_PATH
    if is_tmpfile and (not flags & O_DIRECTORY or flags & O_CREAT or not flags & O_ACCMODE):
        raise Errno.EINVAL


async def _open(task: Task, dirfd: int, name: int, flags: int, mode: int, resolve: int = 0) -> int:
    if flags & O_PATH:
        flags &= PATH_FLAGS
    _check_flags(flags)
    path = await task.mm.get_path(name)
    task.files.check_room(nofile_limit(task))
    file = await open_path(task, dirfd, path, flags, mode, resolve=resolve)
    try:
        return fd_install(task, file, cloexec=bool(flags & O_CLOEXEC))
    except Errno.EMFILE:
        await fput(file)
        raise


@syscall("open")
async def sys_open(task: Task, filename: PathPtr, flags: Flags, mode: Mode) -> int:
    """Open and possibly create a file. man 2 open."""
    return await _open(task, AT_FDCWD, filename, flags & VALID_FLAGS, mode & 0o7777)


@syscall("openat")
async def sys_openat(task: Task, dfd: Fd, filename: PathPtr, flags: Flags, mode: Mode) -> int:
    """Open a file relative to a directory's descriptor. man 2 openat."""
    return await _open(task, dfd, filename, flags & VALID_FLAGS, mode & 0o7777)


@syscall("creat")
async def sys_creat(task: Task, pathname: PathPtr, mode: Mode) -> int:
    """Create or truncate a file and open it for writing. man 2 creat."""
    return await _open(task, AT_FDCWD, pathname, O_CREAT | O_WRONLY | O_TRUNC, mode & 0o7777)


@syscall("openat2")
async def sys_openat2(task: Task, dfd: Fd, filename: PathPtr, how: Addr, size: Size) -> int:
    """Open a file with restrictions on how its path is resolved. man 2 openat2."""
    if size < OPEN_HOW.size:
        raise Errno.EINVAL
    if size > 4096:
        raise Errno.E2BIG
    raw = await task.mm.copy_from_user(how, size)
    if any(raw[OPEN_HOW.size :]):
        raise Errno.E2BIG
    flags, mode, resolve = OPEN_HOW.unpack_from(raw)
    if flags & ~VALID_FLAGS or resolve & ~ALL_RESOLVE:
        raise Errno.EINVAL
    if resolve & Resolve.BENEATH and resolve & Resolve.IN_ROOT:
        raise Errno.EINVAL
    if mode & ~0o7777 or (mode and not flags & (O_CREAT | O_TMPFILE_BIT)):
        raise Errno.EINVAL
    if flags & O_PATH and flags & ~PATH_FLAGS:
        raise Errno.EINVAL
    _check_flags(flags)
    if resolve & Resolve.CACHED and flags & (O_TRUNC | O_CREAT | O_TMPFILE_BIT):
        raise Errno.EAGAIN
    return await _open(task, dfd, filename, flags, mode, resolve)


@syscall("close")
async def sys_close(task: Task, fd: Fd) -> int:
    """Close a file descriptor. man 2 close."""
    await task.files.close(task, fd)
    return 0


@syscall("close_range")
async def sys_close_range(task: Task, first: UInt, last: UInt, flags: UInt) -> int:
    """Close, or mark close-on-exec, a range of descriptors. man 2 close_range."""
    if flags & ~(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) or first > last:
        raise Errno.EINVAL
    if flags & CLOSE_RANGE_UNSHARE and task.files.users > 1:
        shared = task.files
        task.files = shared.copy()
        await shared.put(task)
    if flags & CLOSE_RANGE_CLOEXEC:
        task.files.cloexec_range(first, last)
    else:
        await task.files.close_range(task, first, last)
    return 0


@syscall("dup")
def sys_dup(task: Task, fildes: Fd) -> int:
    """Duplicate a descriptor onto the lowest free number. man 2 dup."""
    file = task.files.get_raw(fildes)
    fd = fd_install(task, file)
    file.refs += 1
    return fd


@syscall("dup2")
async def sys_dup2(task: Task, oldfd: Fd, newfd: Fd) -> int:
    """Duplicate a descriptor onto a given number, closing that first. man 2 dup2."""
    if oldfd == newfd:
        task.files.get_raw(oldfd)
        return newfd
    return await _dup3(task, oldfd, newfd, 0)


@syscall("dup3")
async def sys_dup3(task: Task, oldfd: Fd, newfd: Fd, flags: Flags) -> int:
    """dup2 that may set close-on-exec and refuses equal numbers. man 2 dup3."""
    if flags & ~O_CLOEXEC or oldfd == newfd:
        raise Errno.EINVAL
    return await _dup3(task, oldfd, newfd, flags)


async def _dup3(task: Task, oldfd: int, newfd: int, flags: int) -> int:
    limit = nofile_limit(task)
    if not 0 <= newfd < limit:
        raise Errno.EBADF
    file = task.files.get_raw(oldfd)
    return await task.files.replace(task, newfd, file, limit, cloexec=bool(flags & O_CLOEXEC))
