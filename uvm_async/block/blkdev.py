"""Block devices: /dev/vda and its like, as the guest sees them.

Linux: block/bdev.c, block/fops.c, block/ioctl.c, drivers/block/virtio_blk.c.  A
`BlockDevice` joins a disk, its buffer cache, a name and a device number; opening
the node gives a `BlockFile` that reads and writes through the same buffers as a
mounted file system's metadata, so the two never disagree about those.

Invariants:
- while a file system is mounted, it alone decides the order in which buffers are
  written (`holder.commit`);
- file contents that a file system writes past the buffers drop what was cached of
  those blocks (`BlockDevice.write_data`).
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from uvm_async.block.bio import SECTOR_BYTES, Bio, Op
from uvm_async.block.buffer import LIMIT_BYTES, BufferCache, BufferHolder
from uvm_async.block.disk import Disk
from uvm_async.errors import Errno
from uvm_async.fs.inode import File
from uvm_async.mm.iov import CHUNK_BYTES
from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.fs.inode import Path
    from uvm_async.kernel.kernel import Kernel
    from uvm_async.kernel.task import Task
    from uvm_async.mm.iov import IovIter

__all__ = ["VIRTBLK_MAJOR", "BlockDevice", "BlockFile", "attach_disk", "disk_name"]

VIRTBLK_MAJOR = 254
"""The major that Linux most often gives virtio_blk; it has no number of its own."""

MINORS_PER_DISK = 16

O_EXCL = 0o200
CAP_SYS_ADMIN = 1 << 21
CAP_SYS_RAWIO = 1 << 17

# <linux/fs.h>, x86-64
BLKROSET = 0x125D
BLKROGET = 0x125E
BLKRRPART = 0x125F
BLKGETSIZE = 0x1260
BLKFLSBUF = 0x1261
BLKRASET = 0x1262
BLKRAGET = 0x1263
BLKSSZGET = 0x1268
BLKDISCARD = 0x1277
BLKIOMIN = 0x1278
BLKIOOPT = 0x1279
BLKALIGNOFF = 0x127A
BLKPBSZGET = 0x127B
BLKDISCARDZEROES = 0x127C
BLKROTATIONAL = 0x127E
BLKZEROOUT = 0x127F
BLKBSZGET = 0x80081270
BLKBSZSET = 0x40081271
BLKGETSIZE64 = 0x80081272


def disk_name(index: int) -> bytes:
    """vda, vdb ... vdz, vdaa ..."""
    name = b""
    index += 1
    while index:
        index, digit = divmod(index - 1, 26)
        name = b"%c" % (ord("a") + digit) + name
    return b"vd" + name


class BlockDevice(Entity):
    """One disk as the guest knows it (Linux: struct block_device)."""

    MODE: ClassVar[int] = stat.S_IFBLK | 0o660
    """Of its node, which belongs to root and the group `disk`."""

    def __init__(self, disk: Disk, index: int, *, limit_bytes: int = LIMIT_BYTES) -> None:
        """`index` 0 is vda. `limit_bytes` bounds the buffer cache."""
        self.disk = disk
        self.name = disk_name(index)
        self.rdev = os.makedev(VIRTBLK_MAJOR, index * MINORS_PER_DISK)
        self.cache = BufferCache(disk, _block_size_for(disk.size), limit_bytes=limit_bytes)
        self.holder: BufferHolder | None = None
        """The mounted file system, which orders the writing of buffers."""
        self.opens = 0
        self.guest_read_only = False
        """Set by BLKROSET."""

    @property
    def read_only(self) -> bool:
        return self.disk.read_only or self.guest_read_only

    async def sync(self) -> None:
        """Write all dirty buffers and wait until they are stable. Raises EIO."""
        if self.holder is not None:
            await self.holder.commit()
        await self.cache.sync()

    async def claim(self, holder: BufferHolder, block_size: int) -> None:
        """Mount: `holder` owns the buffers from now on, in blocks of `block_size`. Raises EBUSY."""
        if self.holder is not None:
            raise Errno.EBUSY
        self.holder = holder
        while self.cache.dirty:
            await self.cache.sync()
        self.cache.set_block_size(block_size)

    def release(self) -> None:
        """Unmounted: nobody orders the buffers any more."""
        self.holder = None

    async def write_data(self, bios: Sequence[Bio]) -> None:
        """Write file contents past the buffer cache. Raises EIO, EROFS."""
        size = self.cache.block_size
        for bio in bios:
            if bio.op is not Op.READ:
                self.cache.forget(bio.offset // size, -(-bio.length // size))
        await self.disk.submit(bios)

    async def open_node(self, task: Task, path: Path | None, flags: int) -> BlockFile:
        """A special file of it is opened. Raises EBUSY (O_EXCL while mounted).

        A read-only device may be opened for writing; it is writing that fails then (EPERM).
        """
        if flags & O_EXCL and self.holder is not None:
            raise Errno.EBUSY
        self.opens += 1
        return BlockFile(self, path, flags)


def attach_disk(kernel: Kernel, disk: Disk, *, limit_bytes: int = LIMIT_BYTES) -> BlockDevice:
    """Give a disk the next free name and a driver behind its number; the node in /dev is the
    caller's to make (`devfs.register_device` with `name`, `MODE` and `rdev` of the answer)."""
    table = kernel.mounts.devices
    index = sum(isinstance(driver, BlockDevice) for driver in table.drivers.values())
    device = BlockDevice(disk, index, limit_bytes=limit_bytes)
    table.register(stat.S_IFBLK, device.rdev, device)
    return device


def _block_size_for(size: int) -> int:
    """The largest block up to 4 KiB that divides the disk, as Linux chooses it."""
    block_size = SECTOR_BYTES
    while block_size < 4096 and size % (block_size * 2) == 0:
        block_size *= 2
    return block_size


class BlockFile(File):
    """An open block device."""

    seekable = True

    def __init__(self, device: BlockDevice, path: Path | None, flags: int) -> None:
        super().__init__(path, flags)
        self.device = device

    async def read_iter(self, task: Task, it: IovIter, pos: int | None = None) -> int:
        """read(2), pread(2). Raises EIO, EFAULT."""
        cache, size = self.device.cache, self.device.disk.size
        start = self.pos if pos is None else pos
        done = 0
        try:
            while it.count > 0 and start + done < size:
                step = min(it.count, CHUNK_BYTES, size - start - done)
                data = await cache.read_bytes(start + done, step)
                copied = await it.copy_to(data)
                done += copied
                if copied < step:
                    break
        except (Errno.EIO, Errno.EFAULT):
            if not done:
                raise
        if pos is None:
            self.pos = start + done
        return done

    async def write_iter(self, task: Task, it: IovIter, pos: int | None = None) -> int:
        """write(2), pwrite(2). Raises ENOSPC at the end of the device, EPERM if it was made
        read-only, EIO, EFAULT."""
        device = self.device
        if device.read_only:
            raise Errno.EPERM
        start = self.pos if pos is None else pos
        if it.count and start >= device.disk.size:
            raise Errno.ENOSPC
        done = 0
        try:
            while it.count > 0 and start + done < device.disk.size:
                step = min(it.count, CHUNK_BYTES, device.disk.size - start - done)
                data = await it.copy_from(step)
                await device.cache.write_bytes(start + done, data)
                done += len(data)
                if device.cache.over_limit:
                    await device.sync()
                if len(data) < step:
                    break
        except (Errno.EIO, Errno.EFAULT):
            if not done:
                raise
        if pos is None:
            self.pos = start + done
        if self.flags & os.O_DSYNC and done:
            await self.fsync()
        return done

    async def llseek(self, offset: int, whence: int) -> int:
        """Raises EINVAL."""
        if whence not in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END):
            raise Errno.EINVAL
        size = self.device.disk.size
        pos = offset + (0, self.pos, size)[whence]
        if not 0 <= pos <= size:
            raise Errno.EINVAL
        self.pos = pos
        return pos

    async def fsync(self, *, data_only: bool = False) -> None:
        """Everything dirty of this device is stable afterwards. Raises EIO."""
        await self.device.sync()
        await self.device.disk.flush()

    async def release(self) -> None:
        self.device.opens -= 1
        if self.writable and self.device.opens == 0:
            # The driver has logged it, and the buffers stay dirty.
            with contextlib.suppress(Errno.EIO):
                await self.device.sync()

    async def ioctl(self, task: Task, cmd: int, arg: int) -> int:
        """Raises ENOTTY, EFAULT, EACCES, EINVAL, EBUSY, EBADF."""
        answer = self._get(cmd)
        if answer is not None:
            await task.mm.copy_to_user(arg, answer)
            return 0
        if cmd in (BLKDISCARD, BLKZEROOUT):
            start, length = struct.unpack("<QQ", await task.mm.copy_from_user(arg, 16))
            return await self._erase(cmd, start, length)
        if cmd == BLKFLSBUF:
            _require(task, CAP_SYS_ADMIN)
            await self.device.sync()
            self.device.cache.drop_clean()
            return 0
        if cmd == BLKRRPART:
            _require(task, CAP_SYS_ADMIN)
            if self.device.holder is not None:
                raise Errno.EBUSY
            return 0  # read again: there are no partitions
        if cmd == BLKROSET:
            _require(task, CAP_SYS_ADMIN)
            (flag,) = struct.unpack("<i", await task.mm.copy_from_user(arg, 4))
            self.device.guest_read_only = bool(flag)
            return 0
        if cmd == BLKBSZSET:
            return await self._set_block_size(task, arg)
        if cmd == BLKRASET:
            _require(task, CAP_SYS_ADMIN)
            return 0
        raise Errno.ENOTTY

    def _get(self, cmd: int) -> bytes | None:
        """The answers that are one number."""
        disk = self.device.disk
        numbers: dict[int, tuple[str, int]] = {
            BLKROGET: ("<i", int(self.device.read_only)),
            BLKGETSIZE: ("<Q", disk.size // SECTOR_BYTES),
            BLKGETSIZE64: ("<Q", disk.size),
            BLKSSZGET: ("<i", SECTOR_BYTES),
            BLKPBSZGET: ("<I", SECTOR_BYTES),
            BLKBSZGET: ("<i", self.device.cache.block_size),
            BLKRAGET: ("<Q", 256),
            BLKIOMIN: ("<I", SECTOR_BYTES),
            BLKIOOPT: ("<I", 0),
            BLKALIGNOFF: ("<i", 0),
            BLKDISCARDZEROES: ("<I", 0),
            BLKROTATIONAL: ("<H", 0),
        }
        found = numbers.get(cmd)
        return None if found is None else struct.pack(*found)

    async def _erase(self, cmd: int, start: int, length: int) -> int:
        device = self.device
        if not self.writable:
            raise Errno.EBADF
        if device.read_only:
            raise Errno.EPERM
        if start % SECTOR_BYTES or length % SECTOR_BYTES or length == 0:
            raise Errno.EINVAL
        if start + length > device.disk.size:
            raise Errno.EINVAL
        size = device.cache.block_size
        # Blocks that the range touches in part must reach the disk before it is erased.
        await device.sync()
        device.cache.forget(start // size, -(-(start + length) // size) - start // size)
        await device.disk.discard(start, length)
        return 0

    async def _set_block_size(self, task: Task, arg: int) -> int:
        _require(task, CAP_SYS_ADMIN)
        (size,) = struct.unpack("<i", await task.mm.copy_from_user(arg, 4))
        if size < SECTOR_BYTES or size > 4096 or size & (size - 1):
            raise Errno.EINVAL
        if self.device.holder is not None:
            raise Errno.EBUSY
        await self.device.cache.sync()
        self.device.cache.set_block_size(size)
        return 0


def _require(task: Any, capability: int) -> None:
    if not task.cred.capabilities & capability:
        raise Errno.EACCES
