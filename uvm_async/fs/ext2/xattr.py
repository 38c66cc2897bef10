"""Extended attributes: kept as they are, and released with their inode.

Linux: fs/ext2/xattr.c.  An attribute block may be shared by many inodes; it counts
them.  Attributes inside the inode are part of its record and need nothing.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from uvm_async.fs.ext2.balloc import free_blocks
from uvm_async.fs.ext2.layout import XATTR_MAGIC

if TYPE_CHECKING:
    from uvm_async.fs.ext2.inode import Ext2Inode

__all__ = ["release"]

HEADER = struct.Struct("<II")
"""h_magic, h_refcount."""


async def release(inode: Ext2Inode) -> None:
    """The inode ends: its attribute block has one user fewer. Within a handle. Raises EIO."""
    block = inode.file_acl
    if not block:
        return
    sb = inode.ext2
    sb.check_blocks(block, 1, f"inode {inode.ino}: attributes")
    buffer = await sb.cache.bread(block)
    magic, users = HEADER.unpack_from(buffer.data)
    if magic != XATTR_MAGIC or users == 0:
        raise sb.corrupt(f"inode {inode.ino}: block {block} holds no attributes")
    inode.file_acl = 0
    inode.charge(-1)
    if users > 1:
        HEADER.pack_into(buffer.data, 0, magic, users - 1)
        sb.cache.mark_dirty(buffer)
    else:
        await free_blocks(sb, block, 1)
