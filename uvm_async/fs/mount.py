"""The mount table: which file system stands where.

Linux: fs/namespace.c.  One namespace per machine.  `Dentry.mounted` only hints
that something is mounted on a dentry through *some* mount; the truth is
`MountTable.children`, keyed by the pair (mount, dentry), so that a bind mount
shows what was mounted below its source only where it was mounted.

Invariants:
- a super block lives while a mount of it is attached, or was detached while in
  use (`Mount.users`); then `SuperBlock.umount` is awaited once;
- a super block has one dentry tree, whose root is in `roots`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvm_async.errors import Errno
from uvm_async.fs.dcache import INTERNAL_MOUNT, d_is_ancestor
from uvm_async.fs.devices import DeviceTable
from uvm_async.fs.inode import Dentry, Mount, Path
from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.fs.inode import SuperBlock

__all__ = [
    "MNT_FLAGS",
    "MS_BIND",
    "MS_MOVE",
    "MS_NOATIME",
    "MS_NODEV",
    "MS_NODIRATIME",
    "MS_NOEXEC",
    "MS_NOSUID",
    "MS_PROPAGATION",
    "MS_RDONLY",
    "MS_REC",
    "MS_RELATIME",
    "MS_REMOUNT",
    "MS_SILENT",
    "MS_STRICTATIME",
    "MountTable",
    "check_writable",
]

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_SILENT = 32768
MS_RELATIME = 1 << 21
MS_STRICTATIME = 1 << 24
MS_PROPAGATION = 0xF << 17
"""MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED."""

MNT_FLAGS = (
    MS_RDONLY
    | MS_NOSUID
    | MS_NODEV
    | MS_NOEXEC
    | MS_NOATIME
    | MS_NODIRATIME
    | MS_RELATIME
    | MS_STRICTATIME
)
"""Flags that belong to one mount rather than to its file system."""

MNT_DETACH = 2


def check_writable(mount: Mount) -> None:
    """Raises EROFS where nothing may be changed (Linux: mnt_want_write)."""
    if mount.flags & MS_RDONLY or mount.sb.read_only:
        raise Errno.EROFS


class MountTable(Entity):
    """All mounts of a machine, and the devices that special files name."""

    def __init__(self) -> None:
        self.root: Mount
        """What `/` is; set by the first `attach`."""
        self.mounts: list[Mount] = []
        """Attached mounts, oldest first."""
        self.children: dict[tuple[Mount, Dentry], Mount] = {}
        self.roots: dict[SuperBlock, Dentry] = {}
        self.detached: list[Mount] = []
        """Taken out of the tree while in use; gone with their last user."""
        self.internal: dict[bytes, Mount] = {}
        """Pipes, anonymous inodes and the like, by type."""
        self.devices = DeviceTable()
        self.next_ident = 20

    # -- finding

    def root_path(self) -> Path:
        """The place that `/` names, whatever was mounted over it."""
        return self.descend(Path(self.root, self.root.root))

    def descend(self, path: Path) -> Path:
        """The root of the topmost mount on `path`, or `path` itself."""
        mount, dentry = path.mount, path.dentry
        while dentry.mounted is not None:
            child = self.children.get((mount, dentry))
            if child is None:
                break
            mount, dentry = child, child.root
        return Path(mount, dentry)

    def is_mountpoint(self, path: Path) -> bool:
        """Is a mount attached on it, through whichever mount it is seen?"""
        return path.dentry.mounted is not None

    # -- changing

    def root_dentry(self, sb: SuperBlock) -> Dentry:
        """The top of the super block's only dentry tree."""
        dentry = self.roots.get(sb)
        if dentry is None:
            dentry = self.roots[sb] = Dentry(b"/", None, sb.root)
        return dentry

    async def attach(self, sb: SuperBlock, where: Path | None = None, flags: int = 0) -> Mount:
        """Mount a file system on a directory; `where` None makes it the machine's root.

        Raises ENOTDIR where one of root and mount point is a directory and the other not.
        """
        return self.attach_dentry(sb, self.root_dentry(sb), where, flags)

    def attach_dentry(
        self, sb: SuperBlock, root: Dentry, where: Path | None, flags: int = 0
    ) -> Mount:
        """Mount the tree below `root` (a bind mount shows any part of a file system)."""
        mount = Mount(sb, root, None, None, flags)
        self.next_ident += 1
        mount.ident = self.next_ident
        self._hook(mount, where)
        return mount

    def attach_internal(self, sb: SuperBlock) -> Mount:
        """A file system without a place in the tree, by type."""
        mount = self.internal[sb.fs_type] = Mount(
            sb, self.root_dentry(sb), None, None, INTERNAL_MOUNT
        )
        return mount

    def bind(self, source: Path, where: Path, *, recursive: bool = False) -> Mount:
        """Show what is at `source` at `where` too. Raises ENOTDIR."""
        below = [m for m in self.mounts if self._inside(m, source)] if recursive else []
        top = self.attach_dentry(
            source.mount.sb, source.dentry, where, source.mount.flags & MNT_FLAGS
        )
        copies = {source.mount: top}
        for mount in below:
            parent = copies.get(mount.parent) if mount.parent is not None else None
            if parent is not None and mount.mountpoint is not None and mount is not top:
                place = self.descend(Path(parent, mount.mountpoint))
                copies[mount] = self.attach_dentry(mount.sb, mount.root, place, mount.flags)
        return top

    def move(self, mount: Mount, where: Path) -> None:
        """MS_MOVE. Raises EINVAL (the root), ELOOP (into itself), ENOTDIR."""
        if mount.parent is None:
            raise Errno.EINVAL
        above: Mount | None = where.mount
        while above is not None:
            if above is mount:
                raise Errno.ELOOP
            above = above.parent
        self._check_types(mount, where)
        self._unhook(mount)
        self._hook(mount, where)

    async def detach(self, mount: Mount, flags: int = 0) -> None:
        """umount2(2). Raises EBUSY if it is in use or carries mounts, unless MNT_DETACH."""
        if mount.parent is None:
            raise Errno.EBUSY
        carried = [m for m in self.mounts if m.parent is mount]
        if flags & MNT_DETACH:
            for child in carried:
                await self.detach(child, flags)
        elif mount.users or carried:
            raise Errno.EBUSY
        self._unhook(mount)
        self.detached.append(mount)
        await self.put(mount)

    async def put(self, mount: Mount) -> None:
        """A user of the mount is gone; a detached one may end with it."""
        if mount.users or mount not in self.detached:
            return
        self.detached.remove(mount)
        sb = mount.sb
        if any(m.sb is sb for m in (*self.mounts, *self.detached)):
            return
        self.roots.pop(sb, None)
        await sb.umount()

    def super_blocks(self) -> list[SuperBlock]:
        """Each mounted file system once, oldest first."""
        found: dict[SuperBlock, None] = {}
        for mount in (*self.mounts, *self.detached):
            found[mount.sb] = None
        return list(found)

    def _inside(self, mount: Mount, place: Path) -> bool:
        """Does `mount` stand below `place`?"""
        current: Mount | None = mount
        while current is not None and current.mountpoint is not None:
            if current.parent is place.mount:
                return d_is_ancestor(place.dentry, current.mountpoint)
            current = current.parent
        return False

    @staticmethod
    def _check_types(mount: Mount, where: Path) -> None:
        inode = mount.root.inode
        if inode is None or inode.is_dir != where.inode.is_dir:
            raise Errno.ENOTDIR

    def _hook(self, mount: Mount, where: Path | None) -> None:
        if where is None:
            self.root = mount
        else:
            where = self.descend(where)
            self._check_types(mount, where)
            mount.parent, mount.mountpoint = where.mount, where.dentry
            self.children[where.mount, where.dentry] = mount
            where.dentry.mounted = mount
        self.mounts.append(mount)

    def _unhook(self, mount: Mount) -> None:
        parent, dentry = mount.parent, mount.mountpoint
        assert parent is not None and dentry is not None
        del self.children[parent, dentry]
        self.mounts.remove(mount)
        mount.parent = mount.mountpoint = None
        dentry.mounted = next((m for m in self.mounts if m.mountpoint is dentry), None)
