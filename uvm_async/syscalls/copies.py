"""Copies within the kernel: sendfile, copy_file_range.

Linux: fs/read_write.c.  Data goes through kernel memory in chunks; a chunk that
has been read is written in full, or the position of the source says how much was.

A destination that may block (a terminal, a socket) gets one chunk per call: its own
`task.restart` says how far that one has come, and the caller is told a short count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.fs.attr import check_size
from uvm_async.fs.lifetime import held_fd
from uvm_async.fs.pipe import PAGE_BYTES, PipeFile
from uvm_async.mm.iov import CHUNK_BYTES, KernelIter
from uvm_async.syscalls.abi import OFF
from uvm_async.syscalls.rw import MAX_RW_BYTES
from uvm_async.syscalls.splice import room_to_write
from uvm_async.syscalls.table import Addr, Fd, Size, UInt, syscall

if TYPE_CHECKING:
    from uvm_async.fs.inode import File
    from uvm_async.kernel.task import Task

__all__ = ["Offset"]

O_APPEND: Final = 0o2000
O_NONBLOCK: Final = 0o4000
MAX_BYTES: Final = (1 << 63) - 1


@dataclass(slots=True)
class Offset:
    """Where a call reads or writes: the file's own position, or a number of the caller's."""

    file: File
    addr: int
    value: int

    @classmethod
    async def fetch(cls, task: Task, file: File, addr: int) -> Offset:
        """Raises EFAULT."""
        if not addr:
            return cls(file, 0, file.pos)
        (value,) = OFF.unpack(await task.mm.copy_from_user(addr, OFF.size))
        return cls(file, addr, value)

    async def store(self, task: Task) -> None:
        """Tell where it has come to. Raises EFAULT."""
        if self.addr:
            await task.mm.copy_to_user(self.addr, OFF.pack(self.value))
        else:
            self.file.pos = self.value


@syscall("sendfile")
async def sys_sendfile(task: Task, out_fd: Fd, in_fd: Fd, offset: Addr, count: Size) -> int:
    """Copy from a file to a descriptor. man 2 sendfile."""
    async with held_fd(task, in_fd) as source:
        if not source.readable:
            raise Errno.EBADF
        if offset and not source.seekable:
            raise Errno.ESPIPE
        at = await Offset.fetch(task, source, offset)
        if at.value < 0:
            raise Errno.EINVAL
        async with held_fd(task, out_fd) as out:
            if not out.writable:
                raise Errno.EBADF
            if not source.seekable or source.path is None or source.inode.is_dir:
                raise Errno.EINVAL
            if out.flags & O_APPEND and not isinstance(out, PipeFile):
                raise Errno.EINVAL
            done = await _send(task, source, at, out, min(count, MAX_RW_BYTES))
            await at.store(task)
            return done


async def _send(task: Task, source: File, at: Offset, out: File, count: int) -> int:
    if isinstance(out, PipeFile):
        room = await room_to_write(task, out, nonblock=False) * PAGE_BYTES
        it = KernelIter(room=min(count, room))
        done = await source.read_iter(task, it, at.value)
        out.pipe.push(bytes(it.data))
        at.value += done
        return done
    total = 0
    while total < count:
        it = KernelIter(room=min(count - total, CHUNK_BYTES))
        if not await source.read_iter(task, it, at.value):
            break
        try:
            done = await out.write_iter(task, KernelIter(bytes(it.data)))
        except Errno:
            if total:
                break
            raise
        total += done
        at.value += done
        if done < len(it.data) or out.can_poll:
            break
    return total


def _check_copy(source: File, out: File) -> None:
    """Linux: generic_file_rw_checks, generic_copy_file_checks."""
    for file in (source, out):
        if file.path is None:
            raise Errno.EINVAL
        if file.inode.is_dir:
            raise Errno.EISDIR
    if not (source.inode.is_reg and out.inode.is_reg):
        raise Errno.EINVAL
    if not source.readable or not out.writable or out.flags & O_APPEND:
        raise Errno.EBADF
    if source.inode.sb is not out.inode.sb:
        raise Errno.EXDEV


@syscall("copy_file_range")
async def sys_copy_file_range(
    task: Task, fd_in: Fd, off_in: Addr, fd_out: Fd, off_out: Addr, len: Size, flags: UInt
) -> int:
    """Copy from one file to another on the same file system. man 2 copy_file_range."""
    async with held_fd(task, fd_in) as source, held_fd(task, fd_out) as out:
        start = await Offset.fetch(task, source, off_in)
        to = await Offset.fetch(task, out, off_out)
        if flags:
            raise Errno.EINVAL
        _check_copy(source, out)
        if start.value < 0 or to.value < 0:
            raise Errno.EINVAL
        if start.value + len > MAX_BYTES or to.value + len > MAX_BYTES:
            raise Errno.EOVERFLOW
        count = min(len, max(source.inode.size - start.value, 0), MAX_RW_BYTES)
        if count:
            check_size(task, to.value + 1)
        if source.inode is out.inode and abs(start.value - to.value) < count:
            raise Errno.EINVAL
        done = await _copy_range(task, start, to, count)
        await start.store(task)
        await to.store(task)
        return done


async def _copy_range(task: Task, start: Offset, to: Offset, count: int) -> int:
    total = 0
    while total < count:
        it = KernelIter(room=min(count - total, CHUNK_BYTES))
        if not await start.file.read_iter(task, it, start.value):
            break
        try:
            done = await to.file.write_iter(task, KernelIter(bytes(it.data)), to.value)
        except Errno:
            if total:
                break
            raise
        total += done
        start.value += done
        to.value += done
        if done < len(it.data):
            break
    return total
