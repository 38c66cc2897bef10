"""Feature bits: which of them this file system can live with.

Linux: fs/ext4/ext4.h.  A set bit in `incompat` that is not known forbids mounting,
one in `ro_compat` forbids writing, one in `compat` forbids nothing.  ext4 grows from
here: a feature is supported from the day its bit is moved into a SUPPORTED set.
"""

from __future__ import annotations

from typing import Final

__all__ = ["COMPAT", "INCOMPAT", "RO_COMPAT", "names", "unsupported"]

COMPAT: Final = {
    0x1: "dir_prealloc",
    0x2: "imagic_inodes",
    0x4: "has_journal",
    0x8: "ext_attr",
    0x10: "resize_inode",
    0x20: "dir_index",
    0x200: "sparse_super2",
    0x400: "fast_commit",
    0x800: "stable_inodes",
    0x1000: "orphan_file",
}
INCOMPAT: Final = {
    0x1: "compression",
    0x2: "filetype",
    0x4: "needs_recovery",
    0x8: "journal_dev",
    0x10: "meta_bg",
    0x40: "extents",
    0x80: "64bit",
    0x100: "mmp",
    0x200: "flex_bg",
    0x400: "ea_inode",
    0x1000: "dirdata",
    0x2000: "metadata_csum_seed",
    0x4000: "large_dir",
    0x8000: "inline_data",
    0x10000: "encrypt",
    0x20000: "casefold",
}
RO_COMPAT: Final = {
    0x1: "sparse_super",
    0x2: "large_file",
    0x4: "btree_dir",
    0x8: "huge_file",
    0x10: "uninit_bg",
    0x20: "dir_nlink",
    0x40: "extra_isize",
    0x80: "snapshot",
    0x100: "quota",
    0x200: "bigalloc",
    0x400: "metadata_csum",
    0x1000: "read-only",
    0x2000: "project",
    0x4000: "shared_blocks",
    0x8000: "verity",
    0x10000: "orphan_present",
}

FILETYPE: Final = 0x2
NEEDS_RECOVERY: Final = 0x4
FLEX_BG: Final = 0x200
SPARSE_SUPER: Final = 0x1
LARGE_FILE: Final = 0x2
BTREE_DIR: Final = 0x4
EXTRA_ISIZE: Final = 0x40
SPARSE_SUPER2: Final = 0x200

SUPPORTED_INCOMPAT: Final = FILETYPE | FLEX_BG
SUPPORTED_RO_COMPAT: Final = SPARSE_SUPER | LARGE_FILE | BTREE_DIR | EXTRA_ISIZE


def names(bits: int, known: dict[int, str]) -> str:
    """The features in `bits`, for people."""
    return ", ".join(
        known.get(1 << at, f"unknown (bit {at})") for at in range(32) if bits & (1 << at)
    )


def unsupported(bits: int, supported: int) -> int:
    """What is set in `bits` and not supported."""
    return bits & ~supported
