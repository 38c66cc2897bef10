"""Character devices: the memory devices, and how any device gets its number and its node.

Linux: drivers/char/mem.c, drivers/char/random.c, fs/char_dev.c.  Which driver
stands behind a number is the machine's `DeviceTable` (fs/devices.py); a driver is
an object that opens a node.

Invariant: a driver has no state of its own but what it was made with; what an open
file needs is in the file.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any, ClassVar, Final

from uvm_async.errors import Errno
from uvm_async.fs.inode import File, Path
from uvm_async.mm.filemap import AddressSpace
from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.fs.devices import DeviceTable
    from uvm_async.kernel.task import Task
    from uvm_async.mm.iov import IovIter

__all__ = [
    "MEMORY_DEVICES",
    "CharDevice",
    "FullFile",
    "NullFile",
    "RandomFile",
    "ZeroFile",
    "register_memory_devices",
]

CHUNK_BYTES: Final = 65536
ENTROPY_BITS: Final = 256
RNDGETENTCNT: Final = 0x80045200
SEEK_SET, SEEK_CUR = 0, 1


class CharDevice(Entity):
    """A driver whose opening makes a file of one class."""

    def __init__(self, make: type[File]) -> None:
        self.make = make

    async def open_node(self, task: Task, path: Path, flags: int) -> File:
        return self.make(path, flags)


class NullFile(File):
    """/dev/null: reads end at once, writes vanish unseen (not even a bad address is noticed)."""

    seekable: ClassVar[bool] = True
    can_poll: ClassVar[bool] = False

    async def read_iter(self, task: Task, it: IovIter, pos: int | None = None) -> int:
        return 0

    async def write_iter(self, task: Task, it: IovIter, pos: int | None = None) -> int:
        count = it.count
        it.advance(count)
        return count

    async def llseek(self, offset: int, whence: int) -> int:
        self.pos = 0
        return 0


class ZeroFile(NullFile):
    """/dev/zero: reads give zeros; a mapping of it is anonymous memory (this open file's)."""

    def __init__(self, path: Path, flags: int) -> None:
        super().__init__(path, flags)
        self.size = 1 << 62
        self.writers = 0
        self.pages: AddressSpace | None = None

    async def read_iter(self, task: Task, it: IovIter, pos: int | None = None) -> int:
        zeros = bytes(min(it.count, CHUNK_BYTES))
        done = 0
        while it.count:
            want = min(it.count, CHUNK_BYTES)
            try:
                copied = await it.copy_to(zeros[:want])
            except Errno.EFAULT:
                if not done:
                    raise
                break
            done += copied
            if copied < want:
                break
        return done

    @property
    def mapping(self) -> AddressSpace | None:
        if self.pages is None:
            self.pages = AddressSpace(self, self.inode.sb.kernel.frames)
        return self.pages

    async def release(self) -> None:
        if self.pages is not None:
            self.pages.drop_all()

    # -- as a BackingStore

    async def read_pages(self, index: int, count: int) -> bytes | None:
        return None

    async def prepare_write(self, pos: int, length: int) -> int:
        return length

    def mapped_write(self) -> None:
        """Nothing remembers when."""

    async def write_pages(self, index: int, data: bytes) -> None:
        raise Errno.EIO

    @property
    def evictable(self) -> bool:
        return False


class FullFile(ZeroFile):
    """/dev/full: the disk that has no room."""

    async def write_iter(self, task: Task, it: IovIter, pos: int | None = None) -> int:
        raise Errno.ENOSPC

    @property
    def mapping(self) -> AddressSpace | None:
        return None


class RandomFile(File):
    """/dev/random and /dev/urandom: the machine's entropy, which never runs out."""

    seekable: ClassVar[bool] = True

    async def read_iter(self, task: Task, it: IovIter, pos: int | None = None) -> int:
        done = 0
        while it.count:
            want = min(it.count, CHUNK_BYTES)
            try:
                copied = await it.copy_to(task.kernel.entropy.bytes(want))
            except Errno.EFAULT:
                if not done:
                    raise
                break
            done += copied
            if copied < want:
                break
        return done

    async def write_iter(self, task: Task, it: IovIter, pos: int | None = None) -> int:
        """What is written is looked at and thrown away: the seed is the machine's."""
        done = 0
        while it.count:
            want = min(it.count, CHUNK_BYTES)
            try:
                got = len(await it.copy_from(want))
            except Errno.EFAULT:
                if not done:
                    raise
                break
            done += got
            if got < want:
                break
        return done

    async def llseek(self, offset: int, whence: int) -> int:
        return self.pos

    async def ioctl(self, task: Task, cmd: int, arg: int) -> int:
        """RNDGETENTCNT. Raises EINVAL for others, EFAULT."""
        if cmd != RNDGETENTCNT:
            raise Errno.EINVAL
        await task.mm.copy_to_user(arg, ENTROPY_BITS.to_bytes(4, "little"))
        return 0


MEMORY_DEVICES: Final[tuple[tuple[bytes, int, type[Any]], ...]] = (
    (b"null", os.makedev(1, 3), NullFile),
    (b"zero", os.makedev(1, 5), ZeroFile),
    (b"full", os.makedev(1, 7), FullFile),
    (b"random", os.makedev(1, 8), RandomFile),
    (b"urandom", os.makedev(1, 9), RandomFile),
)
"""Name in /dev, number (Linux: Documentation/admin-guide/devices.txt), class of files."""


def register_memory_devices(table: DeviceTable) -> None:
    """Every machine has them."""
    for _, rdev, make in MEMORY_DEVICES:
        table.register(stat.S_IFCHR, rdev, CharDevice(make))
