"""ioctl: what every file knows, then the file's own. Linux: fs/ioctl.c."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.fs.lifetime import held_fd
from uvm_async.syscalls.abi import INT
from uvm_async.syscalls.table import Addr, Fd, UInt, syscall

if TYPE_CHECKING:
    from uvm_async.fs.inode import File
    from uvm_async.kernel.task import Task

__all__: list[str] = []

FIOCLEX, FIONCLEX, FIONBIO, FIOASYNC, FIOQSIZE = 0x5451, 0x5450, 0x5421, 0x5452, 0x5460
FIONREAD: Final = 0x541B
FIGETBSZ: Final = 2
FICLONE, FICLONERANGE = 0x40049409, 0x4020940D
O_NONBLOCK: Final = 0o4000
O_ASYNC: Final = 0o20000


@syscall("ioctl")
async def sys_ioctl(task: Task, fd: Fd, cmd: UInt, arg: Addr) -> int:
    """Control a device or an open file. man 2 ioctl."""
    files = task.files
    async with held_fd(task, fd) as file:
        if cmd in (FIOCLEX, FIONCLEX):
            files.set_cloexec(fd, cmd == FIOCLEX)
            return 0
        if cmd in (FIONBIO, FIOASYNC):
            (on,) = INT.unpack(await task.mm.copy_from_user(arg, INT.size))
            bit = O_NONBLOCK if cmd == FIONBIO else O_ASYNC
            file.flags = file.flags | bit if on else file.flags & ~bit
            return 0
        if file.path is not None and file.inode.is_reg:
            answered = await _regular(task, file, cmd, arg)
            if answered:
                return 0
        if cmd in (FIGETBSZ, FIOQSIZE) and file.path is not None:
            return await _sizes(task, file, cmd, arg)
        return await file.ioctl(task, cmd, arg)


async def _regular(task: Task, file: File, cmd: int, arg: int) -> bool:
    """What regular files answer. Raises EFAULT, EOPNOTSUPP."""
    if cmd == FIONREAD:
        left = file.inode.size - file.pos
        await task.mm.copy_to_user(arg, (left & 0xFFFFFFFF).to_bytes(4, "little"))
        return True
    if cmd in (FICLONE, FICLONERANGE):
        raise Errno.EOPNOTSUPP
    return False


async def _sizes(task: Task, file: File, cmd: int, arg: int) -> int:
    inode = file.inode
    if cmd == FIGETBSZ:
        await task.mm.copy_to_user(arg, INT.pack(inode.blksize))
        return 0
    if not (inode.is_reg or inode.is_dir or inode.is_symlink):
        raise Errno.ENOTTY
    await task.mm.copy_to_user(arg, inode.size.to_bytes(8, "little"))
    return 0
