"""Files of the host that a guest inherits open: `uvm run -- sort <names >sorted`.

Linux: what execve(2) leaves open.  The guest reads, writes, seeks and truncates the
very descriptor, so whoever shares it (the caller's shell, before us and after us)
sees the position where the guest left it; a call answers when the host's has, with
the host's error.  Regular files, and devices that never wait (/dev/null, /dev/full,
a disk): what epoll refuses to watch.  How they are read and written: `inherited_file.py`.

A guest gets what the descriptor allows and no more: opened once more through
/proc/self/fd, the file has a position of its own but no other access mode (EACCES),
and its owner and set-id bits are not the guest's to change (EPERM).

Invariants:
- one inode for each file, however many descriptors lead to it;
- descriptors are not state: after a thaw the embedder puts its own into each
  `Given` again, what was opened once more is opened again on demand;
- with a virtual clock times are the machine's, not the host's.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar, TypeVarTuple, cast

from uvm_async.errors import Errno, from_oserror
from uvm_async.fs.anon import PseudoSuperBlock, internal_mount, pseudo_path
from uvm_async.fs.hostfs import fdcalls
from uvm_async.fs.hostfs.hostcalls import HostFd
from uvm_async.fs.hostfs.inherited_file import InheritedFile, ReopenedFile
from uvm_async.fs.inode import File, Inode, Path
from uvm_async.mm.filemap import filemap_fsync, truncate_pages
from uvm_async.sched.wait import host
from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.kernel.kernel import Kernel
    from uvm_async.kernel.task import Task

__all__ = ["Given", "inherit"]

Args = TypeVarTuple("Args")
T = TypeVar("T")

PAGE_BYTES: Final = 4096
NOBODY: Final = 65534
MEMORY_MAJOR: Final = 1
"""Of /dev/null, /dev/zero, /dev/full: writing to them takes no time."""
O_LARGEFILE: Final = 0o100000


class Given(Entity):
    """A descriptor of the embedder's."""

    TRANSIENT: ClassVar[frozenset[str]] = frozenset({"fd"})

    def __init__(self, fd: int, flags: int) -> None:
        self.fd = fd
        """-1 from a thaw until the embedder has put it back."""
        self.flags = flags

    def thawed(self) -> None:
        self.fd = -1

    def allows(self, flags: int) -> bool:
        """Is the access mode of `flags` part of its own?"""
        own = self.flags & os.O_ACCMODE
        return own in (os.O_RDWR, flags & os.O_ACCMODE)


class InheritedSuperBlock(PseudoSuperBlock):
    """Of everything inherited."""

    fs_type: ClassVar[bytes] = b"inherited"
    magic: ClassVar[int] = 0x00C0FFEE  # hostfs
    TRANSIENT: ClassVar[frozenset[str]] = frozenset({"opened"})

    def __init__(self, kernel: Kernel, dev: int) -> None:
        super().__init__(kernel, dev)
        self.identities: dict[tuple[int, int], InheritedInode] = {}
        """By the host's (st_dev, st_ino)."""
        self.opened: dict[ReopenedFile, HostFd] | None = None
        self.caller: tuple[int, int] | None = None
        """(uid, gid) that appear as 0; None: all ids appear as they are."""
        if os.geteuid() != 0:
            self.caller = (os.geteuid(), os.getegid())
        kernel.host_trees.append(self)

    async def in_worker(self, function: Callable[[*Args], T], *args: *Args) -> T:
        """Run a host call that may block. Its OSError is raised as the errno it is."""
        try:
            result: T = await host(self.kernel.workers.run(function, *args))
            return result
        except OSError as error:
            raise from_oserror(error) from None

    def let_go(self) -> None:
        """Close what was opened here."""
        for fd in (self.opened or {}).values():
            fd.close()
        self.opened = None

    async def sync(self) -> None:
        for inode in list(self.identities.values()):
            if inode.mapping is not None:
                await filemap_fsync(inode.mapping)


class InheritedInode(Inode):
    """A file of the host, reached by descriptors alone."""

    def __init__(
        self, sb: InheritedSuperBlock, identity: tuple[int, int], status: os.stat_result
    ) -> None:
        kind = stat.S_IFMT(status.st_mode)
        self.contents = kind == stat.S_IFREG
        """Has it contents of a size, that can be mapped?"""
        if kind == stat.S_IFDIR:
            kind = stat.S_IFREG  # nothing in it is reached; reading it is EISDIR
        self.kind = kind
        now_ns = sb.kernel.clock.realtime_ns()
        super().__init__(sb, sb.new_ino(), kind, rdev=status.st_rdev, now_ns=now_ns)
        self.identity = identity
        self.given: list[Given] = []
        self.version = (0, 0)
        """(mtime_ns, size) of the contents that the page cache holds."""
        self.show(status)

    @property
    def host(self) -> InheritedSuperBlock:
        return cast("InheritedSuperBlock", self.sb)

    @property
    def quick(self) -> bool:
        """Writing never waits."""
        return stat.S_ISCHR(self.mode) and os.major(self.rdev) == MEMORY_MAJOR

    def by(self, flags: int) -> Given:
        """A descriptor that allows the access mode of `flags`. Raises EACCES."""
        for given in self.given:
            if given.allows(flags):
                return given
        raise Errno.EACCES

    def show(self, status: os.stat_result) -> None:
        """Take over the host's attributes."""
        caller = self.host.caller
        self.mode = self.kind | stat.S_IMODE(status.st_mode)
        self.nlink = status.st_nlink
        self.size = status.st_size if self.contents else 0
        self.uid, self.gid = status.st_uid, status.st_gid
        if caller is not None:
            self.uid = 0 if self.uid == caller[0] else NOBODY
            self.gid = 0 if self.gid == caller[1] else NOBODY
        if self.sb.kernel.clock.virtual:
            self.blocks = -(-self.size // PAGE_BYTES) * (PAGE_BYTES // 512)
            return
        self.blocks = status.st_blocks
        self.atime_ns = status.st_atime_ns
        self.mtime_ns = status.st_mtime_ns
        self.ctime_ns = status.st_ctime_ns

    async def refresh(self) -> None:
        status = await self.host.in_worker(fdcalls.status, self.given[0])
        self.show(status)
        mapping = self.mapping
        version = (status.st_mtime_ns, status.st_size)
        if mapping is not None and version != self.version and not mapping.dirty:
            await truncate_pages(mapping, 0)
            self.version = version

    async def open(self, task: Task, path: Path, flags: int) -> File:
        """Through /proc/PID/fd. Raises EACCES, and what the host answers."""
        file = ReopenedFile(path, flags, self.by(flags))
        try:
            await file.handle()
        except BaseException:
            await file.put()
            raise
        return file

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
        """Raises EPERM for the owner, and without a descriptor to write by."""
        if size is not None:
            await self._truncate(size)
        elif uid is not None or gid is not None:
            raise Errno.EPERM
        else:
            try:
                given = self.by(os.O_WRONLY)
            except Errno.EACCES:
                raise Errno.EPERM from None
            if mode is not None:
                await self.host.in_worker(fdcalls.set_mode, given, mode & 0o777)
            if atime_ns is not None or mtime_ns is not None:
                atime_ns = self.atime_ns if atime_ns is None else atime_ns
                mtime_ns = self.mtime_ns if mtime_ns is None else mtime_ns
                await self.host.in_worker(fdcalls.set_times, given, atime_ns, mtime_ns)
        if self.sb.kernel.clock.virtual:
            self.atime_ns = self.atime_ns if atime_ns is None else atime_ns
            self.mtime_ns = self.mtime_ns if mtime_ns is None else mtime_ns
            self.ctime_ns = self.ctime_ns if ctime_ns is None else ctime_ns
        self.show(await self.host.in_worker(fdcalls.status, self.given[0]))

    async def _truncate(self, size: int) -> None:
        await self.host.in_worker(fdcalls.set_size, self.by(os.O_WRONLY), size)
        shrinks = size < self.size
        self.size = size
        if shrinks and self.mapping is not None:
            await truncate_pages(self.mapping, size)

    async def fallocate(self, mode: int, offset: int, length: int) -> None:
        """Raises ENOSPC, EFBIG, EOPNOTSUPP (all but plain allocation)."""
        if mode:
            raise Errno.EOPNOTSUPP
        await self.host.in_worker(fdcalls.preallocate, self.by(os.O_WRONLY), offset, length)
        self.size = max(self.size, offset + length)

    async def fsync(self, *, data_only: bool = False) -> None:
        if self.mapping is not None:
            await filemap_fsync(self.mapping)
        await self.host.in_worker(fdcalls.sync, self.given[0], data_only)

    def written(self, data: bytes, start: int) -> None:
        """The host has `data` at `start` now: so has whoever maps it."""
        now_ns = self.sb.kernel.clock.realtime_ns()
        self.mtime_ns = self.ctime_ns = now_ns
        if not self.contents:
            return
        self.size = max(self.size, start + len(data))
        if self.mapping is None:
            return
        frames, pages = self.sb.kernel.frames, self.mapping.pages
        done = 0
        while done < len(data):
            index, offset = divmod(start + done, PAGE_BYTES)
            part = data[done : done + PAGE_BYTES - offset]
            if index in pages:
                frames.write(pages[index], offset, part)
            done += len(part)

    # -- the page cache's view

    async def read_pages(self, index: int, count: int) -> bytes | None:
        given, offset = self.by(os.O_RDONLY), index * PAGE_BYTES
        length = min(count * PAGE_BYTES, self.size - offset)
        parts: list[bytes] = []
        while length > 0:
            part = await self.host.in_worker(fdcalls.read, given, length, offset)
            if not part:
                break
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return b"".join(parts) or None

    async def write_pages(self, index: int, data: bytes) -> None:
        offset = index * PAGE_BYTES
        data = data[: max(self.size - offset, 0)]
        if data:
            given = self.by(os.O_WRONLY)
            status = await self.host.in_worker(fdcalls.write_mapped, given, data, offset)
            self.version = (status.st_mtime_ns, status.st_size)


def inherit(kernel: Kernel, fd: int) -> tuple[InheritedFile, Given]:
    """An open file, with one reference, on the embedder's descriptor `fd`, and what to put the
    descriptor into after a thaw. Raises OSError."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    status = os.fstat(fd)
    mount = internal_mount(kernel, InheritedSuperBlock)
    sb = cast("InheritedSuperBlock", mount.sb)
    identity = (status.st_dev, status.st_ino)
    inode = sb.identities.get(identity)
    if inode is None:
        inode = sb.identities[identity] = InheritedInode(sb, identity, status)
    given = Given(fd, flags)
    inode.given.append(given)
    try:
        name = os.readlink(b"/proc/self/fd/%d" % fd)
    except OSError:
        name = b"/"
    shown = flags & (os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK) | O_LARGEFILE
    return InheritedFile(pseudo_path(mount, inode, name), shown, given), given
