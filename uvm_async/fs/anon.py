"""Files that no path leads to: pipes, eventfds, epolls, memfds.

Linux: fs/anon_inodes.c, fs/libfs.c (init_pseudo).  Each kind lives on a file
system of its own that is mounted nowhere; its only name is what /proc/PID/fd shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from uvm_async.fs.inode import Dentry, File, Inode, Mount, Path, StatFs, SuperBlock

if TYPE_CHECKING:
    from uvm_async.kernel.kernel import Kernel

__all__ = [
    "AnonFile",
    "AnonInodeSuperBlock",
    "PseudoSuperBlock",
    "anon_path",
    "internal_mount",
    "pseudo_path",
]


class PseudoSuperBlock(SuperBlock):
    """A file system without directories."""

    def __init__(self, kernel: Kernel, dev: int) -> None:
        super().__init__(kernel, dev)
        self.next_ino = 1
        self.root = Inode(self, self.new_ino(), 0o40000)

    def new_ino(self) -> int:
        self.next_ino += 1
        return self.next_ino

    async def statfs(self) -> StatFs:
        return StatFs(self.magic, 4096, 0, 0, 0, 0, 0)


class AnonInodeSuperBlock(PseudoSuperBlock):
    """Of everything that has a file but no contents; all share one inode."""

    fs_type: ClassVar[bytes] = b"anon_inodefs"
    magic: ClassVar[int] = 0x09041934

    def __init__(self, kernel: Kernel, dev: int) -> None:
        super().__init__(kernel, dev)
        self.inode = Inode(self, self.new_ino(), 0o600)


class AnonFile(File):
    """An open file without contents: it has a position, which nothing moves (noop_llseek)."""

    async def llseek(self, offset: int, whence: int) -> int:
        return self.pos


def internal_mount(kernel: Kernel, kind: type[SuperBlock]) -> Mount:
    """The machine's only mount of this type that is nowhere in the tree."""
    mounts = kernel.mounts
    mount: Mount | None = mounts.internal.get(kind.fs_type)
    return mount or mounts.attach_internal(kind(kernel, kernel.next_anon_dev()))


def pseudo_path(mount: Mount, inode: Inode, name: bytes) -> Path:
    """A place whose name is all there is."""
    return Path(mount, Dentry(name, None, inode))


def anon_path(kernel: Kernel, name: bytes) -> Path:
    """`anon_inode:[eventfd]` and its like."""
    mount = internal_mount(kernel, AnonInodeSuperBlock)
    assert isinstance(mount.sb, AnonInodeSuperBlock)
    return pseudo_path(mount, mount.sb.inode, b"anon_inode:" + name)
