"""Symbolic links: fast ones in the inode, slow ones in a block.

Linux: fs/ext2/symlink.c.  A target of fewer than 60 bytes takes the place of the
block numbers; a longer one has one data block, kept in the buffer cache.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from uvm_async.errors import Errno
from uvm_async.fs.ext2 import blockmap
from uvm_async.fs.ext2.inode import Ext2Inode
from uvm_async.fs.ext2.layout import INODE_BLOCKS, InodeRecord

if TYPE_CHECKING:
    from uvm_async.fs.ext2.superblock import Ext2SuperBlock

__all__ = ["Ext2Symlink", "is_fast"]

_TEXT = struct.Struct(f"<{INODE_BLOCKS}I")


def is_fast(target_bytes: int) -> bool:
    """Does a target of this length, and a terminating zero, fit into the inode?"""
    return target_bytes < InodeRecord.BLOCK_BYTES


class Ext2Symlink(Ext2Inode):
    """A symbolic link."""

    @property
    def has_block_map(self) -> bool:
        attributes = self.ext2.block_size // 512 if self.file_acl else 0
        return self.disk_blocks > attributes

    def check(self) -> None:
        super().check()
        most = self.ext2.block_size if self.has_block_map else InodeRecord.BLOCK_BYTES
        if not 0 < self.size < most:
            raise self.ext2.corrupt(f"inode {self.ino}: symbolic link of {self.size} bytes")

    async def set_target(self, target: bytes) -> None:
        """Give a new link its target. Within a handle. Raises ENOSPC, EIO."""
        if is_fast(len(target)):
            self.block[:] = _TEXT.unpack(target.ljust(_TEXT.size, b"\0"))
        else:
            run = await blockmap.allocate(self, 0, 1)
            buffer = self.ext2.cache.getblk(run.phys)
            buffer.data[: len(target)] = target
            self.ext2.cache.mark_dirty(buffer)
        self.size = len(target)

    async def readlink(self) -> bytes:
        """readlink(2). Raises EIO."""
        if not self.has_block_map:
            return _TEXT.pack(*self.block)[: self.size]
        (run,) = await blockmap.map_blocks(self, 0, 1)
        if not run.phys:
            raise self.ext2.corrupt(f"inode {self.ino}: symbolic link without a block")
        return bytes((await self.ext2.cache.bread(run.phys)).data[: self.size])


def new_symlink_fits(sb: Ext2SuperBlock, target: bytes) -> None:
    """Raises ENAMETOOLONG if no link can hold `target`."""
    if len(target) + 1 > sb.block_size:
        raise Errno.ENAMETOOLONG
