"""Files of the host that a guest inherits open: `uvm run -- sort <names >sorted`.

Linux: what execve(2) leaves open.  The guest reads, writes, seeks and truncates the
very descriptor, so whoever shares it (the caller's shell, before us and after us)
sees the position where the guest left it; a call answers when the host's has, with
the host's error.  Regular files, and devices that never wait (/dev/null, /dev/full,
a disk): what epoll refuses to watch.

Contents pass by the page cache, which exists only for mmap; a write changes what is
cached of it as well, a read is preceded by writing back what is dirty.

A guest gets what the descriptor allows and no more: opened once more through
/proc/self/fd, the file has a position of its own but no other access mode (EACCES),
and its owner and set-id bits are not the guest's to change (EPERM).

Invariants:
- one inode for each file, however many descriptors lead to it;
- descriptors are not state: after a thaw the embedder puts its own into each
  `Given` again, what was opened once more is opened again on demand;
- with a virtual clock times are the machine's, not the host's.

Lock order: the inode's lock, as for any regular file.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Final, Protocol, TypeVar, TypeVarTuple, cast

from uvm_async.errors import Errno, from_oserror
from uvm_async.fs.anon import PseudoSuperBlock, internal_mount, pseudo_path
from uvm_async.fs.attr import RLIMIT_FSIZE, check_size
from uvm_async.fs.file import AT_END, RegularFile
from uvm_async.fs.hostfs.hostcalls import Access, HostFd
from uvm_async.fs.inode import File, Inode, Path
from uvm_async.mm.filemap import AddressSpace, filemap_fsync, truncate_pages
from uvm_async.mm.iov import CHUNK_BYTES
from uvm_async.sched.wait import host
from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.kernel.kernel import Kernel
    from uvm_async.kernel.task import Task
    from uvm_async.mm.iov import IovIter

__all__ = ["Given", "inherit", "never_waits"]

Args = TypeVarTuple("Args")
T = TypeVar("T")

PAGE_BYTES: Final = 4096
WRITE_BYTES: Final = 1 << 20
"""Most bytes handed to a worker at once."""
OWN: Final = -1
"""An offset: wherever the descriptor itself stands."""
NOBODY: Final = 65534
MEMORY_MAJOR: Final = 1
"""Of /dev/null, /dev/zero, /dev/full: writing to them takes no time."""
UNLIMITED: Final = (1 << 64) - 1
O_LARGEFILE: Final = 0o100000


class Handle(Protocol):
    """What has a descriptor."""

    fd: int


# -- calls to the host; all raise OSError


def _read_cached(handle: Handle, count: int, offset: int) -> bytes | None:
    """What the host has in memory, at most `count` bytes; None if it would have to wait."""
    data = bytearray(count)
    try:
        got = os.preadv(handle.fd, [data], offset, os.RWF_NOWAIT)
    except OSError:
        return None
    return bytes(data[:got])


def _read(handle: Handle, count: int, offset: int) -> bytes:
    """May block."""
    return os.read(handle.fd, count) if offset == OWN else os.pread(handle.fd, count, offset)


def _write(handle: Handle, data: bytes, offset: int) -> int:
    """May block."""
    return os.write(handle.fd, data) if offset == OWN else os.pwrite(handle.fd, data, offset)


def _write_mapped(handle: Handle, data: bytes, offset: int) -> os.stat_result:
    """pwrite(2) of all of it, also where the descriptor is for appending. May block."""
    if fcntl.fcntl(handle.fd, fcntl.F_GETFL) & os.O_APPEND:
        handle = _reopen(handle, os.O_WRONLY)
    view = memoryview(data)
    while view:
        done = os.pwrite(handle.fd, view, offset)
        view, offset = view[done:], offset + done
    return os.fstat(handle.fd)


def _reopen(handle: Handle, flags: int) -> HostFd:
    """The same file, opened once more. May block."""
    flags |= os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    return HostFd(os.open(b"/proc/self/fd/%d" % handle.fd, flags), Access.WRITE)


def _status(handle: Handle) -> os.stat_result:
    return os.fstat(handle.fd)


def _seek(handle: Handle, offset: int, whence: int) -> int:
    return os.lseek(handle.fd, offset, whence)


def _set_size(handle: Handle, size: int) -> None:
    os.ftruncate(handle.fd, size)


def _preallocate(handle: Handle, offset: int, length: int) -> None:
    os.posix_fallocate(handle.fd, offset, length)


def _set_mode(handle: Handle, mode: int) -> None:
    os.fchmod(handle.fd, mode)


def _set_times(handle: Handle, atime_ns: int, mtime_ns: int) -> None:
    os.utime(handle.fd, ns=(atime_ns, mtime_ns))


def _sync(handle: Handle, data_only: bool) -> None:
    if data_only:
        os.fdatasync(handle.fd)
    else:
        os.fsync(handle.fd)


def never_waits(fd: int) -> bool:
    """Is `fd` for `inherit`: a regular file, or what there is no waiting for?"""
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return True
        with select.epoll() as epoll:
            epoll.register(fd, select.EPOLLIN)
    except PermissionError:
        return True
    except OSError:
        return False
    return False


# -- the guest's side


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
        status = await self.host.in_worker(_status, self.given[0])
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
                await self.host.in_worker(_set_mode, given, mode & 0o777)
            if atime_ns is not None or mtime_ns is not None:
                atime_ns = self.atime_ns if atime_ns is None else atime_ns
                mtime_ns = self.mtime_ns if mtime_ns is None else mtime_ns
                await self.host.in_worker(_set_times, given, atime_ns, mtime_ns)
        if self.sb.kernel.clock.virtual:
            self.atime_ns = self.atime_ns if atime_ns is None else atime_ns
            self.mtime_ns = self.mtime_ns if mtime_ns is None else mtime_ns
            self.ctime_ns = self.ctime_ns if ctime_ns is None else ctime_ns
        self.show(await self.host.in_worker(_status, self.given[0]))

    async def _truncate(self, size: int) -> None:
        await self.host.in_worker(_set_size, self.by(os.O_WRONLY), size)
        shrinks = size < self.size
        self.size = size
        if shrinks and self.mapping is not None:
            await truncate_pages(self.mapping, size)

    async def fallocate(self, mode: int, offset: int, length: int) -> None:
        """Raises ENOSPC, EFBIG, EOPNOTSUPP (all but plain allocation)."""
        if mode:
            raise Errno.EOPNOTSUPP
        await self.host.in_worker(_preallocate, self.by(os.O_WRONLY), offset, length)
        self.size = max(self.size, offset + length)

    async def fsync(self, *, data_only: bool = False) -> None:
        if self.mapping is not None:
            await filemap_fsync(self.mapping)
        await self.host.in_worker(_sync, self.given[0], data_only)

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
            part = await self.host.in_worker(_read, given, length, offset)
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
            status = await self.host.in_worker(_write_mapped, given, data, offset)
            self.version = (status.st_mtime_ns, status.st_size)


class InheritedFile(RegularFile):
    """An open file whose position is the host descriptor's."""

    def __init__(self, path: Path, flags: int, given: Given) -> None:
        self.given = given
        super().__init__(path, flags)

    @property
    def node(self) -> InheritedInode:
        return cast("InheritedInode", self.inode)

    @property
    def mapping(self) -> AddressSpace | None:
        inode = self.node
        if inode.mapping is None and inode.contents:
            inode.mapping = AddressSpace(inode, inode.sb.kernel.frames)
        return inode.mapping

    @property
    def pos(self) -> int:
        try:
            return os.lseek(self.given.fd, 0, os.SEEK_CUR)
        except OSError:
            return 0

    @pos.setter
    def pos(self, pos: int) -> None:
        if "refs" in self.__dict__:  # not by the constructor: it stays where it is
            try:
                os.lseek(self.given.fd, pos, os.SEEK_SET)
            except OSError as error:
                raise from_oserror(error) from None

    async def handle(self) -> Handle:
        """The host's descriptor."""
        return self.given

    def offset(self, pos: int | None) -> int:
        """Where the host is to read or write."""
        return OWN if pos is None else pos

    def moved(self, handle: Handle, to: int) -> None:
        """A read or write from the file's own position has ended at `to`."""

    async def read_iter(self, task: Task, it: IovIter, pos: int | None = None) -> int:
        """Raises EISDIR, EIO, EFAULT and what else the host answers."""
        inode, handle = self.node, await self.handle()
        if inode.mapping is not None and inode.mapping.dirty:
            await filemap_fsync(inode.mapping)
        offset, done = self.offset(pos), 0
        while it.count:
            try:
                want = min(it.count, CHUNK_BYTES)
                await it.fault_in(want)
                data = _read_cached(handle, want, offset)
                if data is None:
                    data = await inode.host.in_worker(_read, handle, want, offset)
                copied = await self._hand_over(it, handle, data, offset)
            except Errno:
                if done:
                    break
                raise
            done += copied
            if offset != OWN:
                offset += copied
            if not copied or copied < len(data) or not inode.contents:
                break
        if pos is None and offset != OWN:
            self.moved(handle, offset)
        return done

    async def _hand_over(self, it: IovIter, handle: Handle, data: bytes, offset: int) -> int:
        """Copy to the guest; what it has not got is not read. Raises EFAULT."""
        copied = 0
        try:
            if data:
                copied = await it.copy_to(data)
        finally:
            if offset == OWN and copied < len(data):
                os.lseek(handle.fd, copied - len(data), os.SEEK_CUR)
        return copied

    async def write_iter(self, task: Task, it: IovIter, pos: int | None = None) -> int:
        """Raises ENOSPC, EFBIG, EIO, EFAULT and what else the host answers."""
        inode = self.node
        async with inode.lock:
            handle = await self.handle()
            self._follow_flags(handle)
            if pos == AT_END:
                await inode.refresh()
                pos = inode.size
            self._limit(task, it, pos)
            offset, done = self.offset(pos), 0
            while it.count:
                try:
                    data = await it.copy_from(min(it.count, WRITE_BYTES))
                    written = await self._write_out(handle, data, offset)
                except Errno:
                    if done:
                        break
                    raise
                done += written
                if offset != OWN:
                    offset += written
                if written < len(data):
                    break
            if pos is None and offset != OWN:
                self.moved(handle, offset)
        return done

    async def _write_out(self, handle: Handle, data: bytes, offset: int) -> int:
        """Write all of it, or as much as the host takes. Raises what it says to the first byte."""
        inode, done = self.node, 0
        while done < len(data):
            part = data[done:] if done else data
            at = offset if offset == OWN else offset + done
            try:
                if inode.quick:
                    written = _write(handle, part, at)
                else:
                    written = await inode.host.in_worker(_write, handle, part, at)
            except (Errno, OSError) as error:
                if done:
                    break
                raise from_oserror(error) if isinstance(error, OSError) else error from None
            if inode.contents:
                if self.flags & os.O_APPEND and offset != OWN:
                    start = os.fstat(handle.fd).st_size - written
                else:
                    start = os.lseek(handle.fd, 0, os.SEEK_CUR) - written if at == OWN else at
                inode.written(part[:written], start)
            done += written
            if not written:
                break
        return done

    def _follow_flags(self, handle: Handle) -> None:
        """fcntl(2) may have changed whether writes append: of everybody who shares the file."""
        flags = fcntl.fcntl(handle.fd, fcntl.F_GETFL)
        if (flags ^ self.flags) & os.O_APPEND:
            fcntl.fcntl(handle.fd, fcntl.F_SETFL, flags ^ os.O_APPEND)

    def _limit(self, task: Task, it: IovIter, pos: int | None) -> None:
        """RLIMIT_FSIZE. Raises EFBIG, with SIGXFSZ."""
        soft = task.process.rlimits.get(RLIMIT_FSIZE, (UNLIMITED, UNLIMITED))[0]
        if soft >= 1 << 63 or not self.node.contents or not it.count:
            return
        start = self.pos if pos is None else pos
        if self.flags & os.O_APPEND:
            start = self.node.size
        check_size(task, start + 1)
        it.count = min(it.count, soft - start)

    async def llseek(self, offset: int, whence: int) -> int:
        handle = await self.handle()
        if whence in (os.SEEK_SET, os.SEEK_CUR):
            try:
                return os.lseek(handle.fd, offset, whence)
            except OSError as error:
                raise from_oserror(error) from None
        return await self.node.host.in_worker(_seek, handle, offset, whence)

    async def release(self) -> None:
        inode = self.node
        try:
            if inode.mapping is not None and inode.mapping.dirty:
                await filemap_fsync(inode.mapping)
        finally:
            await super().release()
            if inode.opens == 1:
                inode.host.identities.pop(inode.identity, None)
                if inode.mapping is not None:
                    await truncate_pages(inode.mapping, 0)


class ReopenedFile(InheritedFile):
    """The same file opened once more, with a position of its own."""

    def __init__(self, path: Path, flags: int, given: Given) -> None:
        self.at = 0
        super().__init__(path, flags, given)

    @property
    def pos(self) -> int:
        return self.at

    @pos.setter
    def pos(self, pos: int) -> None:
        self.at = pos

    async def handle(self) -> Handle:
        sb = self.node.host
        if sb.opened is None:
            sb.opened = {}
        fd = sb.opened.get(self)
        if fd is None:
            flags = self.flags & (os.O_ACCMODE | os.O_APPEND)
            fd = sb.opened[self] = await sb.in_worker(_reopen, self.given, flags)
        return fd

    def offset(self, pos: int | None) -> int:
        return self.at if pos is None else pos

    def moved(self, handle: Handle, to: int) -> None:
        self.at = self.node.size if self.flags & os.O_APPEND and self.writable else to

    async def llseek(self, offset: int, whence: int) -> int:
        if not self.node.contents:
            return await super().llseek(offset, whence)
        return await RegularFile.llseek(self, offset, whence)

    async def release(self) -> None:
        fd = (self.node.host.opened or {}).pop(self, None)
        try:
            await super().release()
        finally:
            if fd is not None:
                fd.close()


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
