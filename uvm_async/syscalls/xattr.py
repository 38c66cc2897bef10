"""Extended attributes, which no file system here keeps.

Linux: fs/xattr.c.  The path is looked up and the name read all the same, so that
errors come in Linux's order; then the answer is that of a file system without them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.fs.mount import check_writable
from uvm_async.fs.namei import AT_FDCWD, lookup
from uvm_async.syscalls.table import Addr, Fd, Flags, PathPtr, Size, StrPtr, syscall

if TYPE_CHECKING:
    from uvm_async.fs.inode import Path
    from uvm_async.kernel.task import Task

__all__: list[str] = []

XATTR_NAME_MAX: Final = 255
XATTR_SIZE_MAX: Final = 65536
XATTR_CREATE, XATTR_REPLACE = 1, 2
MISSING: Final = "There are none: setting fails with EOPNOTSUPP, listing finds nothing."


async def _name(task: Task, addr: int) -> bytes:
    name: bytes = await task.mm.strndup_user(addr, XATTR_NAME_MAX + 1)
    if not name or len(name) > XATTR_NAME_MAX:
        raise Errno.ERANGE
    return name


async def _path(task: Task, addr: int, *, follow: bool) -> Path:
    return await lookup(task, AT_FDCWD, await task.mm.get_path(addr), follow=follow)


async def _set(task: Task, where: Path | None, name: int, size: int, flags: int) -> int:
    if flags & ~(XATTR_CREATE | XATTR_REPLACE):
        raise Errno.EINVAL
    await _name(task, name)
    if size > XATTR_SIZE_MAX:
        raise Errno.E2BIG
    if where is not None:
        check_writable(where.mount)
    raise Errno.EOPNOTSUPP


async def _get(task: Task, name: int) -> int:
    await _name(task, name)
    raise Errno.EOPNOTSUPP


@syscall("setxattr", missing=MISSING)
async def sys_setxattr(
    task: Task, path: PathPtr, name: StrPtr, value: Addr, size: Size, flags: Flags
) -> int:
    """Set an extended attribute. man 2 setxattr."""
    return await _set(task, await _path(task, path, follow=True), name, size, flags)


@syscall("lsetxattr", missing=MISSING)
async def sys_lsetxattr(
    task: Task, path: PathPtr, name: StrPtr, value: Addr, size: Size, flags: Flags
) -> int:
    """setxattr on a symbolic link itself. man 2 lsetxattr."""
    return await _set(task, await _path(task, path, follow=False), name, size, flags)


@syscall("fsetxattr", missing=MISSING)
async def sys_fsetxattr(
    task: Task, fd: Fd, name: StrPtr, value: Addr, size: Size, flags: Flags
) -> int:
    """setxattr on an open file. man 2 fsetxattr."""
    return await _set(task, task.files.get(fd).path, name, size, flags)


@syscall("getxattr", missing=MISSING)
async def sys_getxattr(task: Task, path: PathPtr, name: StrPtr, value: Addr, size: Size) -> int:
    """Get an extended attribute. man 2 getxattr."""
    await _path(task, path, follow=True)
    return await _get(task, name)


@syscall("lgetxattr", missing=MISSING)
async def sys_lgetxattr(task: Task, path: PathPtr, name: StrPtr, value: Addr, size: Size) -> int:
    """getxattr on a symbolic link itself. man 2 lgetxattr."""
    await _path(task, path, follow=False)
    return await _get(task, name)


@syscall("fgetxattr", missing=MISSING)
async def sys_fgetxattr(task: Task, fd: Fd, name: StrPtr, value: Addr, size: Size) -> int:
    """getxattr on an open file. man 2 fgetxattr."""
    task.files.get(fd)
    return await _get(task, name)


@syscall("listxattr", missing=MISSING)
async def sys_listxattr(task: Task, path: PathPtr, names: Addr, size: Size) -> int:
    """List the names of extended attributes. man 2 listxattr."""
    await _path(task, path, follow=True)
    return 0


@syscall("llistxattr", missing=MISSING)
async def sys_llistxattr(task: Task, path: PathPtr, names: Addr, size: Size) -> int:
    """listxattr on a symbolic link itself. man 2 llistxattr."""
    await _path(task, path, follow=False)
    return 0


@syscall("flistxattr", missing=MISSING)
def sys_flistxattr(task: Task, fd: Fd, names: Addr, size: Size) -> int:
    """listxattr on an open file. man 2 flistxattr."""
    task.files.get(fd)
    return 0


@syscall("removexattr", missing=MISSING)
async def sys_removexattr(task: Task, path: PathPtr, name: StrPtr) -> int:
    """Remove an extended attribute. man 2 removexattr."""
    return await _set(task, await _path(task, path, follow=True), name, 0, 0)


@syscall("lremovexattr", missing=MISSING)
async def sys_lremovexattr(task: Task, path: PathPtr, name: StrPtr) -> int:
    """removexattr on a symbolic link itself. man 2 lremovexattr."""
    return await _set(task, await _path(task, path, follow=False), name, 0, 0)


@syscall("fremovexattr", missing=MISSING)
async def sys_fremovexattr(task: Task, fd: Fd, name: StrPtr) -> int:
    """removexattr on an open file. man 2 fremovexattr."""
    return await _set(task, task.files.get(fd).path, name, 0, 0)
