"""Mounting: is this an ext2 that can be trusted, and how far?

Linux: fs/ext2/super.c (ext2_fill_super), fs/ext4/block_validity.c.  Everything that
later code relies on is checked here once: geometry, features, descriptors.

Three answers: refused, with a message that names the reason; read-only, with a
message; as asked for.  Neither of the first two writes anything.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from uvm_async.block.blkdev import BlockDevice
from uvm_async.errors import Errno
from uvm_async.fs.ext2 import features
from uvm_async.fs.ext2.group import Group
from uvm_async.fs.ext2.layout import (
    ERROR_FS,
    EXT2_MAGIC,
    GROUP_DESC,
    ROOT_INO,
    SUPER_BYTES,
    SUPER_OFFSET,
    VALID_FS,
    GroupDesc,
    SuperRecord,
)
from uvm_async.fs.ext2.superblock import Ext2SuperBlock
from uvm_async.fs.mount import MS_RDONLY
from uvm_async.fs.registry import MountRequest, file_system

if TYPE_CHECKING:
    from uvm_async.fs.inode import SuperBlock
    from uvm_async.kernel.kernel import Kernel

__all__ = ["mount_device", "mount_ext2", "reason_for_read_only"]

CURRENT_REV = 1

FLAG_OPTIONS = frozenset(
    b"bsddf grpid bsdgroups nogrpid sysvgroups user_xattr nouser_xattr acl noacl debug "
    b"oldalloc orlov nobh nocheck norecovery discard nodiscard".split()
)
VALUE_OPTIONS = frozenset(b"errors resuid resgid sb check".split())


class Refused(Exception):
    """Why this cannot be mounted."""


@file_system("ext2", needs_device=True)
async def mount_ext2(
    kernel: Kernel, source: bytes, options: dict[bytes, bytes], request: MountRequest
) -> SuperBlock:
    """mount(2) of type ext2. A device that is mounted already gives the same super block.

    Raises EINVAL (refused, the log says why; an unknown option), ENOTBLK, EACCES, EBUSY, EIO.
    """
    if request.device is None:
        raise Errno.ENOTBLK
    device = kernel.mounts.devices.find(stat.S_IFBLK, request.device.rdev)
    if not isinstance(device, BlockDevice):
        raise Errno.ENOTBLK
    read_only = bool(request.flags & MS_RDONLY) or b"ro" in options
    check_options(options)
    holder = device.holder
    if isinstance(holder, Ext2SuperBlock):
        if not read_only and holder.read_only and not holder.forced_read_only:
            raise Errno.EBUSY
        return holder
    sb = await mount_device(kernel, device, read_only=read_only)
    sb.discards = b"discard" in options
    return sb


def check_options(options: dict[bytes, bytes]) -> None:
    """Raises EINVAL for an option that ext2 does not have."""
    for name, value in options.items():
        if name in (b"ro", b"rw") or name in FLAG_OPTIONS:
            continue
        if name not in VALUE_OPTIONS:
            raise Errno.EINVAL
        if name == b"errors" and value not in (b"continue", b"remount-ro", b"panic"):
            raise Errno.EINVAL


async def mount_device(kernel: Kernel, device: BlockDevice, *, read_only: bool) -> Ext2SuperBlock:
    """Mount the ext2 on `device`. Raises EINVAL (refused; the log says why), EACCES (a read-only
    disk must be mounted so), EBUSY, EIO."""
    if device.holder is not None:
        raise Errno.EBUSY
    if device.read_only and not read_only:
        raise Errno.EACCES
    try:
        sb = await _examine(kernel, device, read_only=read_only)
    except Refused as reason:
        kernel.printk(f"ext2 ({device.name.decode()}): not mounted: {reason}")
        raise Errno.EINVAL(str(reason)) from None
    await device.claim(sb, sb.block_size)
    try:
        root = await sb.iget(ROOT_INO)
        if not root.is_dir:
            raise sb.corrupt("the root is not a directory")
        sb.root = root
        if not sb.read_only:
            await sb.mark_mounted()
    except Errno:
        device.release()
        raise
    return sb


async def _examine(kernel: Kernel, device: BlockDevice, *, read_only: bool) -> Ext2SuperBlock:
    if device.disk.size < SUPER_OFFSET + SUPER_BYTES:
        raise Refused("the disk is too small for a superblock")
    await device.cache.sync()
    record = SuperRecord(await device.disk.read(SUPER_OFFSET, SUPER_BYTES))
    check_super(record, device.disk.size)
    groups = await _read_groups(device, record)
    zone = system_zone(record, groups)
    _mark_used(record, groups, zone)
    reason = reason_for_read_only(record)
    if reason and not read_only:
        kernel.printk(f"ext2 ({device.name.decode()}): mounted read-only: {reason}")
    forced = bool(reason) and not read_only
    sb = Ext2SuperBlock(kernel, device, record, groups, zone, read_only=read_only or forced)
    sb.forced_read_only = forced
    sb.overhead_blocks = _overhead(record, groups, zone)
    return sb


def reason_for_read_only(record: SuperRecord) -> str:
    """Why this must not be written, or the empty string."""
    unknown = features.unsupported(record.s_feature_ro_compat, features.SUPPORTED_RO_COMPAT)
    if record.s_rev_level and unknown:
        return f"cannot write feature {features.names(unknown, features.RO_COMPAT)}"
    if record.s_state & ERROR_FS:
        return "it has errors, run e2fsck"
    if not record.s_state & VALID_FS:
        return "it was not cleanly unmounted, run e2fsck"
    if record.s_last_orphan:
        return "deleted files wait to be cleaned up, run e2fsck"
    return ""


# -- the superblock


def check_super(record: SuperRecord, disk_bytes: int) -> None:
    """Raises Refused."""
    if record.s_magic != EXT2_MAGIC:
        raise Refused("no ext2 magic number in the superblock")
    if record.s_rev_level > CURRENT_REV:
        raise Refused(f"unknown revision {record.s_rev_level}")
    if record.s_rev_level:
        _check_features(record)
    if record.s_log_block_size > 2:
        raise Refused(f"block size of 2^{10 + record.s_log_block_size} bytes")
    problem = _geometry_problem(record, disk_bytes)
    if problem:
        raise Refused(f"damaged superblock: {problem}")


def _check_features(record: SuperRecord) -> None:
    unknown = features.unsupported(record.s_feature_incompat, features.SUPPORTED_INCOMPAT)
    if unknown & features.NEEDS_RECOVERY:
        raise Refused("its journal needs recovery (feature needs_recovery), run e2fsck")
    if unknown:
        raise Refused(f"unsupported feature {features.names(unknown, features.INCOMPAT)}")


def _geometry_problem(record: SuperRecord, disk_bytes: int) -> str:
    block_size = 1024 << record.s_log_block_size
    bits = block_size * 8
    first = record.s_first_data_block
    blocks = record.s_blocks_count
    inode_size = record.s_inode_size if record.s_rev_level else 128
    if first != (block_size == 1024):
        return f"first data block {first}"
    if blocks <= first + 1:
        return f"{blocks} blocks"
    if blocks * block_size > disk_bytes:
        return f"{blocks} blocks of {block_size} bytes on a disk of {disk_bytes} bytes"
    if not 128 <= inode_size <= block_size or inode_size & (inode_size - 1):
        return f"inode size {inode_size}"
    if not 8 <= record.s_blocks_per_group <= bits:
        return f"{record.s_blocks_per_group} blocks in a group"
    if not 8 <= record.s_inodes_per_group <= bits or record.s_inodes_per_group % 8:
        return f"{record.s_inodes_per_group} inodes in a group"
    if record.s_inodes_count != record.s_inodes_per_group * _group_count(record):
        return f"{record.s_inodes_count} inodes in {_group_count(record)} groups"
    if record.s_rev_level and not 11 <= record.s_first_ino <= record.s_inodes_per_group:
        return f"first inode {record.s_first_ino}"
    if record.s_r_blocks_count > blocks or record.s_free_blocks_count > blocks:
        return f"{record.s_free_blocks_count} free, {record.s_r_blocks_count} reserved blocks"
    if record.s_free_inodes_count > record.s_inodes_count:
        return f"{record.s_free_inodes_count} free inodes"
    return ""


def _group_count(record: SuperRecord) -> int:
    blocks = record.s_blocks_count - record.s_first_data_block
    return -(-blocks // record.s_blocks_per_group)


# -- the groups


async def _read_groups(device: BlockDevice, record: SuperRecord) -> list[Group]:
    block_size = 1024 << record.s_log_block_size
    count = _group_count(record)
    size = -(-count * GROUP_DESC // block_size) * block_size
    start = (record.s_first_data_block + 1) * block_size
    if start + size > record.s_blocks_count * block_size:
        raise Refused("damaged superblock: no room for its group descriptors")
    table = await device.disk.read(start, size)
    groups = []
    for index in range(count):
        desc = GroupDesc(table[index * GROUP_DESC : (index + 1) * GROUP_DESC])
        first = record.s_first_data_block + index * record.s_blocks_per_group
        blocks = min(record.s_blocks_per_group, record.s_blocks_count - first)
        problem = _desc_problem(record, desc, first, blocks)
        if problem:
            raise Refused(f"damaged descriptor of group {index}: {problem}")
        groups.append(Group(index, desc, first, blocks, record.s_inodes_per_group))
    return groups


def _desc_problem(record: SuperRecord, desc: GroupDesc, first: int, blocks: int) -> str:
    low, high = first, first + blocks
    if record.s_feature_incompat & features.FLEX_BG:
        low, high = record.s_first_data_block + 1, record.s_blocks_count
    table_blocks = _table_blocks(record)
    for what, block, count in (
        ("block bitmap", desc.bg_block_bitmap, 1),
        ("inode bitmap", desc.bg_inode_bitmap, 1),
        ("inode table", desc.bg_inode_table, table_blocks),
    ):
        if block < low or block + count > high:
            return f"{what} at block {block}"
    if desc.bg_free_blocks_count > blocks:
        return f"{desc.bg_free_blocks_count} free blocks"
    if desc.bg_free_inodes_count > record.s_inodes_per_group:
        return f"{desc.bg_free_inodes_count} free inodes"
    if desc.bg_used_dirs_count > record.s_inodes_per_group - desc.bg_free_inodes_count:
        return f"{desc.bg_used_dirs_count} directories"
    return ""


def _table_blocks(record: SuperRecord) -> int:
    inode_size = record.s_inode_size if record.s_rev_level else 128
    return -(-record.s_inodes_per_group * inode_size // (1024 << record.s_log_block_size))


def _has_super(record: SuperRecord, index: int) -> bool:
    """Does this group begin with a copy of the superblock?"""
    if index <= 1 or not record.s_feature_ro_compat & features.SPARSE_SUPER:
        return True
    return any(_is_power(index, base) for base in (3, 5, 7))


def _is_power(number: int, base: int) -> bool:
    while number % base == 0:
        number //= base
    return number == 1


def system_zone(record: SuperRecord, groups: list[Group]) -> list[tuple[int, int]]:
    """Sorted, disjoint (first, end) of all blocks of the file system itself. Raises Refused."""
    block_size = 1024 << record.s_log_block_size
    descriptors = -(-len(groups) * GROUP_DESC // block_size)
    pieces = []
    for group in groups:
        # Blocks kept for growth (resize_inode) belong to inode 7, which no name leads to.
        if _has_super(record, group.index) and not _sparse_super2(record, group.index):
            pieces.append((group.first_block, group.first_block + 1 + descriptors))
        pieces.append((group.blocks.block, group.blocks.block + 1))
        pieces.append((group.inodes.block, group.inodes.block + 1))
        pieces.append((group.inode_table, group.inode_table + _table_blocks(record)))
    pieces.sort()
    zone: list[tuple[int, int]] = []
    for start, end in pieces:
        if zone and start < zone[-1][1]:
            raise Refused(f"damaged descriptors: two of them claim block {start}")
        if zone and start == zone[-1][1]:
            zone[-1] = (zone[-1][0], end)
        else:
            zone.append((start, end))
    return zone


def _overhead(record: SuperRecord, groups: list[Group], zone: list[tuple[int, int]]) -> int:
    """Blocks that statfs does not count: the zone, and the room for its growth."""
    copies = sum(_has_super(record, group.index) for group in groups)
    grows = record.s_reserved_gdt_blocks * copies
    return record.s_first_data_block + sum(end - start for start, end in zone) + grows


def _sparse_super2(record: SuperRecord, index: int) -> bool:
    """With sparse_super2 only two groups have copies, and which is not worth knowing here."""
    return index > 0 and bool(record.s_feature_compat & features.SPARSE_SUPER2)


def _mark_used(record: SuperRecord, groups: list[Group], zone: list[tuple[int, int]]) -> None:
    """What each bitmap must show as used."""
    for start, end in zone:
        while start < end:
            index = (start - record.s_first_data_block) // record.s_blocks_per_group
            group = groups[index]
            here = min(end, group.first_block + group.blocks.limit)
            group.blocks.used |= ((1 << (here - start)) - 1) << (start - group.first_block)
            start = here
    first_ino = record.s_first_ino if record.s_rev_level else 11
    groups[0].inodes.used = (1 << (first_ino - 1)) - 1
