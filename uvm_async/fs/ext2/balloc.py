"""Allocation of blocks.

Linux: fs/ext2/balloc.c.  A goal says where the file would like to go on; the search
begins there, and goes from group to group, wrapping round.

Invariants:
- `free_blocks - frozen_blocks >= reserved_blocks` always: what was promised to dirty
  pages (see file.py) can be had without waiting for a commit;
- counts, bitmap and `dirty_groups` change together, without an await between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvm_async.errors import Errno
from uvm_async.fs.ext2.group import find_clear, run_of_clear

if TYPE_CHECKING:
    from uvm_async.fs.ext2.group import Group
    from uvm_async.fs.ext2.superblock import Ext2SuperBlock

__all__ = ["alloc_blocks", "free_blocks"]


async def alloc_blocks(
    sb: Ext2SuperBlock, goal: int, count: int, *, promised: bool = False
) -> tuple[int, int]:
    """Up to `count` blocks in a row, near `goal`; answers (first, how many).

    `promised`: the caller gives up as many reserved blocks afterwards. Raises ENOSPC, EIO.
    """
    if not promised:
        count = min(count, sb.available_blocks)
        if count <= 0:
            raise Errno.ENOSPC
    if not sb.first_data_block <= goal < sb.blocks_count:
        goal = sb.first_data_block
    index = sb.group_of_block(goal)
    start = goal - sb.groups[index].first_block
    # The goal's group once more at the end: what lies before the goal.
    for step in range(len(sb.groups) + 1):
        group = sb.groups[(index + step) % len(sb.groups)]
        found = await _alloc_in_group(sb, group, start if step == 0 else 0, count)
        if found is not None:
            return found
    if promised:
        raise sb.corrupt("fewer free blocks than the group descriptors say")
    raise Errno.ENOSPC


async def _alloc_in_group(
    sb: Ext2SuperBlock, group: Group, start: int, count: int
) -> tuple[int, int] | None:
    if group.free_blocks == 0:
        return None
    buffer = await group.block_bitmap(sb)
    bitmap = group.blocks
    occupied = bitmap.occupied(buffer)
    first = find_clear(occupied, start, bitmap.limit)
    if first < 0:
        return None
    taken = run_of_clear(occupied, first, min(count, bitmap.limit - first))
    bitmap.store(buffer, bitmap.on_disk(buffer) | ((1 << taken) - 1) << first)
    sb.cache.mark_dirty(buffer)
    group.free_blocks -= taken
    sb.free_blocks -= taken
    sb.dirty_groups[group.index] = group
    return group.first_block + first, taken


async def free_blocks(sb: Ext2SuperBlock, start: int, count: int) -> None:
    """Give blocks back. They are handed out again after the next commit. Raises EIO."""
    sb.check_blocks(start, count, "freeing")
    while count:
        group = sb.groups[sb.group_of_block(start)]
        first = start - group.first_block
        here = min(count, group.blocks.limit - first)
        buffer = await group.block_bitmap(sb)
        mask = ((1 << here) - 1) << first
        bits = group.blocks.on_disk(buffer)
        if bits & mask != mask:
            raise sb.corrupt(f"freeing blocks {start} to {start + here - 1}: already free")
        group.blocks.store(buffer, bits & ~mask)
        group.blocks.frozen |= mask
        sb.cache.mark_dirty(buffer)
        sb.cache.forget(start, here)
        group.free_blocks += here
        sb.free_blocks += here
        sb.frozen_blocks += here
        sb.dirty_groups[group.index] = group
        start += here
        count -= here
