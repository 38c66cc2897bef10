"""hostfs: the super block: what of the host is seen, and how it is reached.

Seen are regular files, directories and symlinks; anything else does not exist
(ENOENT), and the host's proc, sysfs, cgroup, devtmpfs and their like are empty
directories.  Every name is walked one component at a time, without following
symlinks, from the root's descriptor, so nothing leads out of the root; symlinks
are text, which the guest's own walk follows.

A host descriptor is never state.  An inode is a name in its parent and an
identity (st_dev, st_ino); it is opened on demand, and what is then found under
the name must still have that identity (ESTALE).  Open descriptors are a bounded
cache.

Two ways to look (`Sight`): a *snapshot* believes what it saw first (the lower
layer of a root: names and attributes never change), a *live* view asks the host
at every lookup and open.

Invariants:
- one `HostInode` for each identity, so hard links are one inode;
- an inode's number is the order of first look-up, in which listings count;
- `descriptors` never holds more than `DESCRIPTORS`, or a quarter of what this process may have.
"""

from __future__ import annotations

import enum
import os
import resource
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar, TypeVarTuple

from uvm_async.errors import Errno, UsageError, from_oserror
from uvm_async.fs.hostfs import hostcalls
from uvm_async.fs.hostfs.hostcalls import (
    Access,
    Found,
    HostFd,
    Reach,
    find,
    find_cached,
    open_root,
    open_steps,
    reopen,
)
from uvm_async.fs.hostfs.inode import HostDir, HostFile, HostInode, HostSymlink, LiveHostDir
from uvm_async.fs.inode import StatFs, SuperBlock
from uvm_async.sched.wait import host

if TYPE_CHECKING:
    from uvm_async.kernel.kernel import Kernel

__all__ = ["HostSuperBlock", "Sight", "mount_hostfs"]

Args = TypeVarTuple("Args")
T = TypeVar("T")

DESCRIPTORS: Final = 64
FEWEST_DESCRIPTORS: Final = 8
NOBODY: Final = 65534
"""What ids without a mapping look like (/proc/sys/kernel/overflowuid)."""
HOSTFS_MAGIC: Final = 0x00C0FFEE


class Sight(enum.Enum):
    """When the host is asked again."""

    SNAPSHOT = enum.auto()
    LIVE = enum.auto()


class HostSuperBlock(SuperBlock):
    """A host directory."""

    fs_type: ClassVar[bytes] = b"hostfs"
    magic: ClassVar[int] = HOSTFS_MAGIC
    TRANSIENT: ClassVar[frozenset[str]] = frozenset({"descriptors", "room", "root_fd"})

    def __init__(
        self,
        kernel: Kernel,
        dev: int,
        path: bytes,
        found: Found,
        *,
        sight: Sight,
        deterministic: bool,
    ) -> None:
        """`path` is absolute; `found` is what it names. Made by `mount_hostfs`."""
        super().__init__(kernel, dev, read_only=True)
        self.source = path
        self.path = path
        self.sight = sight
        self.deterministic = deterministic
        self.caller: tuple[int, int] | None = None
        """(uid, gid) that appear as 0; None: all ids appear as they are."""
        if os.geteuid() != 0:
            self.caller = (os.geteuid(), os.getegid())
        self.identities: dict[tuple[int, int], HostInode] = {}
        self.numbers: dict[tuple[int, int], int] = {}
        self.no_openat2 = False
        self.descriptors: dict[HostInode, HostFd] | None = None
        self.room = DESCRIPTORS
        """How many there may be; settled when there is the first."""
        self.root_fd: HostFd | None = found.fd
        self.root: HostInode = self.new_inode(found, None, b"")

    # -- inodes

    @property
    def live(self) -> bool:
        return self.sight is Sight.LIVE

    def kinds(self) -> dict[int, type[HostInode]]:
        """Classes of inodes by S_IFMT."""
        return {
            stat.S_IFREG: HostFile,
            stat.S_IFLNK: HostSymlink,
            stat.S_IFDIR: LiveHostDir if self.live else HostDir,
        }

    def number(self, dev: int, ino: int) -> int:
        """The inode number that stands for the host's."""
        key = (dev, ino)
        number = self.numbers.get(key)
        if number is None:
            number = self.numbers[key] = len(self.numbers) + 1
        return number

    def uid_seen(self, uid: int) -> int:
        if self.caller is None:
            return uid
        return 0 if uid == self.caller[0] else NOBODY

    def gid_seen(self, gid: int) -> int:
        if self.caller is None:
            return gid
        return 0 if gid == self.caller[1] else NOBODY

    def new_inode(self, found: Found, parent: HostDir | None, name: bytes) -> HostInode:
        """The inode of what was found under a name. Raises ENOENT for what is not shown."""
        status = found.status
        kind = stat.S_IFMT(status.st_mode)
        if kind not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
            raise Errno.ENOENT
        if found.reach is Reach.HIDDEN and kind != stat.S_IFDIR:
            raise Errno.ENOENT
        identity = (status.st_dev, status.st_ino)
        inode = self.identities.get(identity)
        if inode is None or stat.S_IFMT(inode.mode) != kind:
            make = self.kinds()[kind]
            inode = make(self, self.number(*identity), identity, found.reach)
            self.identities[identity] = inode
            inode.show(status)
        elif self.live:
            inode.look_again(status)
        inode.parent, inode.name = parent, name
        if parent is not None:
            self.keep(inode, found.fd)
        return inode

    # -- reaching the host

    async def in_worker(self, function: Callable[[*Args], T], *args: *Args) -> T:
        """Run a host call that may block. Its OSError is raised as the errno it is."""
        try:
            result: T = await host(self.kernel.workers.run(function, *args))
            return result
        except OSError as error:
            raise from_oserror(error) from None

    def keep(self, inode: HostInode, fd: HostFd) -> None:
        """Remember a descriptor; the one that was not used for longest is forgotten."""
        cache = self.descriptors
        if cache is None:
            cache = self.descriptors = {}
            soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            quarter = DESCRIPTORS if soft == resource.RLIM_INFINITY else soft // 4
            self.room = max(FEWEST_DESCRIPTORS, min(DESCRIPTORS, quarter))
        cache.pop(inode, None)
        cache[inode] = fd
        if len(cache) > self.room:
            del cache[next(iter(cache))]

    def forget(self, inode: HostInode) -> None:
        """Its descriptor is of no use any more."""
        if self.descriptors is not None:
            self.descriptors.pop(inode, None)

    async def open(self, inode: HostInode, access: Access) -> HostFd:
        """A descriptor of `inode`. Raises ESTALE, EACCES and what else the host answers."""
        fd = self.kept(inode, access)
        if fd is not None:
            return fd
        fd = await self._place(inode)
        if access is not Access.PLACE:
            fd = await self._reopen(inode, fd, access)
        self.keep(inode, fd)
        return fd

    def kept(self, inode: HostInode, access: Access) -> HostFd | None:
        """A descriptor of `inode` that is good for `access`, if there is one."""
        if inode.parent is None:
            fd = self.root_fd
        else:
            fd = self.descriptors.get(inode) if self.descriptors is not None else None
        return fd if fd is not None and fd.access >= access else None

    async def _place(self, inode: HostInode) -> HostFd:
        """The place that `inode` is at, walked down from the nearest one that is open."""
        steps: list[HostInode] = []
        start = self.kept(inode, Access.PLACE)
        while start is None:
            steps.append(inode)
            if inode.parent is None:
                start = await self._open_root()
                steps.pop()
            else:
                inode = inode.parent
                start = self.kept(inode, Access.PLACE)
        while steps:
            child = steps[-1]
            found = self.find_inline(inode, start, child.name)
            if found is None:
                break
            if (found.status.st_dev, found.status.st_ino) != child.identity:
                raise Errno.ESTALE
            start, inode = found.fd, child
            self.keep(child, start)
            steps.pop()
        if steps:
            names = [(step.name, step.identity) for step in reversed(steps)]
            places = await self.in_worker(open_steps, start, names)
            for step, place in zip(reversed(steps), places, strict=True):
                self.keep(step, place)
            start = places[-1]
        return start

    async def _open_root(self) -> HostFd:
        """Raises ESTALE where another directory is at its path now."""
        found = await self.in_worker(open_root, self.path)
        if (found.status.st_dev, found.status.st_ino) != self.root.identity:
            raise Errno.ESTALE
        self.root_fd = found.fd
        return found.fd

    async def _reopen(self, inode: HostInode, place: HostFd, access: Access) -> HostFd:
        if inode.reach >= Reach.LOCAL:
            try:
                return reopen(place, access)
            except BlockingIOError:
                pass  # a lease: its holder is asked for it, which takes a while
            except OSError as error:
                raise from_oserror(error) from None
        return await self.in_worker(reopen, place, access)

    def find_inline(self, directory: HostInode, place: HostFd, name: bytes) -> Found | None:
        """An entry of `directory`, which is open as `place`, if the host can tell at once.

        Raises ENOENT, EACCES, ENAMETOOLONG."""
        if directory.reach < Reach.LOCAL or self.no_openat2:
            return None
        try:
            return find_cached(place, name, directory.reach)
        except PermissionError:
            return None  # or a filter that does not know openat2: the worker finds out
        except OSError as error:
            if error.errno == Errno.ENOSYS.errno:
                self.no_openat2 = True
                return None
            raise from_oserror(error) from None

    async def find(self, directory: HostInode, name: bytes) -> Found:
        """An entry of `directory`. Raises ENOENT, EACCES, ENAMETOOLONG, ESTALE."""
        place = await self.open(directory, Access.PLACE)
        found = self.find_inline(directory, place, name)
        if found is None:
            dev = directory.identity[0]
            found = await self.in_worker(find, place, name, dev, directory.reach)
        return found

    # -- the super block's operations

    async def statfs(self) -> StatFs:
        """The host's figures; without any where they would differ from run to run."""
        if self.deterministic:
            return StatFs(self.magic, 4096, 0, 0, 0, 0, 0)
        place = await self.open(self.root, Access.PLACE)
        figures = await self.in_worker(hostcalls.figures, place)
        return StatFs(
            self.magic,
            figures.f_bsize,
            figures.f_blocks * figures.f_frsize // figures.f_bsize,
            figures.f_bfree * figures.f_frsize // figures.f_bsize,
            figures.f_bavail * figures.f_frsize // figures.f_bsize,
            figures.f_files,
            figures.f_ffree,
            figures.f_namemax,
        )

    async def umount(self) -> None:
        await self.sync()
        self.let_go()

    def let_go(self) -> None:
        """Close every host descriptor. What is used again opens its own."""
        for fd in (self.descriptors or {}).values():
            fd.close()
        if self.root_fd is not None:
            self.root_fd.close()
        self.descriptors = None
        self.root_fd = None


async def mount_hostfs(
    kernel: Kernel,
    path: bytes,
    *,
    sight: Sight = Sight.LIVE,
    deterministic: bool = False,
    writable: bool = False,
) -> HostSuperBlock:
    """The host directory at `path` (symlinks followed), ready to be attached.

    For the embedder alone: no guest can name a directory of the host, so the type is not
    registered. Raises UsageError where there is no such directory.
    """

    def resolve() -> tuple[bytes, Found]:
        real = os.path.realpath(path)
        return real, open_root(real)

    try:
        real, found = await host(kernel.workers.run(resolve))
    except OSError as error:
        raise UsageError(f"{os.fsdecode(path)}: {error.strerror}") from None
    if writable:
        from uvm_async.fs.hostfs.writable import WritableHostSuperBlock

        sb: HostSuperBlock = WritableHostSuperBlock(
            kernel, kernel.next_anon_dev(), real, found, deterministic=deterministic
        )
        kernel.host_trees.append(sb)
        return sb
    sb = HostSuperBlock(
        kernel,
        kernel.next_anon_dev(),
        real,
        found,
        sight=sight,
        deterministic=deterministic,
    )
    kernel.host_trees.append(sb)
    return sb
