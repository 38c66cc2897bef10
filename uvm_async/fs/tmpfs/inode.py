"""tmpfs: files, symlinks, and what has no contents.

Linux: mm/shmem.c.  A file's pages are in its page cache only, so they are never
evicted; `allocated` says which there are, for `st_blocks`, the size limit and
SEEK_HOLE.

Invariants:
- `blocks` is 8 for each allocated page;
- no page at or beyond the end of the file is allocated, unless by fallocate;
- seals only ever grow.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, cast

from uvm_async.errors import Errno
from uvm_async.fs.inode import Inode
from uvm_async.mm.filemap import AddressSpace, filemap_write, truncate_pages
from uvm_async.mm.iov import KernelIter

if TYPE_CHECKING:
    from uvm_async.fs.tmpfs.super import TmpfsSuperBlock

__all__ = [
    "F_SEAL_FUTURE_WRITE",
    "F_SEAL_GROW",
    "F_SEAL_SEAL",
    "F_SEAL_SHRINK",
    "F_SEAL_WRITE",
    "TmpfsFile",
    "TmpfsInode",
    "TmpfsSymlink",
]

PAGE_BYTES = 4096
SECTORS_PER_PAGE = PAGE_BYTES // 512
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2

F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE, F_SEAL_FUTURE_WRITE = 1, 2, 4, 8, 16


class TmpfsInode(Inode):
    """Any tmpfs inode; as it is: a device, a FIFO, a socket."""

    def __init__(
        self, sb: TmpfsSuperBlock, ino: int, mode: int, uid: int, gid: int, now_ns: int
    ) -> None:
        super().__init__(sb, ino, mode, uid=uid, gid=gid, now_ns=now_ns)

    @property
    def tmpfs(self) -> TmpfsSuperBlock:
        return cast("TmpfsSuperBlock", self.sb)

    async def evict(self) -> None:
        self.tmpfs.uncharge_inode()

    @property
    def evictable(self) -> bool:
        return False


class TmpfsSymlink(TmpfsInode):
    """A symbolic link."""

    def __init__(
        self, sb: TmpfsSuperBlock, ino: int, target: bytes, uid: int, gid: int, now_ns: int
    ) -> None:
        super().__init__(sb, ino, stat.S_IFLNK | 0o777, uid, gid, now_ns)
        self.target = target
        self.size = len(target)

    async def readlink(self) -> bytes:
        return self.target


class TmpfsFile(TmpfsInode):
    """A regular file."""

    def __init__(
        self, sb: TmpfsSuperBlock, ino: int, mode: int, uid: int, gid: int, now_ns: int
    ) -> None:
        super().__init__(sb, ino, mode, uid, gid, now_ns)
        self.mapping: AddressSpace = AddressSpace(self, sb.kernel.frames)
        self.allocated: dict[int, None] = {}
        self.seals = F_SEAL_SEAL
        self.shared_writable = 0
        """Writable shared mappings, which forbid F_SEAL_WRITE."""

    # -- room

    def _allocate(self, first: int, last: int) -> int:
        """Allocate pages `first` to `last`; answers the first that could not be."""
        sb, allocated = self.tmpfs, self.allocated
        for index in range(first, last + 1):
            if index not in allocated:
                if not sb.has_room():
                    break
                sb.used_pages += 1
                allocated[index] = None
                self.blocks += SECTORS_PER_PAGE
        else:
            return last + 1
        return index

    def _free_from(self, first: int) -> None:
        """Pages from `first` on are no longer allocated."""
        gone = [index for index in self.allocated if index >= first]
        for index in gone:
            del self.allocated[index]
        self.tmpfs.used_pages -= len(gone)
        self.blocks -= len(gone) * SECTORS_PER_PAGE

    async def prepare_write(self, pos: int, length: int) -> int:
        """Raises ENOSPC, EPERM (sealed)."""
        if self.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE):
            raise Errno.EPERM
        if self.seals & F_SEAL_GROW and pos + length > self.size:
            raise Errno.EPERM
        stop = self._allocate(pos // PAGE_BYTES, (pos + length - 1) // PAGE_BYTES)
        allowed = min(stop * PAGE_BYTES - pos, length)
        if allowed <= 0:
            raise Errno.ENOSPC
        return allowed

    # -- size

    async def setattr(
        self,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
        ctime_ns: int | None = None,
    ) -> None:
        if size is not None:
            await self._set_size(size)
        await super().setattr(
            mode=mode, uid=uid, gid=gid, atime_ns=atime_ns, mtime_ns=mtime_ns, ctime_ns=ctime_ns
        )

    async def _set_size(self, size: int) -> None:
        if size < self.size and self.seals & F_SEAL_SHRINK:
            raise Errno.EPERM
        if size > self.size and self.seals & F_SEAL_GROW:
            raise Errno.EPERM
        shrinks = size < self.size
        self.size = size
        if shrinks:
            await truncate_pages(self.mapping, size)
            self._free_from(-(-size // PAGE_BYTES))

    async def fallocate(self, mode: int, offset: int, length: int) -> None:
        """Preallocates; writes zeros where a hole is wanted. Raises ENOSPC, EPERM, EOPNOTSUPP."""
        end = offset + length
        if mode == FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
            await self._punch(offset, min(end, self.size))
            return
        if mode & ~FALLOC_FL_KEEP_SIZE:
            raise Errno.EOPNOTSUPP
        grows = end > self.size and not mode & FALLOC_FL_KEEP_SIZE
        if grows and self.seals & F_SEAL_GROW:
            raise Errno.EPERM
        last = (end - 1) // PAGE_BYTES
        had = dict(self.allocated)
        if self._allocate(offset // PAGE_BYTES, last) <= last:
            self.tmpfs.used_pages -= len(self.allocated) - len(had)
            self.blocks -= (len(self.allocated) - len(had)) * SECTORS_PER_PAGE
            self.allocated = had
            raise Errno.ENOSPC
        if grows:
            self.size = end

    async def _punch(self, start: int, end: int) -> None:
        if self.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE):
            raise Errno.EPERM
        for index in range(start // PAGE_BYTES, -(-end // PAGE_BYTES)):
            if index in self.allocated and start < end:
                first = max(start, index * PAGE_BYTES)
                last = min(end, (index + 1) * PAGE_BYTES)
                await filemap_write(self.mapping, KernelIter(bytes(last - first)), first)

    async def seek_data(self, offset: int, *, hole: bool) -> int:
        """Raises ENXIO where there is no data after `offset`."""
        index, last = offset // PAGE_BYTES, (self.size - 1) // PAGE_BYTES
        while index <= last:
            if (index in self.allocated) is not hole:
                return max(offset, index * PAGE_BYTES)
            index += 1
        if not hole:
            raise Errno.ENXIO
        return self.size

    async def evict(self) -> None:
        self.size = 0
        await truncate_pages(self.mapping, 0)
        self._free_from(0)
        await super().evict()
