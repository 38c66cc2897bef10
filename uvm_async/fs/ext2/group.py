"""Block groups: descriptors, and their two bitmaps as numbers.

Linux: fs/ext2/balloc.c, fs/ext4/mballoc.c (for what is deferred).  A bitmap is
handled as one Python integer: finding a free run in 32,768 bits takes a few
microseconds.

Invariants:
- `free_*` are what the disk's descriptor says or will say after the next commit;
- what was freed since the last commit is *frozen*: free on paper, but not handed
  out until the commit that frees it is stable.  So the blocks and the inode of a
  file that the disk still shows are never overwritten, whenever the power fails;
- a bitmap is checked against its descriptor when it is first read; one that
  disagrees is corruption, and is never written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvm_async.fs.ext2.layout import GroupDesc
from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.block.buffer import Buffer
    from uvm_async.fs.ext2.superblock import Ext2SuperBlock

__all__ = ["Bitmap", "Group", "find_clear", "run_of_clear", "runs_of_set"]


def find_clear(bits: int, start: int, limit: int) -> int:
    """The first clear bit in [start, limit), or -1."""
    free = ~bits >> start
    at = start + (free & -free).bit_length() - 1
    return at if at < limit else -1


def run_of_clear(bits: int, start: int, most: int) -> int:
    """How many bits from `start` on are clear, up to `most`."""
    window = (bits >> start) & ((1 << most) - 1)
    return (window & -window).bit_length() - 1 if window else most


def runs_of_set(bits: int) -> list[tuple[int, int]]:
    """(first, count) of each run of set bits."""
    runs = []
    at = 0
    while bits >> at:
        window = bits >> at
        at += (window & -window).bit_length() - 1
        window = ~(bits >> at)
        count = (window & -window).bit_length() - 1
        runs.append((at, count))
        at += count
    return runs


class Bitmap(Entity):
    """One of a group's bitmaps, and what may not be handed out yet."""

    __slots__ = ("block", "checked", "committing", "frozen", "limit", "used")

    def __init__(self, block: int, limit: int) -> None:
        self.block = block
        """Where it is on the disk."""
        self.limit = limit
        """How many of its bits stand for something."""
        self.used = 0
        """Bits that must be set: the group's own metadata."""
        self.checked = False
        self.frozen = 0
        """Freed since the last commit."""
        self.committing = 0
        """Freed in the commit that is being written."""

    def occupied(self, buffer: Buffer) -> int:
        """Set bits: all that must not be handed out now."""
        return self.on_disk(buffer) | self.frozen | self.committing

    def on_disk(self, buffer: Buffer) -> int:
        return int.from_bytes(buffer.data[: -(-self.limit // 8)], "little")

    def store(self, buffer: Buffer, bits: int) -> None:
        size = -(-self.limit // 8)
        buffer.data[:size] = bits.to_bytes(size, "little")

    def take_frozen(self) -> int:
        """A commit begins: what was freed belongs to it. Answers how many bits."""
        self.committing |= self.frozen
        self.frozen = 0
        return self.committing.bit_count()

    def keep_frozen(self) -> None:
        """The commit failed."""
        self.frozen |= self.committing
        self.committing = 0


class Group(Entity):
    """One block group."""

    __slots__ = (
        "blocks",
        "desc_raw",
        "first_block",
        "free_blocks",
        "free_inodes",
        "index",
        "inode_table",
        "inodes",
        "used_dirs",
    )

    def __init__(
        self, index: int, desc: GroupDesc, first_block: int, blocks: int, inodes: int
    ) -> None:
        self.index = index
        self.first_block = first_block
        self.desc_raw = bytes(desc.raw)
        self.blocks = Bitmap(desc.bg_block_bitmap, blocks)
        self.inodes = Bitmap(desc.bg_inode_bitmap, inodes)
        self.inode_table = desc.bg_inode_table
        self.free_blocks = desc.bg_free_blocks_count
        self.free_inodes = desc.bg_free_inodes_count
        self.used_dirs = desc.bg_used_dirs_count

    def descriptor(self) -> bytes:
        """The descriptor as it must be on the disk."""
        desc = GroupDesc(self.desc_raw)
        desc.bg_free_blocks_count = self.free_blocks
        desc.bg_free_inodes_count = self.free_inodes
        desc.bg_used_dirs_count = self.used_dirs
        return bytes(desc.raw)

    async def block_bitmap(self, sb: Ext2SuperBlock) -> Buffer:
        """The block bitmap's buffer, checked once. Raises EIO."""
        return await self._bitmap(sb, self.blocks, self.free_blocks, "block")

    async def inode_bitmap(self, sb: Ext2SuperBlock) -> Buffer:
        """The inode bitmap's buffer, checked once. Raises EIO."""
        return await self._bitmap(sb, self.inodes, self.free_inodes, "inode")

    async def _bitmap(self, sb: Ext2SuperBlock, bitmap: Bitmap, free: int, what: str) -> Buffer:
        buffer = await sb.cache.bread(bitmap.block)
        if not bitmap.checked:
            bits = bitmap.on_disk(buffer) & ((1 << bitmap.limit) - 1)
            clear = bitmap.limit - bits.bit_count()
            if clear != free:
                raise sb.corrupt(
                    f"{what} bitmap of group {self.index} has {clear} free, its descriptor {free}"
                )
            if bits & bitmap.used != bitmap.used:
                raise sb.corrupt(f"{what} bitmap of group {self.index}: metadata marked as free")
            bitmap.checked = True
        return buffer
