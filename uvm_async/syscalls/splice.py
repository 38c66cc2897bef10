"""splice, tee, vmsplice: data into, out of, and between pipes.

Linux: fs/splice.c.  Linux moves pages; here bytes are moved, which differs only
where somebody changes a page after it was spliced.

Data that was taken out of a pipe and could not be written goes back to its front.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.fs.lifetime import held_fd
from uvm_async.fs.pipe import PAGE_BYTES, SIGPIPE, Pipe, PipeBuffer, PipeFile
from uvm_async.mm.iov import CHUNK_BYTES, KernelIter, UserIter
from uvm_async.sched.wait import block_on
from uvm_async.syscalls.abi import OFF
from uvm_async.syscalls.rw import MAX_RW_BYTES, import_iovec
from uvm_async.syscalls.table import Addr, Fd, Size, UInt, ULong, syscall

if TYPE_CHECKING:
    from uvm_async.fs.inode import File
    from uvm_async.kernel.task import Task

__all__ = ["room_to_write"]

O_APPEND: Final = 0o2000
O_NONBLOCK: Final = 0o4000
SPLICE_F_NONBLOCK: Final = 2
SPLICE_F_ALL: Final = 0xF


async def room_to_write(task: Task, file: PipeFile, *, nonblock: bool) -> int:
    """Free slots of the pipe, waiting for the first. Raises EPIPE (with SIGPIPE), EAGAIN."""
    pipe = file.pipe
    if not pipe.readers:
        task.kernel.send_signal(task, SIGPIPE)
        raise Errno.EPIPE
    if pipe.full:
        if nonblock or file.flags & O_NONBLOCK:
            raise Errno.EAGAIN
        await block_on(pipe.write_wait)
    return pipe.slots - len(pipe.buffers)


async def data_to_read(file: PipeFile, *, nonblock: bool) -> bool:
    """Is there something to read? Waits for it; False at the end. Raises EAGAIN."""
    pipe = file.pipe
    if not pipe.buffers:
        if not pipe.writers:
            return False
        if nonblock or file.flags & O_NONBLOCK:
            raise Errno.EAGAIN
        await block_on(pipe.read_wait)
    return True


def _take(pipe: Pipe, count: int) -> bytes:
    """Take up to `count` bytes out."""
    parts: list[bytes] = []
    while count > 0 and pipe.buffers:
        first = pipe.buffers[0]
        part = first.data[first.read : first.read + count]
        pipe.consume(len(part))
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _put_back(pipe: Pipe, data: bytes) -> None:
    if data:
        pipe.buffers.insert(0, PipeBuffer(data))
        pipe.used_bytes += len(data)
        pipe.read_wait.wake_up()


async def _offset(task: Task, file: File, addr: int) -> int | None:
    """The caller's offset, or None: the file's own position. Raises ESPIPE, EFAULT."""
    if not addr:
        return None
    if isinstance(file, PipeFile):
        raise Errno.ESPIPE
    (value,) = OFF.unpack(await task.mm.copy_from_user(addr, OFF.size))
    if not file.seekable or value < 0:
        raise Errno.EINVAL
    return int(value)


@syscall("splice")
async def sys_splice(
    task: Task, fd_in: Fd, off_in: Addr, fd_out: Fd, off_out: Addr, len: Size, flags: UInt
) -> int:
    """Move data between a pipe and a file, or between pipes. man 2 splice."""
    if not len:
        return 0
    if flags & ~SPLICE_F_ALL:
        raise Errno.EINVAL
    count = min(len, MAX_RW_BYTES)
    nonblock = bool(flags & SPLICE_F_NONBLOCK)
    async with held_fd(task, fd_in) as source, held_fd(task, fd_out) as out:
        start = await _offset(task, source, off_in)
        to = await _offset(task, out, off_out)
        if not source.readable or not out.writable:
            raise Errno.EBADF
        if isinstance(source, PipeFile) and isinstance(out, PipeFile):
            return await _pipe_to_pipe(task, source, out, count, nonblock=nonblock)
        if isinstance(source, PipeFile):
            if out.flags & O_APPEND:
                raise Errno.EINVAL
            done = await _from_pipe(task, source, out, to, count, nonblock=nonblock)
            await _advance(task, off_out, to, done)
        elif isinstance(out, PipeFile):
            done = await _to_pipe(task, source, start, out, count, nonblock=nonblock)
            await _advance(task, off_in, start, done)
        else:
            raise Errno.EINVAL
        return done


async def _advance(task: Task, addr: int, offset: int | None, done: int) -> None:
    if offset is not None:
        await task.mm.copy_to_user(addr, OFF.pack(offset + done))


async def _to_pipe(
    task: Task, source: File, start: int | None, out: PipeFile, count: int, *, nonblock: bool
) -> int:
    room = await room_to_write(task, out, nonblock=nonblock) * PAGE_BYTES
    it = KernelIter(room=min(count, room, CHUNK_BYTES))
    done = await source.read_iter(task, it, start)
    out.pipe.push(bytes(it.data))
    return done


async def _from_pipe(
    task: Task, source: PipeFile, out: File, to: int | None, count: int, *, nonblock: bool
) -> int:
    if not await data_to_read(source, nonblock=nonblock):
        return 0
    total = 0
    while total < count and source.pipe.buffers:
        data = _take(source.pipe, min(count - total, CHUNK_BYTES))
        done = 0
        try:
            pos = None if to is None else to + total
            done = await out.write_iter(task, KernelIter(data), pos)
        except Errno:
            if total:
                break
            raise
        finally:
            _put_back(source.pipe, data[done:])
        total += done
        if done < len(data) or out.can_poll:
            break
    return total


async def _pipe_to_pipe(
    task: Task, source: PipeFile, out: PipeFile, count: int, *, nonblock: bool
) -> int:
    if source.pipe is out.pipe:
        raise Errno.EINVAL
    nonblock = nonblock or bool((source.flags | out.flags) & O_NONBLOCK)
    if not await data_to_read(source, nonblock=nonblock):
        return 0
    await room_to_write(task, out, nonblock=nonblock)
    done = 0
    while done < count and source.pipe.buffers and not out.pipe.full:
        part = _take(source.pipe, min(count - done, source.pipe.buffers[0].left))
        out.pipe.append(part)
        done += len(part)
    out.pipe.read_wait.wake_up()
    return done


@syscall("tee")
async def sys_tee(task: Task, fdin: Fd, fdout: Fd, len: Size, flags: UInt) -> int:
    """Copy from one pipe to another, leaving the data where it is. man 2 tee."""
    if flags & ~SPLICE_F_ALL:
        raise Errno.EINVAL
    if not len:
        return 0
    async with held_fd(task, fdin) as source, held_fd(task, fdout) as out:
        if not source.readable or not out.writable:
            raise Errno.EBADF
        if not isinstance(source, PipeFile) or not isinstance(out, PipeFile):
            raise Errno.EINVAL
        if source.pipe is out.pipe:
            raise Errno.EINVAL
        nonblock = bool(flags & SPLICE_F_NONBLOCK or (source.flags | out.flags) & O_NONBLOCK)
        if not await data_to_read(source, nonblock=nonblock):
            return 0
        await room_to_write(task, out, nonblock=nonblock)
        done = 0
        for buffer in source.pipe.buffers:
            if done >= len or out.pipe.full:
                break
            size = min(buffer.left, len - done)
            out.pipe.append(buffer.data[buffer.read : buffer.read + size])
            done += size
        out.pipe.read_wait.wake_up()
        return done


@syscall("vmsplice", missing="Pages are copied, so SPLICE_F_GIFT does nothing.")
async def sys_vmsplice(task: Task, fd: Fd, uiov: Addr, nr_segs: ULong, flags: UInt) -> int:
    """Put user memory into a pipe, or a pipe's data into user memory. man 2 vmsplice."""
    if flags & ~SPLICE_F_ALL:
        raise Errno.EINVAL
    async with held_fd(task, fd) as file:
        if not isinstance(file, PipeFile):
            raise Errno.EBADF
        segments = await import_iovec(task, uiov, nr_segs)
        it = UserIter(task.mm, segments, write=not file.writable)
        if not it.count:
            return 0
        if not file.writable:
            return await file.read_iter(task, it)
        if flags & SPLICE_F_NONBLOCK:
            await room_to_write(task, file, nonblock=True)
        return await file.write_iter(task, it)
