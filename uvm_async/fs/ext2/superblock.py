"""A mounted ext2: geometry, counts, cached inodes, errors, sync.

Linux: fs/ext2/super.c, fs/ext2/ext2.h (ext2_sb_info).

Invariants:
- mounted read-only, or after damage was met, nothing is ever written;
- mounted read-write, the disk says "not clean" until it is unmounted;
- whoever meets damage raises `sb.corrupt("what is wrong")`: it is logged, writing
  stops, and the caller's caller sees EIO.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from typing import TYPE_CHECKING, ClassVar

from uvm_async.block.bio import discard_bio
from uvm_async.errors import Errno
from uvm_async.fs.ext2 import features
from uvm_async.fs.ext2.blockmap import max_file_bytes
from uvm_async.fs.ext2.commit import RANK_FREED, RANK_INODES, Commits, Handle
from uvm_async.fs.ext2.group import Group, runs_of_set
from uvm_async.fs.ext2.layout import (
    EXT2_MAGIC,
    GROUP_DESC,
    ROOT_INO,
    SUPER_BYTES,
    SUPER_OFFSET,
    VALID_FS,
    InodeRecord,
    SuperRecord,
)
from uvm_async.fs.inode import StatFs, SuperBlock
from uvm_async.mm.filemap import filemap_fsync

if TYPE_CHECKING:
    from uvm_async.block.blkdev import BlockDevice
    from uvm_async.fs.ext2.inode import Ext2Inode
    from uvm_async.kernel.kernel import Kernel

__all__ = ["Ext2SuperBlock"]

ONE_SECOND_NS = 1_000_000_000


class Ext2SuperBlock(SuperBlock):
    """An ext2 file system, mounted."""

    fs_type: ClassVar[bytes] = b"ext2"
    magic: ClassVar[int] = EXT2_MAGIC

    def __init__(
        self,
        kernel: Kernel,
        device: BlockDevice,
        record: SuperRecord,
        groups: list[Group],
        system_zone: list[tuple[int, int]],
        *,
        read_only: bool,
    ) -> None:
        """`system_zone`: sorted, disjoint (first, end) of the blocks no file may own."""
        super().__init__(kernel, device.rdev, read_only=read_only)
        self.device = device
        self.cache = device.cache
        self.record = record
        self.source = b"/dev/" + device.name
        self.block_size = 1024 << record.s_log_block_size
        self.pointers = self.block_size // 4
        """Block numbers in a pointer block."""
        self.first_data_block = record.s_first_data_block
        self.blocks_count = record.s_blocks_count
        self.blocks_per_group = record.s_blocks_per_group
        self.inodes_per_group = record.s_inodes_per_group
        self.inodes_count = record.s_inodes_count
        self.inode_size = record.s_inode_size if record.s_rev_level else 128
        self.first_ino = record.s_first_ino if record.s_rev_level else 11
        self.has_filetype = bool(record.s_feature_incompat & features.FILETYPE)
        self.extra_isize = InodeRecord.EXTRA_ISIZE
        self.time_gran_ns = 1 if self.inode_size > 128 else ONE_SECOND_NS
        self.max_file_bytes = max_file_bytes(self.block_size)
        self.groups = groups
        self.dirty_groups: dict[int, Group] = {}
        self.free_blocks = sum(group.free_blocks for group in groups)
        self.free_inodes = sum(group.free_inodes for group in groups)
        self.reserved_blocks = 0
        """Promised to dirty pages."""
        self.frozen_blocks = 0
        """Of the free blocks, those that wait for a commit."""
        self.frozen_inodes = 0
        self.zone_starts = [start for start, _ in system_zone]
        self.zone_ends = [end for _, end in system_zone]
        self.inodes: dict[int, Ext2Inode] = {}
        self.dirty_inodes: dict[int, Ext2Inode] = {}
        self.orphans: dict[int, Ext2Inode] = {}
        """Inodes without a name that are not yet evicted; on the disk a linked list."""
        self.orphans_changed = False
        self.generation = record.s_wtime
        self.broken = False
        self.overhead_blocks = 0
        self.discards = False
        """Mounted with `discard`: the disk is told which blocks are free again."""
        self.forced_read_only = False
        """Mounted read-only though nobody asked for it."""
        self.commits = Commits(self)

    # -- errors

    def complain(self, text: str) -> None:
        """A message for the log."""
        self.kernel.printk(f"ext2 ({self.device.name.decode()}): {text}")

    def corrupt(self, text: str) -> Errno:
        """Damage was met: log it, never write again; raise what this answers."""
        if not self.broken:
            self.complain(f"damaged: {text}")
            if not self.read_only:
                self.complain("nothing will be written any more; unmount it and run e2fsck")
            self.broken = True
            self.read_only = True
        return Errno.EIO(text)

    def check_sound(self) -> None:
        """Raises EIO after damage was met."""
        if self.broken:
            raise Errno.EIO("stopped because it is damaged")

    def check_blocks(self, start: int, count: int, what: str) -> None:
        """May a file own these blocks? Raises EIO."""
        if start < self.first_data_block or start + count > self.blocks_count:
            raise self.corrupt(f"{what}: block {start} is outside the file system")
        at = bisect_right(self.zone_starts, start + count - 1) - 1
        if at >= 0 and self.zone_ends[at] > start:
            raise self.corrupt(f"{what}: block {start} belongs to the file system itself")

    # -- geometry and counts

    def group_of_block(self, block: int) -> int:
        return (block - self.first_data_block) // self.blocks_per_group

    @property
    def available_blocks(self) -> int:
        """Blocks that can be had now."""
        return self.free_blocks - self.frozen_blocks - self.reserved_blocks

    def now_ns(self) -> int:
        now: int = self.kernel.clock.realtime_ns()
        return now - now % self.time_gran_ns

    async def unfreeze(self) -> bool:
        """Commit, if that sets blocks free; answers whether it was done. Raises EIO."""
        if not self.frozen_blocks:
            return False
        await self.commit()
        return True

    def freeze(self) -> None:
        """A commit takes its copy: what is frozen now is free when it is stable."""
        for group in self.groups:
            group.blocks.take_frozen()
            group.inodes.take_frozen()

    def thaw(self, *, stable: bool) -> None:
        """The commit is stable, or has failed."""
        for group in self.groups:
            if not stable:
                group.blocks.keep_frozen()
                group.inodes.keep_frozen()
                continue
            self.frozen_blocks -= group.blocks.committing.bit_count()
            self.frozen_inodes -= group.inodes.committing.bit_count()
            group.blocks.committing = group.inodes.committing = 0

    async def discard_freed(self) -> None:
        """Tell the disk what the commit has freed. What fails is only not discarded."""
        bios = [
            discard_bio((group.first_block + first) * self.block_size, count * self.block_size)
            for group in self.groups
            for first, count in runs_of_set(group.blocks.committing)
        ]
        if bios:
            with contextlib.suppress(Errno.EIO):
                await self.device.disk.submit(bios)

    def allow_large_file(self, size: int) -> None:
        """A file is about to become `size` bytes long: the feature must say so beyond 2 GiB."""
        if size > 0x7FFFFFFF and not self.record.s_feature_ro_compat & features.LARGE_FILE:
            self.record.s_feature_ro_compat |= features.LARGE_FILE

    # -- inodes

    async def iget(self, ino: int) -> Ext2Inode:
        """The inode with a number that stands in a directory. Raises EIO."""
        inode = self.inodes.get(ino)
        if inode is not None:
            return inode
        if not (ino == ROOT_INO or self.first_ino <= ino <= self.inodes_count):
            raise self.corrupt(f"a directory names inode {ino}")
        block, offset = self.inode_place(ino)
        buffer = await self.cache.bread(block)
        inode = self.inodes.get(ino)
        if inode is not None:  # somebody else was faster
            return inode
        record = InodeRecord(buffer.data[offset : offset + self.inode_size])
        if record.i_links_count == 0:
            raise self.corrupt(f"a directory names inode {ino}, which is free")
        inode = self.make_inode(ino, record)
        inode.check()
        self.inodes[ino] = inode
        return inode

    def make_inode(self, ino: int, record: InodeRecord) -> Ext2Inode:
        """The object for a record, by its type."""
        from uvm_async.fs.ext2.types import inode_class

        return inode_class(record.i_mode)(self, ino, record)

    def inode_place(self, ino: int) -> tuple[int, int]:
        """(block, offset in it) of an inode's record."""
        index, at = divmod(ino - 1, self.inodes_per_group)
        byte = at * self.inode_size
        return self.groups[index].inode_table + byte // self.block_size, byte % self.block_size

    def next_generation(self) -> int:
        self.generation = (self.generation + 1) & 0xFFFFFFFF
        return self.generation

    def add_orphan(self, inode: Ext2Inode) -> None:
        """`inode` has no name any more (or not yet)."""
        self.orphans[inode.ino] = inode
        self.orphans_changed = True

    def remove_orphan(self, inode: Ext2Inode) -> None:
        """`inode` has a name again, or is freed."""
        if self.orphans.pop(inode.ino, None) is not None:
            self.orphans_changed = True

    def chain_orphans(self) -> None:
        """The list on the disk goes through the inodes' deletion times."""
        following = 0
        for inode in self.orphans.values():
            inode.dtime = following
            following = inode.ino

    # -- into the buffers (by a commit)

    async def store_inode(self, inode: Ext2Inode, rank: int = RANK_INODES) -> None:
        """Bring an inode's record up to date in its buffer. Raises EIO."""
        block, offset = self.inode_place(inode.ino)
        buffer = await self.cache.bread(block)
        raw = inode.pack()
        if buffer.data[offset : offset + len(raw)] != raw:
            buffer.data[offset : offset + len(raw)] = raw
            self.cache.mark_dirty(buffer, rank)

    async def store_groups(self) -> None:
        """Bring changed group descriptors up to date in their buffers. Raises EIO."""
        table = (self.first_data_block + 1) * self.block_size
        for index, group in list(self.dirty_groups.items()):
            block, offset = divmod(table + index * GROUP_DESC, self.block_size)
            buffer = await self.cache.bread(block)
            buffer.data[offset : offset + GROUP_DESC] = group.descriptor()
            self.cache.mark_dirty(buffer)
            del self.dirty_groups[index]

    async def store_counts(self, rank: int = RANK_INODES) -> None:
        """Bring the superblock up to date in its buffer, if it has changed. Raises EIO."""
        self.record.s_free_blocks_count = self.free_blocks
        self.record.s_free_inodes_count = self.free_inodes
        block, offset = divmod(SUPER_OFFSET, self.block_size)
        buffer = await self.cache.bread(block)
        if buffer.data[offset : offset + SUPER_BYTES] != self.record.raw:
            self.record.s_wtime = self.now_ns() // ONE_SECOND_NS & 0xFFFFFFFF
            buffer.data[offset : offset + SUPER_BYTES] = self.record.raw
            self.cache.mark_dirty(buffer, rank)

    async def store_orphan_head(self) -> None:
        """Where the list of orphans begins. Raises EIO."""
        self.record.s_last_orphan = next(reversed(self.orphans), 0)
        await self.store_counts(RANK_FREED)

    # -- the VFS's operations

    def handle(self) -> Handle:
        """`async with sb.handle(): ...`: the right to change metadata. Raises EROFS, EIO."""
        return Handle(self.commits)

    async def commit(self) -> None:
        """Make all metadata stable. Raises EIO."""
        await self.commits.commit()

    async def statfs(self) -> StatFs:
        reserved = self.record.s_r_blocks_count
        free = self.free_blocks - self.reserved_blocks
        return StatFs(
            type=EXT2_MAGIC,
            bsize=self.block_size,
            blocks=self.blocks_count - self.overhead_blocks,
            bfree=free,
            bavail=max(0, free - reserved),
            files=self.inodes_count,
            ffree=self.free_inodes,
        )

    async def sync(self) -> None:
        if self.read_only:
            return
        failed: Errno | None = None
        for inode in list(self.inodes.values()):
            if inode.mapping is not None:
                try:
                    await filemap_fsync(inode.mapping)
                except Errno as error:
                    failed = error
        await self.commit()
        if failed is not None:
            raise failed

    async def remount(self, *, read_only: bool) -> None:
        """mount(2) with MS_REMOUNT. Raises EROFS if it must not be written, EBUSY while deleted
        files are open, EIO."""
        if read_only == self.read_only:
            return
        if read_only:
            await self.sync()
            if self.orphans:
                raise Errno.EBUSY
            await self._mark(clean=True)
            self.read_only = True
            return
        from uvm_async.fs.ext2.mount import reason_for_read_only

        reason = reason_for_read_only(self.record)
        if self.broken or self.device.read_only or reason:
            self.complain(f"cannot be made writable: {reason or 'damaged or a read-only disk'}")
            raise Errno.EROFS
        self.read_only = False
        await self.mark_mounted()

    async def mark_mounted(self) -> None:
        """The disk says from now on that it is in use. Raises EIO."""
        self.record.s_mtime = self.now_ns() // ONE_SECOND_NS & 0xFFFFFFFF
        self.record.s_mnt_count = min(self.record.s_mnt_count + 1, 0xFFFF)
        await self._mark(clean=False)

    async def _mark(self, *, clean: bool) -> None:
        if clean:
            self.record.s_state |= VALID_FS
        else:
            self.record.s_state &= ~VALID_FS
        await self.commit()

    async def umount(self) -> None:
        try:
            if not self.read_only:
                await self.sync()
                await self._mark(clean=True)
        except Errno as error:
            self.complain(f"could not be written back at unmounting: {error}")
        finally:
            self.read_only = True
            for inode in self.inodes.values():
                if inode.mapping is not None:
                    inode.mapping.drop_all()
            self.inodes.clear()
            self.device.release()
