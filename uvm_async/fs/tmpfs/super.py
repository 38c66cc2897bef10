"""tmpfs: the super block, its limits and its options.

Linux: mm/shmem.c (shmem_fill_super, shmem_parse_one).

Invariant: `used_pages` is the sum of the inodes' allocated pages, `used_inodes`
counts inodes and, as in Linux, every further name of one.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, ClassVar

from uvm_async.errors import Errno
from uvm_async.fs.inode import Inode, StatFs, SuperBlock
from uvm_async.fs.mount import MS_RDONLY
from uvm_async.fs.registry import MountRequest, file_system
from uvm_async.fs.tmpfs.dir import TmpfsDir
from uvm_async.fs.tmpfs.inode import TmpfsFile, TmpfsInode, TmpfsSymlink

if TYPE_CHECKING:
    from uvm_async.kernel.kernel import Kernel

__all__ = ["TmpfsSuperBlock", "mount_tmpfs"]

PAGE_BYTES = 4096
SUFFIXES = {b"k": 1 << 10, b"m": 1 << 20, b"g": 1 << 30, b"t": 1 << 40, b"p": 1 << 50}


class TmpfsSuperBlock(SuperBlock):
    """One instance of tmpfs."""

    fs_type: ClassVar[bytes] = b"tmpfs"
    magic: ClassVar[int] = 0x01021994

    def __init__(
        self,
        kernel: Kernel,
        dev: int,
        *,
        max_pages: int = 0,
        max_inodes: int = 0,
        mode: int = 0o1777,
        uid: int = 0,
        gid: int = 0,
        read_only: bool = False,
    ) -> None:
        """Limits of 0 mean none."""
        super().__init__(kernel, dev, read_only=read_only)
        self.max_pages = max_pages
        self.max_inodes = max_inodes
        self.used_pages = 0
        self.used_inodes = 0
        self.next_ino = 0
        root = TmpfsDir(self, self.new_ino(), stat.S_IFDIR | mode, uid, gid, self.now_ns())
        root.parent = root
        self.root: TmpfsDir = root

    def now_ns(self) -> int:
        now: int = self.kernel.clock.realtime_ns()
        return now

    # -- limits

    def new_ino(self) -> int:
        """Raises ENOSPC."""
        self.charge_inode()
        self.next_ino += 1
        return self.next_ino

    def charge_inode(self) -> None:
        """One inode, or one further name. Raises ENOSPC."""
        if self.max_inodes and self.used_inodes >= self.max_inodes:
            raise Errno.ENOSPC
        self.used_inodes += 1

    def uncharge_inode(self) -> None:
        self.used_inodes -= 1

    def has_room(self) -> bool:
        """May one more page be allocated?"""
        return not self.max_pages or self.used_pages < self.max_pages

    # -- making inodes

    def new_inode(self, mode: int, uid: int, gid: int, rdev: int = 0) -> TmpfsInode:
        """An inode of any type but a symlink. Raises ENOSPC."""
        ino, now = self.new_ino(), self.now_ns()
        if stat.S_ISREG(mode):
            return TmpfsFile(self, ino, mode, uid, gid, now)
        if stat.S_ISDIR(mode):
            return TmpfsDir(self, ino, mode, uid, gid, now)
        inode = TmpfsInode(self, ino, mode, uid, gid, now)
        inode.rdev = rdev
        return inode

    def new_symlink(self, target: bytes, uid: int, gid: int) -> TmpfsSymlink:
        """Raises ENOSPC."""
        return TmpfsSymlink(self, self.new_ino(), target, uid, gid, self.now_ns())

    # -- the super block's operations

    async def statfs(self) -> StatFs:
        free_pages = max(self.max_pages - self.used_pages, 0)
        free_inodes = max(self.max_inodes - self.used_inodes, 0)
        return StatFs(
            self.magic,
            PAGE_BYTES,
            self.max_pages,
            free_pages,
            free_pages,
            self.max_inodes,
            free_inodes,
        )

    async def umount(self) -> None:
        """Give all pages back."""
        todo: list[Inode] = [self.root]
        while todo:
            inode = todo.pop()
            if isinstance(inode, TmpfsDir):
                todo += inode.inodes()
            else:
                await inode.evict()


def _number(text: bytes) -> int:
    """A size with the suffixes of Linux's memparse. Raises EINVAL."""
    scale = SUFFIXES.get(text[-1:].lower(), 1)
    digits = text[:-1] if scale > 1 else text
    try:
        return int(digits, 0) * scale
    except ValueError:
        raise Errno.EINVAL from None


def _octal(text: bytes) -> int:
    try:
        return int(text, 8)
    except ValueError:
        raise Errno.EINVAL from None


IGNORED = frozenset({b"huge", b"mpol", b"inode32", b"inode64", b"noswap", b"rw", b"ro"})


@file_system("tmpfs")
async def mount_tmpfs(
    kernel: Kernel, source: bytes, options: dict[bytes, bytes], request: MountRequest
) -> SuperBlock:
    """tmpfs(5): size, nr_blocks, nr_inodes, mode, uid, gid. Raises EINVAL."""
    memory_pages = kernel.frames.total()
    max_pages = max_inodes = memory_pages // 2
    mode, uid, gid = 0o1777, 0, 0
    for key, value in options.items():
        if key == b"size" and value.endswith(b"%"):
            max_pages = memory_pages * _number(value[:-1]) // 100
        elif key == b"size":
            max_pages = -(-_number(value) // PAGE_BYTES)
        elif key == b"nr_blocks":
            max_pages = _number(value)
        elif key == b"nr_inodes":
            max_inodes = _number(value)
        elif key == b"mode":
            mode = _octal(value) & 0o7777
        elif key == b"uid":
            uid = _number(value)
        elif key == b"gid":
            gid = _number(value)
        elif key not in IGNORED:
            raise Errno.EINVAL
    sb = TmpfsSuperBlock(
        kernel,
        kernel.next_anon_dev(),
        max_pages=max_pages,
        max_inodes=max_inodes,
        mode=mode,
        uid=uid,
        gid=gid,
        read_only=bool(request.flags & MS_RDONLY),
    )
    sb.source = source
    return sb
