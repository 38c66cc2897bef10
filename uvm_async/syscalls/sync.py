"""Making writes stable, and advice about what comes next.

Linux: fs/sync.c, mm/fadvise.c, mm/readahead.c.
"""

from __future__ import annotations

import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from uvm_async.errors import Errno
from uvm_async.fs.lifetime import held_fd
from uvm_async.syscalls.table import Fd, Int, Long, Size, UInt, syscall

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

__all__: list[str] = []

SYNC_FILE_RANGE_KNOWN = 7
LAST_ADVICE = 5


@syscall("fsync")
async def sys_fsync(task: Task, fd: Fd) -> int:
    """Wait until a file's data and metadata are stable. man 2 fsync."""
    async with held_fd(task, fd) as file:
        await file.fsync()
    return 0


@syscall("fdatasync")
async def sys_fdatasync(task: Task, fd: Fd) -> int:
    """Wait until a file's data are stable. man 2 fdatasync."""
    async with held_fd(task, fd) as file:
        await file.fsync(data_only=True)
    return 0


@syscall("sync")
async def sys_sync(task: Task) -> int:
    """Make all file systems stable. man 2 sync."""
    for sb in task.kernel.mounts.super_blocks():
        # sync(2) cannot report what it meets.
        with suppress(Errno):
            await sb.sync()
    return 0


@syscall("syncfs")
async def sys_syncfs(task: Task, fd: Fd) -> int:
    """Make the file system an open file is on stable. man 2 syncfs."""
    async with held_fd(task, fd) as file:
        await file.inode.sb.sync()
    return 0


@syscall("sync_file_range", missing="Writes the whole file's data back.")
async def sys_sync_file_range(task: Task, fd: Fd, offset: Long, nbytes: Long, flags: UInt) -> int:
    """Write part of a file back. man 2 sync_file_range."""
    async with held_fd(task, fd) as file:
        if flags & ~SYNC_FILE_RANGE_KNOWN or offset < 0 or nbytes < 0:
            raise Errno.EINVAL
        inode = file.inode
        if not (inode.is_reg or inode.is_dir or inode.is_symlink or stat.S_ISBLK(inode.mode)):
            raise Errno.ESPIPE
        await file.fsync(data_only=True)
    return 0


@syscall("fadvise64", missing="Advice is checked, and not taken.")
async def sys_fadvise64(task: Task, fd: Fd, offset: Long, length: Size, advice: Int) -> int:
    """Announce how a file will be used. man 2 posix_fadvise."""
    file = task.files.get(fd)
    if stat.S_ISFIFO(file.inode.mode):
        raise Errno.ESPIPE
    if not 0 <= advice <= LAST_ADVICE or length >= 1 << 63:
        raise Errno.EINVAL
    return 0


@syscall("readahead", missing="Nothing is read ahead.")
async def sys_readahead(task: Task, fd: Fd, offset: Long, count: Size) -> int:
    """Bring part of a file into the page cache. man 2 readahead."""
    file = task.files.get(fd)
    if not file.readable:
        raise Errno.EBADF
    if file.mapping is None or not (file.inode.is_reg or stat.S_ISBLK(file.inode.mode)):
        raise Errno.EINVAL
    return 0
