"""From a path to a place: the walk.

Linux: fs/namei.c (link_path_walk and what it calls) and
Documentation/filesystems/path-lookup.rst.  A `Walk` holds the components still to
go as a stack; a symlink pushes its own.  Names that the dentry cache knows are
stepped over without a sleep.

Order of checks, for each component: the place stood on is a directory (ENOTDIR),
may be searched (EACCES), and has the name (ENOENT, ENAMETOOLONG).

Lock order: a directory's `lock` is held while its file system is asked; never two
at a time, never across a sleep for anything but I/O.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from uvm_async.errors import Errno
from uvm_async.fs.dcache import d_add
from uvm_async.fs.file import touch_atime
from uvm_async.fs.inode import Dentry, Path
from uvm_async.fs.permission import (
    CAP_DAC_OVERRIDE,
    CAP_DAC_READ_SEARCH,
    MAY_EXEC,
    FsCred,
    permitted,
)

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

__all__ = ["AT_FDCWD", "LastType", "Resolve", "Walk", "lookup_child", "start_of"]

AT_FDCWD = -100
MAX_SYMLINKS = 40
NAME_MAX = 255
S_IFMT, S_IFDIR, S_IFLNK = 0o170000, 0o040000, 0o120000


class Resolve(enum.IntFlag):
    """RESOLVE_* of openat2(2)."""

    NO_XDEV = 1
    NO_MAGICLINKS = 2
    NO_SYMLINKS = 4
    BENEATH = 8
    IN_ROOT = 16
    CACHED = 32


class LastType(enum.Enum):
    """What kind of name a path ends in."""

    NORM = enum.auto()
    ROOT = enum.auto()
    DOT = enum.auto()
    DOTDOT = enum.auto()


async def lookup_child(parent: Dentry, name: bytes) -> Dentry:
    """The entry of a directory, negative if there is none. The directory's lock is held.

    Raises ENAMETOOLONG, EIO, and ENOENT in a directory that has been removed.
    """
    directory = parent.inode
    assert directory is not None
    known = parent.children.get(name)
    if known is not None and directory.cache_names:
        return known
    if len(name) > NAME_MAX:
        raise Errno.ENAMETOOLONG
    if directory.nlink == 0:
        raise Errno.ENOENT
    try:
        inode = await directory.lookup(name)
    except Errno.ENOENT:
        inode = None
    if known is not None and known.inode is inode:
        return known
    return d_add(parent, name, inode)


def start_of(task: Task, dirfd: int) -> Path:
    """Where a relative path begins. Raises EBADF; that it is a directory the walk checks."""
    if dirfd == AT_FDCWD:
        return task.fs.cwd
    path = task.files.get_raw(dirfd).path
    if path is None:
        raise Errno.ENOTDIR
    return path


class Walk:
    """One walk (Linux: struct nameidata). Not state: it lives within one call."""

    __slots__ = (
        "cred",
        "dentry",
        "jumped",
        "links",
        "mount",
        "mounts",
        "resolve",
        "root",
        "searches_all",
        "stack",
        "task",
        "trailing",
    )

    def __init__(
        self,
        task: Task,
        dirfd: int,
        path: bytes,
        *,
        cred: FsCred | None = None,
        resolve: int = 0,
    ) -> None:
        """Raises ENOENT (empty path), EBADF, EXDEV."""
        if not path:
            raise Errno.ENOENT
        self.task = task
        self.cred: FsCred = task.cred if cred is None else cred
        self.searches_all = bool(self.cred.capabilities & (CAP_DAC_READ_SEARCH | CAP_DAC_OVERRIDE))
        self.mounts = task.kernel.mounts
        self.resolve = resolve
        self.root = task.fs.root
        absolute = path.startswith(b"/")
        if resolve and resolve & (Resolve.BENEATH | Resolve.IN_ROOT):
            if absolute and resolve & Resolve.BENEATH:
                raise Errno.EXDEV
            self.root = start = start_of(task, dirfd)
        else:
            start = self.root if absolute else start_of(task, dirfd)
        self.mount, self.dentry = start.mount, start.dentry
        self.stack = [name for name in reversed(path.split(b"/")) if name]
        self.trailing = path.endswith(b"/")
        self.links = 0
        self.jumped = False
        """The last symlink was a magic one: it stands on the place, not before a name."""
        if self.stack and start.inode.mode & S_IFMT != S_IFDIR:
            raise Errno.ENOTDIR

    @property
    def path(self) -> Path:
        """Where it stands."""
        return Path(self.mount, self.dentry)

    # -- whole walks

    async def to_end(self, *, follow: bool) -> Path:
        """Walk it all; `follow` a symlink at the end. Raises ENOENT, ENOTDIR, ELOOP, EACCES."""
        stack = self.stack
        while stack:
            name = stack.pop()
            if not self._step_cached(name):
                await self.step(name, follow=follow or bool(stack) or self.trailing)
        if self.trailing:
            self.require_directory()
        return Path(self.mount, self.dentry)

    async def to_parent(self) -> tuple[LastType, bytes]:
        """Walk all but the last component; answers that, which may be walked on from here.

        The directory stood on may be searched. A symlink at the end is not followed.
        """
        stack = self.stack
        while len(stack) > 1:
            name = stack.pop()
            if not self._step_cached(name):
                await self.step(name, follow=True)
        if not stack:
            return LastType.ROOT, b"/"
        name = stack.pop()
        self.check_search()
        if name == b".":
            return LastType.DOT, name
        if name == b"..":
            return LastType.DOTDOT, name
        return LastType.NORM, name

    def require_directory(self) -> None:
        """Raises ENOTDIR."""
        inode = self.dentry.inode
        if inode is None or inode.mode & S_IFMT != S_IFDIR:
            raise Errno.ENOTDIR

    # -- steps

    def check_search(self) -> None:
        """May names be looked up where it stands? Raises ENOTDIR, EACCES."""
        inode = self.dentry.inode
        if inode is None or inode.mode & S_IFMT != S_IFDIR:
            raise Errno.ENOTDIR
        if not self.searches_all and not permitted(self.cred, inode, MAY_EXEC):
            raise Errno.EACCES

    def _step_cached(self, name: bytes) -> bool:
        """The common step: into a cached entry that is neither symlink nor mount point."""
        child = self.dentry.children.get(name)
        if child is None or child.mounted is not None or child.inode is None:
            return False
        here = self.dentry.inode
        if here is None or not here.cache_names or child.inode.mode & S_IFMT == S_IFLNK:
            return False
        if not self.searches_all and not permitted(self.cred, here, MAY_EXEC):
            raise Errno.EACCES
        self.dentry = child
        return True

    async def step(self, name: bytes, *, follow: bool) -> None:
        """Go one component further. Raises ENOTDIR, EACCES, ENOENT, ELOOP, EXDEV."""
        self.check_search()
        if name == b".":
            return
        if name == b"..":
            self.up()
            return
        child = await self.child(name)
        if child.inode is None:
            raise Errno.ENOENT
        await self.enter(child, follow=follow)

    async def child(self, name: bytes) -> Dentry:
        """The entry `name` where it stands, negative if there is none."""
        parent = self.dentry
        assert parent.inode is not None
        known = parent.children.get(name)
        if known is not None and parent.inode.cache_names:
            return known
        if self.resolve and self.resolve & Resolve.CACHED:
            raise Errno.EAGAIN
        async with parent.inode.lock:
            return await lookup_child(parent, name)

    async def enter(self, child: Dentry, *, follow: bool) -> None:
        """Step into a positive entry of the directory stood on, or follow it."""
        inode = child.inode
        assert inode is not None
        if child.mounted is not None:
            below = self.mounts.descend(Path(self.mount, child))
            if below.mount is not self.mount:
                self._crosses()
            self.mount, self.dentry = below.mount, below.dentry
        elif follow and inode.mode & S_IFMT == S_IFLNK:
            await self._follow(child)
        else:
            self.dentry = child

    async def _follow(self, link: Dentry) -> None:
        self.links += 1
        self.jumped = False
        if self.links > MAX_SYMLINKS or (self.resolve and self.resolve & Resolve.NO_SYMLINKS):
            raise Errno.ELOOP
        assert link.inode is not None
        target = await link.inode.get_link(self.task)
        touch_atime(Path(self.mount, link), link.inode, 0)
        if isinstance(target, Path):
            self._jump(target)
            return
        if not target:
            raise Errno.ENOENT
        if not self.stack:
            self.trailing = self.trailing or target.endswith(b"/")
        self.stack += [name for name in reversed(target.split(b"/")) if name]
        if target.startswith(b"/"):
            if self.resolve & Resolve.BENEATH:
                raise Errno.EXDEV
            if self.root.mount is not self.mount:
                self._crosses()
            self.mount, self.dentry = self.root.mount, self.root.dentry

    def _jump(self, target: Path) -> None:
        """A magic link leads anywhere, without a name."""
        if self.resolve & Resolve.NO_MAGICLINKS:
            raise Errno.ELOOP
        if self.resolve & (Resolve.BENEATH | Resolve.IN_ROOT):
            raise Errno.EXDEV
        if target.mount is not self.mount:
            self._crosses()
        self.jumped = True
        self.mount, self.dentry = target.mount, target.dentry

    def up(self) -> None:
        """`..`: to the directory above, across mounts, never above the root. Raises EXDEV."""
        mount, dentry = self.mount, self.dentry
        while True:
            if dentry is self.root.dentry and mount is self.root.mount:
                if self.resolve & Resolve.BENEATH:
                    raise Errno.EXDEV
                break
            if dentry is not mount.root:
                if dentry.parent is not None:
                    dentry = dentry.parent
                break
            if mount.parent is None or mount.mountpoint is None:
                break
            dentry = mount.mountpoint
            mount = mount.parent
        if dentry.mounted is not None:
            below = self.mounts.descend(Path(mount, dentry))
            mount, dentry = below.mount, below.dentry
        if mount is not self.mount:
            self._crosses()
        self.mount, self.dentry = mount, dentry

    def _crosses(self) -> None:
        if self.resolve & Resolve.NO_XDEV:
            raise Errno.EXDEV
