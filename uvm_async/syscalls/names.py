"""Names: link, unlink, symlink, rename, mknod.

Linux: fs/namei.c.  What is done, and in which order it is checked, is
`fs/dirops.py`; here are flags and user memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvm_async.errors import Errno
from uvm_async.fs import dirops
from uvm_async.fs.lifetime import held
from uvm_async.fs.namei import AT_FDCWD, lookup
from uvm_async.fs.permission import CAP_DAC_READ_SEARCH, capable
from uvm_async.syscalls.stat import AT_EMPTY_PATH, AT_SYMLINK_FOLLOW
from uvm_async.syscalls.table import Fd, Flags, Mode, PathPtr, UInt, syscall

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

__all__: list[str] = []

AT_REMOVEDIR = 0x200


def _may_name(task: Task, fd: int) -> bool:
    """May what is open at `fd` be linked without a name? By who opened it, or is privileged."""
    if capable(task.cred, CAP_DAC_READ_SEARCH):
        return True
    return fd != AT_FDCWD and task.files.get_raw(fd).cred == task.cred


async def _link(
    task: Task, olddfd: int, oldname: int, newdfd: int, newname: int, flags: int
) -> int:
    if flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH):
        raise Errno.EINVAL
    old = await task.mm.get_path(oldname)
    empty = bool(flags & AT_EMPTY_PATH)
    if empty and not old and not _may_name(task, olddfd):
        raise Errno.ENOENT
    found = await lookup(task, olddfd, old, follow=bool(flags & AT_SYMLINK_FOLLOW), empty=empty)
    async with held(found):  # Linux looks the old name up before it reads the new one
        await dirops.link(task, found, newdfd, await task.mm.get_path(newname))
    return 0


@syscall("link")
async def sys_link(task: Task, oldname: PathPtr, newname: PathPtr) -> int:
    """Make a new name for a file. man 2 link."""
    return await _link(task, AT_FDCWD, oldname, AT_FDCWD, newname, 0)


@syscall("linkat")
async def sys_linkat(
    task: Task, olddfd: Fd, oldname: PathPtr, newdfd: Fd, newname: PathPtr, flags: Flags
) -> int:
    """link relative to directories' descriptors. man 2 linkat."""
    return await _link(task, olddfd, oldname, newdfd, newname, flags)


@syscall("unlink")
async def sys_unlink(task: Task, pathname: PathPtr) -> int:
    """Delete a name, and the file if it was the last. man 2 unlink."""
    await dirops.unlink(task, AT_FDCWD, await task.mm.get_path(pathname))
    return 0


@syscall("unlinkat")
async def sys_unlinkat(task: Task, dfd: Fd, pathname: PathPtr, flag: Flags) -> int:
    """unlink or rmdir relative to a directory's descriptor. man 2 unlinkat."""
    if flag & ~AT_REMOVEDIR:
        raise Errno.EINVAL
    path = await task.mm.get_path(pathname)
    if flag & AT_REMOVEDIR:
        await dirops.rmdir(task, dfd, path)
    else:
        await dirops.unlink(task, dfd, path)
    return 0


@syscall("symlink")
async def sys_symlink(task: Task, oldname: PathPtr, newname: PathPtr) -> int:
    """Make a symbolic link. man 2 symlink."""
    target = await task.mm.get_path(oldname)
    await dirops.symlink(task, target, AT_FDCWD, await task.mm.get_path(newname))
    return 0


@syscall("symlinkat")
async def sys_symlinkat(task: Task, oldname: PathPtr, newdfd: Fd, newname: PathPtr) -> int:
    """symlink relative to a directory's descriptor. man 2 symlinkat."""
    target = await task.mm.get_path(oldname)
    await dirops.symlink(task, target, newdfd, await task.mm.get_path(newname))
    return 0


async def _rename(
    task: Task, olddfd: int, oldname: int, newdfd: int, newname: int, flags: int
) -> int:
    dirops.check_rename_flags(flags)
    old = await task.mm.get_path(oldname)
    new = await task.mm.get_path(newname)
    await dirops.rename(task, olddfd, old, newdfd, new, flags)
    return 0


@syscall("rename")
async def sys_rename(task: Task, oldname: PathPtr, newname: PathPtr) -> int:
    """Change the name or place of a file. man 2 rename."""
    return await _rename(task, AT_FDCWD, oldname, AT_FDCWD, newname, 0)


@syscall("renameat")
async def sys_renameat(
    task: Task, olddfd: Fd, oldname: PathPtr, newdfd: Fd, newname: PathPtr
) -> int:
    """rename relative to directories' descriptors. man 2 renameat."""
    return await _rename(task, olddfd, oldname, newdfd, newname, 0)


@syscall("renameat2", missing="RENAME_WHITEOUT (EINVAL).")
async def sys_renameat2(
    task: Task, olddfd: Fd, oldname: PathPtr, newdfd: Fd, newname: PathPtr, flags: UInt
) -> int:
    """renameat that may refuse to replace, or exchange. man 2 renameat2."""
    return await _rename(task, olddfd, oldname, newdfd, newname, flags)


@syscall("mknod")
async def sys_mknod(task: Task, filename: PathPtr, mode: Mode, dev: UInt) -> int:
    """Make a file, FIFO, socket or device node. man 2 mknod."""
    await dirops.mknod(task, AT_FDCWD, await task.mm.get_path(filename), mode, dev)
    return 0


@syscall("mknodat")
async def sys_mknodat(task: Task, dfd: Fd, filename: PathPtr, mode: Mode, dev: UInt) -> int:
    """mknod relative to a directory's descriptor. man 2 mknodat."""
    await dirops.mknod(task, dfd, await task.mm.get_path(filename), mode, dev)
    return 0
