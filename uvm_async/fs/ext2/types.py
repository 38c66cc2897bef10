"""Which class serves which type of inode.

Linux: the end of ext2_iget in fs/ext2/inode.c.
"""

from __future__ import annotations

import stat

from uvm_async.fs.ext2.file import Ext2File
from uvm_async.fs.ext2.inode import Ext2Inode
from uvm_async.fs.ext2.namei import Ext2Dir
from uvm_async.fs.ext2.symlink import Ext2Symlink

__all__ = ["inode_class"]


def inode_class(mode: int) -> type[Ext2Inode]:
    """The class for an inode of this st_mode."""
    if stat.S_ISREG(mode):
        return Ext2File
    if stat.S_ISDIR(mode):
        return Ext2Dir
    if stat.S_ISLNK(mode):
        return Ext2Symlink
    return Ext2Inode
