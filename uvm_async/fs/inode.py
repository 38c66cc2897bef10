"""The VFS's nouns: super_block, inode, dentry, mount, path, file.

Linux: include/linux/fs.h, Documentation/filesystems/vfs.rst.  A file system is a
`SuperBlock` and some `Inode` subclasses that override the operations they can
do; each base operation raises the errno Linux gives where there is none.

Invariants:
- names are `bytes`, one component, never b"." or b".." (the walk handles those);
- directory-changing operations are called with the directory's `lock` held,
  rename with both (the parent with the lower `(dev, ino)` first), and after
  permission checks: a file system checks only what it alone knows (ENOSPC, ...);
- an inode with `nlink == 0` lives until its last `File` and mapping are gone,
  then `evict` is awaited once;
- times are nanoseconds since the epoch, from the machine's clock; reads and writes
  set `atime_ns`, `mtime_ns` and `ctime_ns` directly.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uvm_async.errors import Errno
from uvm_async.fs.lifetime import fput
from uvm_async.sched.wait import Mutex, WaitQueue
from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.fs.epoll import EpollItem
    from uvm_async.fs.locks import InodeLocks
    from uvm_async.fs.permission import FsCred
    from uvm_async.fs.pipe import Pipe
    from uvm_async.kernel.kernel import Kernel
    from uvm_async.kernel.task import Task
    from uvm_async.mm.filemap import AddressSpace
    from uvm_async.mm.iov import IovIter

__all__ = [
    "Dentry",
    "DirEntry",
    "File",
    "Inode",
    "Mount",
    "Path",
    "StatFs",
    "SuperBlock",
]


@dataclass(slots=True)
class StatFs:
    """statfs(2), in blocks of `bsize` bytes."""

    type: int
    bsize: int
    blocks: int
    bfree: int
    bavail: int
    files: int
    ffree: int
    namelen: int = 255
    flags: int = 0


@dataclass(slots=True, frozen=True)
class DirEntry:
    """One entry of a directory. `next_pos` is the cookie from which the listing goes on."""

    name: bytes
    ino: int
    type: int
    """DT_* of getdents64(2)."""
    next_pos: int


class SuperBlock(Entity):
    """A mounted file system instance."""

    fs_type: ClassVar[bytes] = b"none"
    magic: ClassVar[int] = 0

    def __init__(self, kernel: Kernel, dev: int, *, read_only: bool = False) -> None:
        self.kernel = kernel
        """For the clock (`kernel.clock.realtime_ns()`) and frames (`kernel.frames`)."""
        self.dev = dev
        self.read_only = read_only
        self.source: bytes = b"none"
        self.root: Inode
        self.rename_lock = Mutex()
        """Held by whoever moves a directory to another parent; taken before any inode's lock."""

    async def statfs(self) -> StatFs:
        """statfs(2)."""
        return StatFs(self.magic, 4096, 0, 0, 0, 0, 0)

    async def sync(self) -> None:
        """Write all that is dirty and wait until it is stable. Raises EIO."""

    async def remount(self, *, read_only: bool) -> None:
        """mount(2) with MS_REMOUNT. Raises EROFS where it cannot be made writable."""
        self.read_only = read_only

    async def umount(self) -> None:
        """The last reference is gone: write back and let go of the device."""


class Inode(Entity):
    """A file of any type. Field names and meanings as stat(2)."""

    cache_names: ClassVar[bool] = True
    """False: entries of this directory come and go by themselves (procfs); always ask `lookup`."""

    def __init__(
        self,
        sb: SuperBlock,
        ino: int,
        mode: int,
        *,
        uid: int = 0,
        gid: int = 0,
        nlink: int = 1,
        rdev: int = 0,
        now_ns: int = 0,
    ) -> None:
        self.sb = sb
        self.ino = ino
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.nlink = nlink
        self.rdev = rdev
        self.size = 0
        self.blocks = 0
        """In units of 512 bytes."""
        self.blksize = 4096
        self.atime_ns = self.mtime_ns = self.ctime_ns = now_ns
        self.mapping: AddressSpace | None = None
        self.lock = Mutex()
        self.opens = 0
        """Open files, working directories and calls in progress on it (Linux: i_count)."""
        self.writers = 0
        """Files open for writing; below zero: programs being executed from it (i_writecount)."""
        self.linkable = False
        """Made by O_TMPFILE without O_EXCL: linkat(2) may give it its first name (I_LINKABLE)."""
        self.locks: InodeLocks | None = None
        """Advisory locks, once there were any."""
        self.pipe: Pipe | None = None
        """The pipe behind a FIFO while it is open."""

    # -- what it is

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_reg(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self.mode)

    async def refresh(self) -> None:
        """Bring size and times up to date before a stat, where they live elsewhere."""

    async def prepare_read(self) -> None:
        """The contents will be read through `mapping` or `read_pages`: find out now what would
        refuse it. Raises EACCES, ESTALE, EIO."""

    # -- directory operations (on the directory's inode)

    async def lookup(self, name: bytes) -> Inode:
        """The inode of one entry. Raises ENOENT, ENOTDIR, EIO."""
        raise Errno.ENOTDIR

    async def readdir(self, pos: int, limit: int) -> list[DirEntry]:
        """Up to `limit` entries from cookie `pos` (0 = start), without "." and "..".
        Empty at the end. Order is deterministic; entries that stay are seen once."""
        raise Errno.ENOTDIR

    async def create(self, name: bytes, mode: int, uid: int, gid: int, rdev: int = 0) -> Inode:
        """New regular file, device, FIFO or socket (by S_IFMT of `mode`). Raises EROFS, ENOSPC."""
        raise Errno.EROFS

    async def mkdir(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        raise Errno.EPERM

    async def symlink(self, name: bytes, target: bytes, uid: int, gid: int) -> Inode:
        raise Errno.EPERM

    async def link(self, name: bytes, inode: Inode) -> None:
        """A further name for `inode` (same super block). Raises EMLINK."""
        raise Errno.EPERM

    async def unlink(self, name: bytes, inode: Inode) -> None:
        """Remove a name; drops nlink."""
        raise Errno.EPERM

    async def rmdir(self, name: bytes, inode: Inode) -> None:
        """Raises ENOTEMPTY."""
        raise Errno.EPERM

    async def rename(
        self,
        name: bytes,
        inode: Inode,
        new_dir: Inode,
        new_name: bytes,
        target: Inode | None,
        *,
        exchange: bool = False,
    ) -> None:
        """Move an entry; `target`, if any, is replaced (or swapped). Raises ENOTEMPTY."""
        raise Errno.EPERM

    async def tmpfile(self, mode: int, uid: int, gid: int) -> Inode:
        """O_TMPFILE: an inode without a name."""
        raise Errno.EOPNOTSUPP

    # -- inode operations

    async def readlink(self) -> bytes:
        raise Errno.EINVAL

    async def get_link(self, task: Task) -> bytes | Path:
        """What a walk goes on with: the link's text, or (a magic link of procfs) a place."""
        return await self.readlink()

    async def fallocate(self, mode: int, offset: int, length: int) -> None:
        """FALLOC_FL_* of fallocate(2), with the inode's lock held. Raises ENOSPC, EFBIG."""
        raise Errno.EOPNOTSUPP

    async def setattr(
        self,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
        ctime_ns: int | None = None,
    ) -> None:
        """Change attributes; `mode` is the permission bits and S_ISUID.. only. Permission is the
        caller's business, and so is passing `ctime_ns`. Raises EROFS, ENOSPC, EFBIG."""
        if size is not None:
            raise Errno.EINVAL
        if mode is not None:
            self.mode = stat.S_IFMT(self.mode) | (mode & 0o7777)
        self.uid = self.uid if uid is None else uid
        self.gid = self.gid if gid is None else gid
        self.atime_ns = self.atime_ns if atime_ns is None else atime_ns
        self.mtime_ns = self.mtime_ns if mtime_ns is None else mtime_ns
        self.ctime_ns = self.ctime_ns if ctime_ns is None else ctime_ns

    async def seek_data(self, offset: int, *, hole: bool) -> int:
        """SEEK_DATA and SEEK_HOLE from `offset` (< size): here, a file without holes."""
        return self.size if hole else offset

    async def fsync(self, *, data_only: bool = False) -> None:
        """Write data and metadata of this inode and wait until they are stable."""

    async def evict(self) -> None:
        """No name, no open file, no mapping is left: free it."""

    async def open(self, task: Task, path: Path, flags: int) -> File:
        """An open file on it. The base serves regular files, directories, FIFOs and the devices
        that are registered with the kernel. Raises ENXIO, ENODEV."""
        from uvm_async.fs.file import DirFile, RegularFile
        from uvm_async.fs.special import open_special

        if self.is_reg:
            return RegularFile(path, flags)
        if self.is_dir:
            return DirFile(path, flags)
        return await open_special(task, path, flags)

    # -- the page cache's view (mm.mapping.BackingStore)

    async def read_pages(self, index: int, count: int) -> bytes | None:
        return None

    def mapped_write(self) -> None:
        self.mtime_ns = self.ctime_ns = self.sb.kernel.clock.realtime_ns()

    async def prepare_write(self, pos: int, length: int) -> int:
        return length

    async def write_pages(self, index: int, data: bytes) -> None:
        raise Errno.EIO

    @property
    def evictable(self) -> bool:
        return True


class Dentry(Entity):
    """A name in the tree, with the inode it stands for (None: known not to exist)."""

    __slots__ = ("children", "inode", "mounted", "name", "parent")

    def __init__(self, name: bytes, parent: Dentry | None, inode: Inode | None) -> None:
        self.name = name
        self.parent = parent
        """None at the root of a file system."""
        self.inode = inode
        self.children: dict[bytes, Dentry] = {}
        self.mounted: Mount | None = None
        """What is mounted here (the topmost)."""


class Mount(Entity):
    """A file system's place in the tree."""

    __slots__ = ("flags", "ident", "mountpoint", "parent", "root", "sb", "users")

    def __init__(
        self,
        sb: SuperBlock,
        root: Dentry,
        parent: Mount | None,
        mountpoint: Dentry | None,
        flags: int = 0,
    ) -> None:
        self.sb = sb
        self.root = root
        self.parent = parent
        self.mountpoint = mountpoint
        self.flags = flags
        """MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC ..."""
        self.ident = 0
        """The id that mountinfo and statx show."""
        self.users = 0
        """Open files and working directories on it: umount says EBUSY."""


@dataclass(slots=True, frozen=True)
class Path:
    """A place in the tree (Linux: struct path)."""

    mount: Mount
    dentry: Dentry

    @property
    def inode(self) -> Inode:
        inode = self.dentry.inode
        if inode is None:
            raise Errno.ENOENT
        return inode


class File(Entity):
    """An open file description (Linux: struct file). Subclasses override what they can do.

    `refs` counts descriptors, mappings and calls in progress; at 0 `release` is awaited.
    Offsets: `pos=None` means the file's own position, which the operation advances.
    """

    seekable: ClassVar[bool] = False
    can_poll: ClassVar[bool] = True
    """False: always ready, and epoll does not take it (EPERM)."""

    def __init__(self, path: Path | None, flags: int) -> None:
        self.path = path
        self.flags = flags
        """O_* of open(2): access mode and status flags; O_CLOEXEC lives in the fd table."""
        self.pos = 0
        self.refs = 1
        self.watchers: dict[EpollItem, None] | None = None
        """Epoll entries that end with this file."""
        self.cred: FsCred | None = None
        """Whose it is: the credentials it was opened with by path."""
        self.owner: tuple[int, int, int] = (0, 0, 0)
        """(F_OWNER_*, pid, signal) of fcntl F_SETOWN_EX and F_SETSIG."""
        if path is not None:
            path.inode.opens += 1
            path.mount.users += 1

    @property
    def inode(self) -> Inode:
        if self.path is None:
            raise Errno.EINVAL
        return self.path.inode

    @property
    def mapping(self) -> AddressSpace | None:
        """What mmap maps; None: ENODEV."""
        return None

    @property
    def readable(self) -> bool:
        return self.flags & 3 != 1

    @property
    def writable(self) -> bool:
        return self.flags & 3 != 0

    async def read_iter(self, task: Task, it: IovIter, pos: int | None = None) -> int:
        """Fill `it`; answers bytes read, 0 at the end. Raises EAGAIN, EFAULT, EIO, EISDIR."""
        raise Errno.EINVAL

    async def write_iter(self, task: Task, it: IovIter, pos: int | None = None) -> int:
        """Drain `it`; answers bytes written. Raises EAGAIN, EFAULT, EPIPE, ENOSPC, EFBIG."""
        raise Errno.EINVAL

    def poll(self, task: Task) -> int:
        """POLL* bits that hold now. Regular files are always ready."""
        return 0x145  # POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM

    def poll_queues(self) -> Iterable[WaitQueue]:
        """Queues woken whenever `poll` may have changed. Wake all who stand there, always."""
        return ()

    def poll_queues_of(self, task: Task) -> Iterable[WaitQueue]:
        """The same, where they depend on who asks (signalfd)."""
        return self.poll_queues()

    async def ioctl(self, task: Task, cmd: int, arg: int) -> int:
        raise Errno.ENOTTY

    async def llseek(self, offset: int, whence: int) -> int:
        """Raises ESPIPE, EINVAL, ENXIO."""
        raise Errno.ESPIPE

    async def fsync(self, *, data_only: bool = False) -> None:
        """Raises EINVAL where there is nothing behind it."""
        raise Errno.EINVAL

    async def flush(self, task: Task) -> None:
        """A descriptor is closed (each time)."""

    async def put(self) -> None:
        """One reference less: what those below the file systems call fput by."""
        await fput(self)

    async def release(self) -> None:
        """The last reference is gone."""
