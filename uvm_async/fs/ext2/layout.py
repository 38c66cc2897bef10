"""The ext2 format on the disk: superblock, group descriptors, inodes, directory records.

Linux: fs/ext2/ext2.h, fs/ext4/ext4.h; the text is Documentation/filesystems/ext4/.
Everything is little-endian.  Offsets are declared once, here, and each record keeps
the bytes it was read from: what this code does not know is written back as it was.

The same records serve ext4, with more fields; features say which of them count.
"""

from __future__ import annotations

import struct
from typing import Final, overload

__all__ = [
    "DIRENT_HEADER",
    "EXT2_MAGIC",
    "FT_BY_IFMT",
    "GROUP_DESC",
    "INODE_BLOCKS",
    "Field",
    "GroupDesc",
    "InodeRecord",
    "Record",
    "SuperRecord",
]

EXT2_MAGIC: Final = 0xEF53
SUPER_OFFSET: Final = 1024
SUPER_BYTES: Final = 1024

ROOT_INO: Final = 2
GOOD_OLD_FIRST_INO: Final = 11
GOOD_OLD_INODE_SIZE: Final = 128

# s_state
VALID_FS: Final = 1
"""Unmounted cleanly."""
ERROR_FS: Final = 2
"""Errors were found."""

# s_errors
ERRORS_CONTINUE: Final = 1
ERRORS_RO: Final = 2
ERRORS_PANIC: Final = 3

# i_flags
SYNC_FL: Final = 0x8
IMMUTABLE_FL: Final = 0x10
APPEND_FL: Final = 0x20
NODUMP_FL: Final = 0x40
NOATIME_FL: Final = 0x80
INDEX_FL: Final = 0x1000
DIRSYNC_FL: Final = 0x10000
TOPDIR_FL: Final = 0x20000
INHERITED_FL: Final = 0x1 | 0x2 | 0x4 | 0x8 | NODUMP_FL | NOATIME_FL | DIRSYNC_FL
"""What a new inode takes over from its directory."""

UNKNOWN_LAYOUT_FL: Final = {
    0x800: "encryption",
    0x80000: "extents",
    0x100000: "verity",
    0x200000: "ea_inode",
    0x10000000: "inline_data",
    0x40000000: "casefold",
}
"""Flags that change what an inode's other fields mean."""

INODE_BLOCKS: Final = 15
DIRECT_BLOCKS: Final = 12

XATTR_MAGIC: Final = 0xEA020000

DIRENT_HEADER: Final = struct.Struct("<IHBB")
"""inode, rec_len, name_len, file_type (before the filetype feature: high byte of name_len)."""

FT_BY_IFMT: Final = {
    0o100000: 1,
    0o040000: 2,
    0o020000: 3,
    0o060000: 4,
    0o010000: 5,
    0o140000: 6,
    0o120000: 7,
}
DT_BY_FT: Final = (0, 8, 4, 2, 6, 1, 12, 10)
"""getdents64's d_type, by file_type."""


class Field:
    """One number in a record: a descriptor over the record's bytes."""

    __slots__ = ("codec", "offset")

    def __init__(self, offset: int, code: str) -> None:
        self.offset = offset
        self.codec = struct.Struct("<" + code)

    @overload
    def __get__(self, record: None, owner: object = None) -> Field: ...
    @overload
    def __get__(self, record: Record, owner: object = None) -> int: ...
    def __get__(self, record: Record | None, owner: object = None) -> Field | int:
        if record is None:
            return self
        value: int = self.codec.unpack_from(record.raw, self.offset)[0]
        return value

    def __set__(self, record: Record, value: int) -> None:
        self.codec.pack_into(record.raw, self.offset, value)


class Record:
    """Bytes with named fields."""

    __slots__ = ("raw",)

    def __init__(self, raw: bytes | bytearray) -> None:
        self.raw = bytearray(raw)


class SuperRecord(Record):
    """struct ext2_super_block."""

    __slots__ = ()

    s_inodes_count = Field(0, "I")
    s_blocks_count = Field(4, "I")
    s_r_blocks_count = Field(8, "I")
    s_free_blocks_count = Field(12, "I")
    s_free_inodes_count = Field(16, "I")
    s_first_data_block = Field(20, "I")
    s_log_block_size = Field(24, "I")
    s_log_cluster_size = Field(28, "I")
    s_blocks_per_group = Field(32, "I")
    s_clusters_per_group = Field(36, "I")
    s_inodes_per_group = Field(40, "I")
    s_mtime = Field(44, "I")
    s_wtime = Field(48, "I")
    s_mnt_count = Field(52, "H")
    s_max_mnt_count = Field(54, "h")
    s_magic = Field(56, "H")
    s_state = Field(58, "H")
    s_errors = Field(60, "H")
    s_minor_rev_level = Field(62, "H")
    s_lastcheck = Field(64, "I")
    s_checkinterval = Field(68, "I")
    s_creator_os = Field(72, "I")
    s_rev_level = Field(76, "I")
    s_first_ino = Field(84, "I")
    s_inode_size = Field(88, "H")
    s_feature_compat = Field(92, "I")
    s_feature_incompat = Field(96, "I")
    s_feature_ro_compat = Field(100, "I")
    s_reserved_gdt_blocks = Field(206, "H")
    s_last_orphan = Field(232, "I")
    s_min_extra_isize = Field(348, "H")
    s_want_extra_isize = Field(350, "H")


class GroupDesc(Record):
    """struct ext2_group_desc."""

    __slots__ = ()

    bg_block_bitmap = Field(0, "I")
    bg_inode_bitmap = Field(4, "I")
    bg_inode_table = Field(8, "I")
    bg_free_blocks_count = Field(12, "H")
    bg_free_inodes_count = Field(14, "H")
    bg_used_dirs_count = Field(16, "H")
    bg_flags = Field(18, "H")


GROUP_DESC: Final = 32
"""Bytes of one group descriptor."""


class InodeRecord(Record):
    """struct ext2_inode, and ext4's fields beyond its first 128 bytes."""

    __slots__ = ()

    i_mode = Field(0, "H")
    i_uid = Field(2, "H")
    i_size = Field(4, "I")
    i_atime = Field(8, "i")
    i_ctime = Field(12, "i")
    i_mtime = Field(16, "i")
    i_dtime = Field(20, "I")
    i_gid = Field(24, "H")
    i_links_count = Field(26, "H")
    i_blocks = Field(28, "I")
    i_flags = Field(32, "I")
    i_generation = Field(100, "I")
    i_file_acl = Field(104, "I")
    i_size_high = Field(108, "I")
    i_blocks_high = Field(116, "H")
    i_file_acl_high = Field(118, "H")
    i_uid_high = Field(120, "H")
    i_gid_high = Field(122, "H")
    i_extra_isize = Field(128, "H")
    i_ctime_extra = Field(132, "I")
    i_mtime_extra = Field(136, "I")
    i_atime_extra = Field(140, "I")
    i_crtime = Field(144, "i")
    i_crtime_extra = Field(148, "I")

    BLOCK = struct.Struct("<15I")
    BLOCK_OFFSET: Final = 40
    BLOCK_BYTES: Final = 60
    EXTRA_ISIZE: Final = 32
    """What mke2fs and Linux give a new inode of more than 128 bytes."""

    @property
    def block(self) -> tuple[int, ...]:
        return self.BLOCK.unpack_from(self.raw, self.BLOCK_OFFSET)

    @block.setter
    def block(self, numbers: list[int]) -> None:
        self.BLOCK.pack_into(self.raw, self.BLOCK_OFFSET, *numbers)

    @property
    def block_bytes(self) -> bytes:
        return bytes(self.raw[self.BLOCK_OFFSET : self.BLOCK_OFFSET + self.BLOCK_BYTES])

    def has_extra(self, field: Field) -> bool:
        """Does this inode reach as far as `field`?"""
        return (
            len(self.raw) > GOOD_OLD_INODE_SIZE
            and field.offset + field.codec.size <= GOOD_OLD_INODE_SIZE + self.i_extra_isize
        )


EPOCH_BITS: Final = 3
"""Low bits of i_*time_extra: seconds beyond 32 bits; the other 30 are nanoseconds."""


def unpack_time(seconds: int, extra: int) -> int:
    """Nanoseconds since the epoch of a time field and its extra field (0: none)."""
    return (seconds + ((extra & EPOCH_BITS) << 32)) * 1_000_000_000 + (extra >> 2)


def pack_time(time_ns: int) -> tuple[int, int]:
    """(seconds field, extra field). Times outside 1901 to 2446 are cut to what fits."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    seconds = min(max(seconds, -(1 << 31)), (1 << 34) - (1 << 31) - 1)
    low = (seconds + (1 << 31)) % (1 << 32) - (1 << 31)
    return low, nanoseconds << 2 | (seconds - low) >> 32 & EPOCH_BITS


def dirent_bytes(name_len: int) -> int:
    """Least length of a directory record for a name."""
    return (8 + name_len + 3) & ~3
