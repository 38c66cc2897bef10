"""overlay: a tmpfs that reads through to another file system.

Linux: fs/overlayfs.  Linux's keeps what was changed in an upper directory tree of
some other file system, and everything that makes it hard follows from that:
whiteout devices, copies of whole files, renames that fail, inode numbers that
change, mappings that show the old contents.  Here a machine at rest is a graph of
objects, so the upper layer need not be a tree of files: every inode of the overlay
is one object for its whole life, which *also* knows what it was in the lower layer:

- a directory decides each name at most once: an inode, or nothing (a whiteout);
  names not decided are the lower directory's;
- so a directory of the lower layer is renamed, or lost, by moving one entry;
- a file has one page cache; a page that was never written is read from the lower
  file, up to `lower_bytes`, which truncation lowers.  Nothing is ever copied up:
  a write takes one page, a change of mode none.

Invariants:
- `st_dev` is one; an inode keeps its number, and its identity, whatever happens;
- the lower file system is never changed, and does not change (hostfs's SNAPSHOT);
- lower inodes with several names have one overlay inode (`by_lower`);
- inodes that began in the lower layer are not charged against `max_inodes`.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, ClassVar

from uvm_async.fs.inode import Inode, StatFs
from uvm_async.fs.overlay.dir import OverlayDir
from uvm_async.fs.overlay.file import OverlayFile, OverlaySymlink
from uvm_async.fs.tmpfs.inode import TmpfsInode
from uvm_async.fs.tmpfs.super import TmpfsSuperBlock

if TYPE_CHECKING:
    from uvm_async.fs.inode import SuperBlock
    from uvm_async.kernel.kernel import Kernel

__all__ = ["OverlaySuperBlock", "mount_overlay"]


class OverlaySuperBlock(TmpfsSuperBlock):
    """An overlay over `lower`."""

    fs_type: ClassVar[bytes] = b"overlay"
    magic: ClassVar[int] = 0x794C7630

    def __init__(
        self,
        kernel: Kernel,
        dev: int,
        lower: SuperBlock,
        *,
        max_pages: int = 0,
        max_inodes: int = 0,
    ) -> None:
        """Limits of what may be added; 0 means none."""
        super().__init__(kernel, dev, max_pages=max_pages, max_inodes=max_inodes)
        self.lower = lower
        self.source = b"overlay"
        self.numbers: dict[int, int] = {}
        """Our inode numbers by the lower layer's, in order of first look-up."""
        self.by_lower: dict[Inode, TmpfsInode] = {}
        self.used_inodes = 0
        self.next_ino = 0
        root = self.wrap(lower.root)
        assert isinstance(root, OverlayDir)
        self.overlay_root: OverlayDir = root
        self.root = root  # type: ignore[assignment]  # tmpfs has a TmpfsDir

    def number(self, lower_ino: int) -> int:
        """The inode number of what has `lower_ino` in the lower layer."""
        number = self.numbers.get(lower_ino)
        if number is None:
            self.next_ino += 1
            number = self.numbers[lower_ino] = self.next_ino
        return number

    def wrap(self, lower: Inode) -> TmpfsInode:
        """The overlay's inode for one of the lower layer."""
        known = self.by_lower.get(lower)
        if known is not None:
            return known
        number = self.number(lower.ino)
        inode: OverlayDir | OverlayFile | OverlaySymlink
        if lower.is_dir:
            inode = OverlayDir(self, number, lower.mode, lower.uid, lower.gid, 0)
        elif lower.is_symlink:
            inode = OverlaySymlink(self, number, lower.uid, lower.gid)
        else:
            inode = OverlayFile(self, number, lower.mode, lower.uid, lower.gid, 0)
        inode.adopt(lower)
        inode.nlink, inode.size = lower.nlink, lower.size
        inode.atime_ns = lower.atime_ns
        inode.mtime_ns = lower.mtime_ns
        inode.ctime_ns = lower.ctime_ns
        if lower.nlink > 1 and not lower.is_dir:
            self.by_lower[lower] = inode
        return inode

    def new_inode(self, mode: int, uid: int, gid: int, rdev: int = 0) -> TmpfsInode:
        if stat.S_ISREG(mode):
            return OverlayFile(self, self.new_ino(), mode, uid, gid, self.now_ns())
        if stat.S_ISDIR(mode):
            return OverlayDir(self, self.new_ino(), mode, uid, gid, self.now_ns())
        return super().new_inode(mode, uid, gid, rdev)

    @staticmethod
    def from_below(inode: Inode) -> bool:
        """Did it begin in the lower layer?"""
        return (
            isinstance(inode, OverlayDir | OverlayFile | OverlaySymlink) and inode.lower is not None
        )

    async def statfs(self) -> StatFs:
        figures = await super().statfs()
        figures.files = figures.files or 1 << 20
        figures.ffree = max(figures.files - self.used_inodes, 0)
        return figures

    async def umount(self) -> None:
        """Give all pages back."""
        todo: list[Inode] = [self.overlay_root]
        while todo:
            inode = todo.pop()
            if isinstance(inode, OverlayDir):
                todo += [child for child in inode.entries.values() if child is not None]
            else:
                await inode.evict()
        await self.lower.umount()


async def mount_overlay(kernel: Kernel, lower: SuperBlock) -> OverlaySuperBlock:
    """An overlay over `lower`, which is mounted nowhere itself, ready to be attached.

    What is added to it may take half of the machine's memory, as with tmpfs.
    """
    half = kernel.frames.total() // 2
    return OverlaySuperBlock(kernel, kernel.next_anon_dev(), lower, max_pages=half, max_inodes=half)
