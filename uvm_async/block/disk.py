"""A disk: a backing file on the host, behind a request queue.

Linux: drivers/block/loop.c, drivers/block/virtio_blk.c.  Reads that the host has
cached are answered inline (`preadv2` with RWF_NOWAIT); everything else is done by
the machine's workers, so the loop never waits for the host's disk.

Invariants:
- the size is fixed while the disk is open and is whole sectors: a last, partial
  sector of the file is invisible;
- whatever the host answers, the guest sees EIO; the host's own words go to the log;
- a writable disk holds an exclusive lock on its file, a read-only one a shared
  lock: two machines never write one image, and none reads what another writes;
- the descriptor is not state: after a thaw the file is opened again by its path,
  and must be the same file.

Two kinds of `async def` here: `open` and `close` run as jobs of the host's loop (they
are the embedder's side); all others are kernel coroutines.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import io
import os
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from uvm_async.block.bio import (
    SECTOR_BYTES,
    Bio,
    Op,
    discard_bio,
    flush_bio,
    read_bio,
    write_bio,
)
from uvm_async.block.queue import Request, RequestQueue
from uvm_async.errors import Errno, UsageError
from uvm_async.sched.wait import host
from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.kernel.kernel import Kernel

__all__ = ["Disk", "DiskStat"]

INLINE_BYTES = 256 << 10
"""Longest read tried inline: copying it (about 25 µs) must not hold up the loop."""

ZEROS_BYTES = 1 << 20
FALLOC_FL_KEEP_SIZE = 1  # <linux/falloc.h>
FALLOC_FL_PUNCH_HOLE = 2


class DiskStat(Entity):
    """What /proc/diskstats tells. Sectors are 512 bytes."""

    __slots__ = ("discards", "flushes", "read_sectors", "reads", "write_sectors", "writes")

    def __init__(self) -> None:
        self.reads = self.read_sectors = 0
        self.writes = self.write_sectors = 0
        self.discards = self.flushes = 0


class Disk(Entity):
    """The driver of one backing file."""

    TRANSIENT: ClassVar[frozenset[str]] = frozenset({"_file", "_queue", "_nowait"})

    def __init__(self, kernel: Kernel, path: str, *, read_only: bool = False) -> None:
        """Use `Disk.open`."""
        self.kernel = kernel
        self.path = path
        self.read_only = read_only
        self.size = 0
        """Bytes, whole sectors."""
        self.identity: tuple[int, int] | None = None
        """(st_dev, st_ino) of the backing file on the host."""
        self.unflushed = False
        """Something was written that no flush has made stable."""
        self.stat = DiskStat()
        self._file: io.FileIO | None = None
        self._queue: RequestQueue | None = None
        self._nowait: bool | None = True

    # -- the embedder's side: jobs of the host's loop

    @classmethod
    async def open(
        cls, kernel: Kernel, path: str | os.PathLike[str], *, read_only: bool = False
    ) -> Disk:
        """Open a disk image. Raises UsageError if it cannot be a disk."""
        disk = cls(kernel, os.path.abspath(path), read_only=read_only)
        await disk.reopen()
        return disk

    async def reopen(self) -> None:
        """After a thaw: open the backing file again. Raises UsageError if it is not what it was.

        Without this the first transfer does it, and fails with EIO.
        """
        await self._open()

    async def close(self) -> None:
        """Let go of the backing file. What was not flushed is left to the host."""
        if self._file is not None:
            file, self._file = self._file, None
            await self.kernel.workers.run(_close_image, file)

    async def _open(self) -> io.FileIO:
        if self._file is None:
            file, size, identity = await self.kernel.workers.run(
                _open_image, self.path, self.read_only
            )
            if self._file is not None:  # somebody else was faster
                file.close()
                return self._file
            if self.identity is not None and identity != self.identity:
                file.close()
                raise UsageError(f"disk image {self.path}: this is not the file it was")
            if self.identity is not None and size < self.size:
                file.close()
                raise UsageError(f"disk image {self.path}: it has become shorter")
            self._file = file
            self.identity = identity
            self.size = self.size or size
        return self._file

    # -- the kernel's side

    async def submit(self, bios: Sequence[Bio]) -> None:
        """Carry out `bios` and wait for all of them. Raises EIO if any failed, EROFS for a
        write to a read-only disk; nothing is begun if one lies outside the disk (EIO)."""
        for bio in bios:
            if bio.op is Op.FLUSH:
                continue
            if bio.offset % SECTOR_BYTES or bio.length % SECTOR_BYTES or bio.length <= 0:
                raise Errno.EIO("transfer is not whole sectors")
            if bio.end > self.size or bio.offset < 0:
                raise Errno.EIO("transfer beyond the end of the disk")
            if bio.op is not Op.READ and self.read_only:
                raise Errno.EROFS
        slow = bios
        if all(bio.op is Op.READ for bio in bios):
            slow = [bio for bio in bios if not self._read_cached(bio)]
        if slow:
            await host(self._run(slow))
        for bio in bios:
            if bio.error is not None:
                raise bio.error
        self._account(bios)

    async def read(self, offset: int, length: int) -> bytes:
        """`length` bytes at byte `offset`. Raises EIO."""
        bio = read_bio(offset, length)
        await self.submit((bio,))
        return bytes(bio.data)

    async def write(
        self, offset: int, data: bytes, *, preflush: bool = False, fua: bool = False
    ) -> None:
        """Store `data` at byte `offset`. Raises EIO, EROFS."""
        await self.submit((write_bio(offset, data, preflush=preflush, fua=fua),))

    async def flush(self) -> None:
        """Make stable all that was written; answers at once if nothing was. Raises EIO."""
        if self.unflushed and not self.read_only:
            await self.submit((flush_bio(),))

    async def discard(self, offset: int, length: int) -> None:
        """Give the room back to the host; the bytes read as zeros. Raises EIO, EROFS."""
        await self.submit((discard_bio(offset, length),))

    # -- carrying out

    def _read_cached(self, bio: Bio) -> bool:
        """Read what the host has in memory, without waiting; False if it has not all of it."""
        if self._file is None or bio.length > INLINE_BYTES or self._nowait is False:
            return False
        if self._queue is not None and self._queue.conflicts(bio.offset, bio.end):
            return False
        data = bytearray(bio.length)
        try:
            got = os.preadv(self._file.fileno(), [data], bio.offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return False
        except OSError:
            self._nowait = False  # the host's file system cannot do it
            return False
        if got < bio.length:
            return False
        bio.data = data
        bio.error = None
        return True

    async def _run(self, bios: Sequence[Bio]) -> None:
        if self._queue is None:
            self._queue = RequestQueue(self._perform)
        await self._queue.run(bios)

    async def _perform(self, request: Request) -> None:
        try:
            file = await self._open()
            self.unflushed |= request.op in (Op.WRITE, Op.DISCARD)
            await self.kernel.workers.run(_transfer, file.fileno(), request)
            if request.op is Op.FLUSH:
                self.unflushed = False  # nothing is written while a flush runs
        except (OSError, UsageError) as error:
            self.kernel.printk(
                f"disk {self.path}: {request.op.value} of {request.end - request.start} bytes "
                f"at {request.start}: {getattr(error, 'strerror', None) or error}"
            )
            raise OSError(errno.EIO, "I/O error") from error

    def _account(self, bios: Sequence[Bio]) -> None:
        for bio in bios:
            sectors = bio.length // SECTOR_BYTES
            if bio.op is Op.READ:
                self.stat.reads += 1
                self.stat.read_sectors += sectors
            elif bio.op is Op.WRITE:
                self.stat.writes += 1
                self.stat.write_sectors += sectors
            elif bio.op is Op.DISCARD:
                self.stat.discards += 1
            else:
                self.stat.flushes += 1


# Run by workers: plain host calls that may block.


def _open_image(path: str, read_only: bool) -> tuple[io.FileIO, int, tuple[int, int]]:
    flags = (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        file = io.FileIO(os.open(path, flags), "rb" if read_only else "rb+", closefd=True)
    except OSError as error:
        raise UsageError(f"disk image {path}: {error.strerror}") from error
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        file.close()
        raise UsageError(f"disk image {path}: not a regular file")
    try:
        fcntl.flock(file.fileno(), (fcntl.LOCK_SH if read_only else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if error.errno != errno.EWOULDBLOCK:
            raise UsageError(f"disk image {path}: cannot lock: {error.strerror}") from error
        raise UsageError(
            f"disk image {path}: in use by another machine (read-only disks can be shared)"
        ) from error
    size = status.st_size - status.st_size % SECTOR_BYTES
    return file, size, (status.st_dev, status.st_ino)


def _close_image(file: io.FileIO) -> None:
    # The lock would live on in a forked child of the embedder that has the descriptor too.
    fcntl.flock(file.fileno(), fcntl.LOCK_UN)
    file.close()


def _transfer(fd: int, request: Request) -> None:
    if request.op is Op.READ:
        _read_all(fd, request)
    elif request.op is Op.WRITE:
        _write_all(fd, request)
    elif request.op is Op.FLUSH:
        os.fdatasync(fd)
    else:
        _punch(fd, request.start, request.end - request.start)


def _read_all(fd: int, request: Request) -> None:
    buffers = [bytearray(bio.length) for bio in request.bios]
    position = request.start
    views = [memoryview(buffer) for buffer in buffers]
    while views:
        got = os.preadv(fd, views, position)
        if got == 0:
            raise OSError(errno.EIO, "the backing file has become shorter")
        position += got
        views = _advance(views, got)
    for bio, buffer in zip(request.bios, buffers, strict=True):
        bio.data = buffer


def _write_all(fd: int, request: Request) -> None:
    position = request.start
    views = [memoryview(bio.data) for bio in request.bios]
    while views:
        put = os.pwritev(fd, views, position)
        position += put
        views = _advance(views, put)


def _advance(views: list[memoryview], count: int) -> list[memoryview]:
    for at, view in enumerate(views):
        if count < len(view):
            return [view[count:], *views[at + 1 :]]
        count -= len(view)
    return []


def _punch(fd: int, offset: int, length: int) -> None:
    code = _fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length)
    if code == 0:
        return
    if code not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
        raise OSError(code, os.strerror(code))
    zeros = bytes(min(length, ZEROS_BYTES))
    end = offset + length
    while offset < end:
        offset += os.pwrite(fd, zeros[: end - offset], offset)


def _fallocate(fd: int, mode: int, offset: int, length: int) -> int:
    """fallocate(2), which the standard library has only without a mode; answers the errno."""
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length))
    return ctypes.get_errno() if failed else 0
