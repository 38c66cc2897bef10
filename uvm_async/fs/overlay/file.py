"""overlay: files and symlinks.

Invariants:
- a page that is not in `allocated` is what the lower file has there, cut at
  `lower_bytes`; so it may be dropped from the cache and read again;
- `lower_bytes` only ever shrinks.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.fs.inode import File, Inode, Path
from uvm_async.fs.tmpfs.inode import PAGE_BYTES, SECTORS_PER_PAGE, TmpfsFile, TmpfsInode
from uvm_async.mm.filemap import filemap_write
from uvm_async.mm.iov import KernelIter

if TYPE_CHECKING:
    from uvm_async.fs.overlay.super import OverlaySuperBlock
    from uvm_async.kernel.task import Task

__all__ = ["OverlayFile", "OverlaySymlink"]

O_ACCMODE: Final = 3
O_TRUNC: Final = 0o1000


class OverlaySymlink(TmpfsInode):
    """A symlink of the lower layer."""

    def __init__(self, sb: OverlaySuperBlock, ino: int, uid: int, gid: int) -> None:
        super().__init__(sb, ino, stat.S_IFLNK | 0o777, uid, gid, 0)
        self.lower: Inode | None = None

    def adopt(self, lower: Inode) -> None:
        """It is what `lower` is in the lower layer."""
        self.lower = lower

    async def readlink(self) -> bytes:
        assert self.lower is not None
        return await self.lower.readlink()

    async def evict(self) -> None:
        """It was never charged."""


class OverlayFile(TmpfsFile):
    """A regular file, which may have begun in the lower layer."""

    def __init__(
        self, sb: OverlaySuperBlock, ino: int, mode: int, uid: int, gid: int, now_ns: int
    ) -> None:
        self.lower: Inode | None = None
        self.lower_bytes = 0
        super().__init__(sb, ino, mode, uid, gid, now_ns)

    def adopt(self, lower: Inode) -> None:
        """It begins as what `lower` is in the lower layer."""
        self.lower = lower
        self.lower_bytes = lower.size

    async def open(self, task: Task, path: Path, flags: int) -> File:
        truncates = flags & O_TRUNC and flags & O_ACCMODE
        if self.lower_bytes and not truncates:
            await self.prepare_read()
        return await super().open(task, path, flags)

    async def prepare_read(self) -> None:
        if self.lower is not None and self.lower_bytes:
            await self.lower.prepare_read()

    @property
    def blocks(self) -> int:
        """The lower file's, up to where it is still looked through, and the pages beyond."""
        lower_pages = -(-self.lower_bytes // PAGE_BYTES)
        if self.lower is None or not lower_pages:
            return len(self.allocated) * SECTORS_PER_PAGE
        added = sum(1 for index in self.allocated if index >= lower_pages)
        return min(self.lower.blocks, lower_pages * SECTORS_PER_PAGE) + added * SECTORS_PER_PAGE

    @blocks.setter
    def blocks(self, value: int) -> None:
        """It is derived: what tmpfs counts is in `allocated` too."""

    # -- contents

    def _has_page(self, index: int) -> bool:
        return index in self.allocated or index * PAGE_BYTES < self.lower_bytes

    async def read_pages(self, index: int, count: int) -> bytes | None:
        length = min(count * PAGE_BYTES, self.lower_bytes - index * PAGE_BYTES)
        if self.lower is None or length <= 0:
            return None
        data = await self.lower.read_pages(index, -(-length // PAGE_BYTES))
        return data[:length] if data is not None else None

    @property
    def evictable(self) -> bool:
        return not self.allocated

    async def write_pages(self, index: int, data: bytes) -> None:
        """Reclaim would like to drop pages that were changed without having been allocated (their
        end was cut off, or a mapping wrote to them). They are the only copy, so they stay. Raises
        ENOSPC."""
        last = index + (len(data) - 1) // PAGE_BYTES
        for number in range(index, last + 1):
            if number not in self.allocated:
                self.tmpfs.used_pages += 1
                self.allocated[number] = None
        raise Errno.ENOSPC

    async def _set_size(self, size: int) -> None:
        self.lower_bytes = min(self.lower_bytes, size)
        await super()._set_size(size)

    async def _punch(self, start: int, end: int) -> None:
        for index in range(start // PAGE_BYTES, -(-end // PAGE_BYTES)):
            if self._has_page(index):
                first = max(start, index * PAGE_BYTES)
                last = min(end, (index + 1) * PAGE_BYTES)
                await filemap_write(self.mapping, KernelIter(bytes(last - first)), first)

    async def seek_data(self, offset: int, *, hole: bool) -> int:
        index, last = offset // PAGE_BYTES, (self.size - 1) // PAGE_BYTES
        while index <= last:
            if self._has_page(index) is not hole:
                return max(offset, index * PAGE_BYTES)
            index += 1
        if not hole:
            raise Errno.ENXIO
        return self.size

    async def evict(self) -> None:
        self.lower_bytes = 0
        if self.lower is not None:
            self.tmpfs.used_inodes += 1  # it was not charged; the base gives one back
        await super().evict()
