"""Regular files: between the page cache and the disk.

Linux: fs/ext4/inode.c, delayed allocation.  Writing only *reserves* blocks
(`prepare_write`); they get their place when the pages are written back
(`write_pages`), in long runs, and their data is on its way before any metadata
names them.

Invariants:
- every dirty page has its blocks allocated or reserved (pages that a guest dirties
  through mmap too, if the fault handler calls `prepare_write`);
- nothing is allocated beyond the end of the file;
- write-back holds a handle until the data is written: a commit, which waits for all
  handles, never makes metadata stable that names blocks not yet written;
- beyond the end of the file, the last block on the disk is zeros, or will be (its page
  is dirty);
- no lock and no handle of ours is held while page cache code that may sleep runs.

Lock order: the VFS's inode lock, handle, `map_lock`.
"""

from __future__ import annotations

from typing import ClassVar

from uvm_async.block.bio import Bio, read_bio, write_bio
from uvm_async.errors import Errno
from uvm_async.fs.ext2 import blockmap
from uvm_async.fs.ext2.blockmap import Run
from uvm_async.fs.ext2.inode import Ext2Inode
from uvm_async.fs.ext2.layout import InodeRecord
from uvm_async.fs.ext2.superblock import Ext2SuperBlock
from uvm_async.mm.filemap import AddressSpace, filemap_fsync, truncate_pages

__all__ = ["Ext2File"]

PAGE_BYTES = 4096


class Ext2File(Ext2Inode):
    """A regular file."""

    HAS_MAP: ClassVar[bool] = True

    def __init__(self, sb: Ext2SuperBlock, ino: int, record: InodeRecord) -> None:
        super().__init__(sb, ino, record)
        self.mapping = AddressSpace(self, sb.kernel.frames)
        object.__setattr__(self, "size", record.i_size | record.i_size_high << 32)

    def check(self) -> None:
        super().check()
        if self.size > self.ext2.max_file_bytes:
            raise self.ext2.corrupt(f"inode {self.ino}: size {self.size}")

    # -- the page cache's view

    async def read_pages(self, index: int, count: int) -> bytes | None:
        size = self.ext2.block_size
        start = index * PAGE_BYTES
        length = min(count * PAGE_BYTES, self.size - start)
        if length <= 0:
            return None
        first = start // size
        runs = await blockmap.map_blocks(self, first, -(-length // size))
        bios = [read_bio(run.phys * size, run.count * size) for run in runs if run.phys]
        if not bios:
            return None
        await self.ext2.device.disk.submit(bios)
        parts: list[bytes | bytearray | memoryview] = []
        filled = iter(bios)
        for run in runs:
            parts.append(next(filled).data if run.phys else bytes(run.count * size))
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        return bytes(data[:length])

    async def prepare_write(self, pos: int, length: int) -> int:
        sb = self.ext2
        if sb.read_only:
            raise Errno.EROFS
        if pos >= sb.max_file_bytes:
            raise Errno.EFBIG
        end = min(pos + length, sb.max_file_bytes)
        reached = await self._reserve(pos, end)
        if reached <= pos and await sb.unfreeze():
            reached = await self._reserve(pos, end)
        if reached <= pos:
            raise Errno.ENOSPC
        sb.allow_large_file(end)
        return reached - pos

    async def _reserve(self, pos: int, end: int) -> int:
        """Reserve blocks for bytes [pos, end); answers up to where there was room."""
        sb = self.ext2
        size = sb.block_size
        first = pos // size
        async with self.map_lock:
            for run in await blockmap.map_blocks(self, first, -(-end // size) - first):
                if run.phys:
                    continue
                refused = await self._reserve_hole(run)
                if refused is not None:
                    return max(pos, refused * size)
        return end

    async def _reserve_hole(self, hole: Run) -> int | None:
        """Reserve a hole's blocks; answers the first for which there was no room, or None."""
        sb = self.ext2
        lblk, last = hole.lblk, hole.lblk + hole.count
        while lblk < last:
            nodes, alike = await blockmap.missing_nodes(self, lblk)
            for number in range(lblk, min(last, lblk + alike)):
                if number in self.reserved:
                    continue
                wanted = [key for key in nodes if key not in self.reserved_nodes]
                if sb.available_blocks < 1 + len(wanted):
                    self.count_blocks()
                    return number
                self.reserved[number] = None
                self.reserved_nodes.update(dict.fromkeys(wanted))
                sb.reserved_blocks += 1 + len(wanted)
            lblk += alike
        self.count_blocks()
        return None

    async def write_pages(self, index: int, data: bytes) -> None:
        sb = self.ext2
        async with sb.handle() as handle:
            try:
                bios = await self._place(index, data)
            except Errno.ENOSPC:
                if not sb.frozen_blocks:
                    raise
                await handle.restart()
                bios = await self._place(index, data)
            sb.check_sound()
            if bios:
                await sb.device.write_data(bios)

    async def _place(self, index: int, data: bytes) -> list[Bio]:
        """Give the blocks of these pages their places; answers the writes."""
        size = self.ext2.block_size
        start = index * PAGE_BYTES
        async with self.map_lock:
            # Under the lock: a truncate that comes later frees what is placed here.
            length = min(len(data), self.size - start)
            if length <= 0:
                return []
            first = start // size
            count = -(-length // size)
            padded = data[:length] + bytes(count * size - length)
            placed: list[Run] = []
            for run in await blockmap.map_blocks(self, first, count):
                if run.phys:
                    placed.append(run)
                else:
                    at = (run.lblk - first) * size
                    placed += await self._fill_hole(run, padded[at : at + run.count * size])
        return [
            write_bio(
                run.phys * size,
                padded[(run.lblk - first) * size : (run.lblk - first + run.count) * size],
            )
            for run in placed
        ]

    async def _fill_hole(self, hole: Run, data: bytes) -> list[Run]:
        """Give the blocks of a hole their places; those that nobody wrote stay a hole.

        Smaller than a page, a block may be part of a dirty page though nothing was written
        to it, and have no reservation; then it is zeros.
        """
        size = self.ext2.block_size
        placed: list[Run] = []
        lblk, last = hole.lblk, hole.lblk + hole.count
        while lblk < last:
            count, reserved = self.promised_run(lblk, last - lblk)
            if not reserved:
                count = 1
                at = (lblk - hole.lblk) * size
                if not data[at : at + size].strip(b"\0"):
                    lblk += 1
                    continue
            run = await blockmap.allocate(self, lblk, count)
            placed.append(run)
            lblk += run.count
        return placed

    # -- inode operations

    async def set_size(self, size: int) -> None:
        """truncate(2). Raises EFBIG, EIO."""
        sb = self.ext2
        if size > sb.max_file_bytes:
            raise Errno.EFBIG
        if size >= self.size:
            sb.allow_large_file(size)
            self.size = size
            return
        # The page cache first, and without a lock: a guest's fault may be waiting for ours.
        await self._read_tail(size)
        self.cut_from = max(self.cut_from, self.size)
        self.size = size
        try:
            if self.mapping is not None:
                await truncate_pages(self.mapping, size)
            async with sb.handle(), self.map_lock:
                first = -(-size // sb.block_size)
                self.drop_promises(first)
                await blockmap.truncate(self, first)
                self.cut_from = 0
        except Errno:
            self.mark_dirty()
            raise

    async def _read_tail(self, size: int) -> None:
        """Bring in the page that will end in zeros, so that they are written one day."""
        if self.mapping is not None and size % self.ext2.block_size:
            await self.mapping.page(size // PAGE_BYTES)

    async def fsync(self, *, data_only: bool = False) -> None:
        if self.mapping is not None:
            await filemap_fsync(self.mapping)
        await self.ext2.commit()
