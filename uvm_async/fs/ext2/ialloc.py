"""Allocation of inodes, and where new directories go.

Linux: fs/ext2/ialloc.c.  Files go to their directory's group; directories of the
root are spread over the groups, others stay near their parent while it has room
(the idea of Orlov's allocator).

Invariant: a freed inode number is handed out again only after the commit that
freed it, so an old name on the disk never shows a new file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvm_async.errors import Errno
from uvm_async.fs.ext2.group import find_clear
from uvm_async.fs.ext2.layout import ROOT_INO, TOPDIR_FL

if TYPE_CHECKING:
    from uvm_async.fs.ext2.group import Group
    from uvm_async.fs.ext2.inode import Ext2Inode
    from uvm_async.fs.ext2.superblock import Ext2SuperBlock

__all__ = ["alloc_inode", "free_inode"]


async def alloc_inode(sb: Ext2SuperBlock, parent: Ext2Inode, *, is_dir: bool) -> int:
    """A free inode number. Raises ENOSPC, EIO."""
    for group in _dir_groups(sb, parent) if is_dir else _file_groups(sb, parent):
        if group.free_inodes == 0:
            continue
        buffer = await group.inode_bitmap(sb)
        bitmap = group.inodes
        at = find_clear(bitmap.occupied(buffer), 0, bitmap.limit)
        if at < 0:
            continue
        ino = group.index * sb.inodes_per_group + at + 1
        if ino < sb.first_ino:
            raise sb.corrupt(f"reserved inode {ino} is marked as free")
        bitmap.store(buffer, bitmap.on_disk(buffer) | 1 << at)
        sb.cache.mark_dirty(buffer)
        group.free_inodes -= 1
        group.used_dirs += is_dir
        sb.free_inodes -= 1
        sb.dirty_groups[group.index] = group
        return ino
    raise Errno.ENOSPC


async def free_inode(sb: Ext2SuperBlock, ino: int, *, is_dir: bool) -> None:
    """Give an inode number back. Raises EIO."""
    index, at = divmod(ino - 1, sb.inodes_per_group)
    group = sb.groups[index]
    buffer = await group.inode_bitmap(sb)
    bits = group.inodes.on_disk(buffer)
    if not bits & 1 << at:
        raise sb.corrupt(f"freeing inode {ino}: already free")
    if is_dir and group.used_dirs == 0:
        raise sb.corrupt(f"freeing directory {ino}: group {index} has none")
    group.inodes.store(buffer, bits & ~(1 << at))
    group.inodes.frozen |= 1 << at
    sb.cache.mark_dirty(buffer)
    group.free_inodes += 1
    group.used_dirs -= is_dir
    sb.free_inodes += 1
    sb.frozen_inodes += 1
    sb.dirty_groups[index] = group


def _rotated(groups: list[Group], first: int) -> list[Group]:
    return groups[first:] + groups[:first]


def _file_groups(sb: Ext2SuperBlock, parent: Ext2Inode) -> list[Group]:
    order = _rotated(sb.groups, parent.group)
    # Groups with room for contents first.
    return [g for g in order if g.free_blocks] + [g for g in order if not g.free_blocks]


def _dir_groups(sb: Ext2SuperBlock, parent: Ext2Inode) -> list[Group]:
    groups = sb.groups
    average_inodes = sb.free_inodes // len(groups)
    average_blocks = sb.free_blocks // len(groups)
    order = _rotated(groups, parent.group)

    def roomy(group: Group) -> bool:
        return group.free_inodes >= average_inodes and group.free_blocks >= average_blocks

    best = [g for g in order if roomy(g) and g.free_inodes]
    if parent.ino == ROOT_INO or parent.flags & TOPDIR_FL:
        best.sort(key=lambda g: g.used_dirs)
    return best + [g for g in order if g not in best]
