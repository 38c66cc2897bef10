"""Reading and writing: read, write, their vector and positional forms, lseek.

Linux: fs/read_write.c.  Order of checks: the descriptor and its mode (EBADF), the
buffer's address range (EFAULT), the position (EINVAL, ESPIPE), then the file.

`sys_read` and `sys_write` are the path that the benchmarks take: a table that
only one task uses needs no reference on the file while it is in use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.fs.file import AT_END, RegularFile
from uvm_async.fs.lifetime import held_fd
from uvm_async.mm.iov import UserIter
from uvm_async.syscalls.abi import IOVEC
from uvm_async.syscalls.table import Addr, Fd, Flags, Int, Long, Size, ULong, syscall

if TYPE_CHECKING:
    from uvm_async.fs.inode import File
    from uvm_async.kernel.task import Task

__all__ = ["MAX_RW_BYTES", "TASK_SIZE", "check_range", "import_iovec"]

MAX_RW_BYTES: Final = 0x7FFFF000
"""Most bytes one call moves; more is cut (Linux: MAX_RW_COUNT)."""
TASK_SIZE: Final = (1 << 47) - 4096
IOV_MAX: Final = 1024
RWF_HIPRI, RWF_DSYNC, RWF_SYNC, RWF_NOWAIT, RWF_APPEND = 1, 2, 4, 8, 16
RWF_SUPPORTED: Final = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND


def check_range(addr: int, count: int) -> None:
    """Could it be guest memory at all? Raises EFAULT (Linux: access_ok)."""
    if addr + count > TASK_SIZE:
        raise Errno.EFAULT


@syscall("read")
async def sys_read(task: Task, fd: Fd, buf: Addr, count: Size) -> int:
    """Read from a file descriptor. man 2 read."""
    files = task.files
    if files.users > 1:
        async with held_fd(task, fd) as shared:
            return await _read(task, shared, buf, count)
    return await _read(task, files.get(fd), buf, count)


async def _read(task: Task, file: File, buf: int, count: int) -> int:
    if not file.readable:
        raise Errno.EBADF
    if buf + count > TASK_SIZE:
        raise Errno.EFAULT
    if count > MAX_RW_BYTES:
        count = MAX_RW_BYTES
    return await file.read_iter(task, UserIter(task.mm, [(buf, count)], write=True))


@syscall("write")
async def sys_write(task: Task, fd: Fd, buf: Addr, count: Size) -> int:
    """Write to a file descriptor. man 2 write."""
    files = task.files
    if files.users > 1:
        async with held_fd(task, fd) as shared:
            return await _write(task, shared, buf, count)
    return await _write(task, files.get(fd), buf, count)


async def _write(task: Task, file: File, buf: int, count: int) -> int:
    if not file.writable:
        raise Errno.EBADF
    if buf + count > TASK_SIZE:
        raise Errno.EFAULT
    if count > MAX_RW_BYTES:
        count = MAX_RW_BYTES
    return await file.write_iter(task, UserIter(task.mm, [(buf, count)], write=False))


def _check_pos(file: File, pos: int) -> None:
    if pos < 0:
        raise Errno.EINVAL
    if not file.seekable:
        raise Errno.ESPIPE


@syscall("pread64")
async def sys_pread64(task: Task, fd: Fd, buf: Addr, count: Size, pos: Long) -> int:
    """Read at a position, which does not advance the file's own. man 2 pread."""
    if pos < 0:
        raise Errno.EINVAL
    async with held_fd(task, fd) as file:
        _check_pos(file, pos)
        if not file.readable:
            raise Errno.EBADF
        check_range(buf, count)
        it = UserIter(task.mm, [(buf, min(count, MAX_RW_BYTES))], write=True)
        return await file.read_iter(task, it, pos)


@syscall("pwrite64")
async def sys_pwrite64(task: Task, fd: Fd, buf: Addr, count: Size, pos: Long) -> int:
    """Write at a position; with O_APPEND, at the end all the same. man 2 pwrite."""
    if pos < 0:
        raise Errno.EINVAL
    async with held_fd(task, fd) as file:
        _check_pos(file, pos)
        if not file.writable:
            raise Errno.EBADF
        check_range(buf, count)
        it = UserIter(task.mm, [(buf, min(count, MAX_RW_BYTES))], write=False)
        return await file.write_iter(task, it, pos)


async def import_iovec(task: Task, vec: int, count: int) -> list[tuple[int, int]]:
    """The segments of a `struct iovec` array. Raises EINVAL, EFAULT."""
    if not 0 <= count <= IOV_MAX:
        raise Errno.EINVAL
    raw = await task.mm.copy_from_user(vec, count * IOVEC.size) if count else b""
    segments: list[tuple[int, int]] = []
    total = 0
    for base, length in IOVEC.iter_unpack(raw):
        if length >= 1 << 63:
            raise Errno.EINVAL
        check_range(base, length)
        length = min(length, MAX_RW_BYTES - total)
        total += length
        segments.append((base, length))
    return segments


async def _vector(
    task: Task, fd: int, vec: int, count: int, pos: int | None, flags: int, *, write: bool
) -> int:
    if pos is not None and pos < 0:
        raise Errno.EINVAL
    async with held_fd(task, fd) as file:
        if pos is not None:
            _check_pos(file, pos)
        if not (file.writable if write else file.readable):
            raise Errno.EBADF
        segments = await import_iovec(task, vec, count)
        if flags & ~RWF_SUPPORTED:
            raise Errno.EOPNOTSUPP
        it = UserIter(task.mm, segments, write=not write)
        if not it.count:
            return 0
        if not write:
            return await file.read_iter(task, it, pos)
        if flags & RWF_APPEND and isinstance(file, RegularFile):
            done = await file.write_iter(task, it, AT_END)
            if pos is None:
                file.pos = file.inode.size
        else:
            done = await file.write_iter(task, it, pos)
        if flags & (RWF_DSYNC | RWF_SYNC) and done:
            await file.fsync(data_only=not flags & RWF_SYNC)
        return done


@syscall("readv")
async def sys_readv(task: Task, fd: Fd, vec: Addr, vlen: ULong) -> int:
    """Read into several buffers. man 2 readv."""
    return await _vector(task, fd, vec, vlen, None, 0, write=False)


@syscall("writev")
async def sys_writev(task: Task, fd: Fd, vec: Addr, vlen: ULong) -> int:
    """Write from several buffers. man 2 writev."""
    return await _vector(task, fd, vec, vlen, None, 0, write=True)


@syscall("preadv")
async def sys_preadv(
    task: Task, fd: Fd, vec: Addr, vlen: ULong, pos_low: Long, pos_high: ULong
) -> int:
    """readv at a position. man 2 preadv."""
    return await _vector(task, fd, vec, vlen, pos_low, 0, write=False)


@syscall("pwritev")
async def sys_pwritev(
    task: Task, fd: Fd, vec: Addr, vlen: ULong, pos_low: Long, pos_high: ULong
) -> int:
    """writev at a position. man 2 pwritev."""
    return await _vector(task, fd, vec, vlen, pos_low, 0, write=True)


@syscall("preadv2", missing="RWF_NOWAIT may wait.")
async def sys_preadv2(
    task: Task, fd: Fd, vec: Addr, vlen: ULong, pos_low: Long, pos_high: ULong, flags: Flags
) -> int:
    """preadv with flags; position -1 is the file's own. man 2 preadv2."""
    pos = None if pos_low == -1 else pos_low
    return await _vector(task, fd, vec, vlen, pos, flags, write=False)


@syscall("pwritev2", missing="RWF_NOWAIT may wait.")
async def sys_pwritev2(
    task: Task, fd: Fd, vec: Addr, vlen: ULong, pos_low: Long, pos_high: ULong, flags: Flags
) -> int:
    """pwritev with flags; position -1 is the file's own. man 2 pwritev2."""
    pos = None if pos_low == -1 else pos_low
    return await _vector(task, fd, vec, vlen, pos, flags, write=True)


@syscall("lseek")
async def sys_lseek(task: Task, fd: Fd, offset: Long, whence: Int) -> int:
    """Reposition a file's offset. man 2 lseek."""
    async with held_fd(task, fd) as file:
        if not 0 <= whence <= 4:
            raise Errno.EINVAL
        return await file.llseek(offset, whence)
