"""hostfs that writes: `--bind HOST:GUEST:rw`.

What a guest changes is changed on the host at once: names and attributes by the
call itself, contents by the time write(2) answers (the page cache is written
through, so that mappings agree with it), what was stored through a mapping by
close, msync, fsync or sync.  Ids are translated as they are seen: to an ordinary
user's guest only 0 exists (EINVAL for others, as in a user namespace).

Invariants:
- every host call that changes something is made by a worker;
- attributes shown are those the host answered after the change;
- a file that lost its last name while it is in use is held open in `unnamed`; that
  does not survive a freeze (ESTALE);
- while pages are dirty, `size` is ours, not the host's.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Final, cast

from uvm_async.errors import Errno
from uvm_async.fs.file import RegularFile
from uvm_async.fs.hostfs import hostwrites
from uvm_async.fs.hostfs.hostcalls import Access, Found, HostFd, attributes
from uvm_async.fs.hostfs.inode import (
    PAGE_BYTES,
    HostDir,
    HostFile,
    HostInode,
    HostSymlink,
)
from uvm_async.fs.hostfs.super import HostSuperBlock, Sight
from uvm_async.fs.inode import File, Inode, Path
from uvm_async.mm.filemap import filemap_fsync, truncate_pages

if TYPE_CHECKING:
    from uvm_async.kernel.kernel import Kernel
    from uvm_async.kernel.task import Task
    from uvm_async.mm.iov import IovIter

__all__ = ["WritableHostSuperBlock"]

O_ACCMODE: Final = 3


class WritableHostSuperBlock(HostSuperBlock):
    """A host directory that guests may change."""

    TRANSIENT: ClassVar[frozenset[str]] = frozenset({"unnamed"})

    def __init__(
        self, kernel: Kernel, dev: int, path: bytes, found: Found, *, deterministic: bool
    ) -> None:
        self.unnamed: dict[HostInode, HostFd] | None = None
        super().__init__(kernel, dev, path, found, sight=Sight.LIVE, deterministic=deterministic)
        self.read_only = False

    def kinds(self) -> dict[int, type[HostInode]]:
        return {
            stat.S_IFREG: WritableFile,
            stat.S_IFLNK: WritableSymlink,
            stat.S_IFDIR: WritableDir,
        }

    def host_ids(self, uid: int | None, gid: int | None) -> tuple[int, int]:
        """What to tell the host's chown(2); -1 leaves one as it is. Raises EINVAL."""
        uid, gid = -1 if uid is None else uid, -1 if gid is None else gid
        if self.caller is None:
            return uid, gid
        if uid > 0 or gid > 0:
            raise Errno.EINVAL
        return -1 if uid < 0 else self.caller[0], -1 if gid < 0 else self.caller[1]

    def kept(self, inode: HostInode, access: Access) -> HostFd | None:
        fd = self.unnamed.get(inode) if self.unnamed is not None else None
        return fd if fd is not None and fd.access >= access else super().kept(inode, access)

    async def hold(self, inode: Inode) -> None:
        """`inode` is about to lose a name, perhaps its last: whoever uses it keeps it."""
        if isinstance(inode, HostInode) and inode.opens:
            access = Access.WRITE if inode.is_reg and inode.writers > 0 else Access.PLACE
            if inode.is_reg and access is Access.PLACE:
                access = Access.READ
            fd = await self.open(inode, access)
            if self.unnamed is None:
                self.unnamed = {}
            self.unnamed[inode] = fd

    def let_go_of(self, inode: HostInode) -> None:
        """Its last user is gone."""
        if self.unnamed is not None:
            self.unnamed.pop(inode, None)

    async def renamed(self, inode: Inode) -> None:
        """Its names have changed: see what the host says now."""
        assert isinstance(inode, WritableInode)
        if self.kept(inode, Access.PLACE) is not None or inode.nlink > 1:
            try:
                await inode.look()
                return
            except Errno.ESTALE:
                pass  # found under the name that is gone; the next look-up finds another
        inode.nlink = max(0, inode.nlink - 1)

    async def sync(self) -> None:
        for inode in list(self.identities.values()):
            if isinstance(inode, WritableFile) and inode.mapping is not None:
                await inode.fsync()


class WritableInode(HostInode):
    """What all of them can do: change attributes."""

    @property
    def writable(self) -> WritableHostSuperBlock:
        return cast("WritableHostSuperBlock", self.sb)

    async def look(self) -> None:
        """Take over the host's attributes."""
        place = await self.hostfs.open(self, Access.PLACE)
        self.show(await self.hostfs.in_worker(attributes, place))

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
        sb = self.writable
        if size is not None:
            await self.set_size(size)
            mtime_ns = None  # the host has set it
        place = await sb.open(self, Access.PLACE)
        if uid is not None or gid is not None:
            await sb.in_worker(hostwrites.change_owner, place, *sb.host_ids(uid, gid))
        if mode is not None:
            await sb.in_worker(hostwrites.change_mode, place, mode & 0o7777)
        if atime_ns is not None or mtime_ns is not None:
            await sb.in_worker(hostwrites.change_times, place, atime_ns, mtime_ns)
        await self.look()

    async def set_size(self, size: int) -> None:
        raise Errno.EINVAL

    async def fsync(self, *, data_only: bool = False) -> None:
        """Directories too. Raises EIO."""
        if not self.is_symlink:
            place = await self.hostfs.open(self, Access.PLACE)
            await self.hostfs.in_worker(hostwrites.sync_place, place, data_only)

    async def evict(self) -> None:
        sb = self.writable
        sb.let_go_of(self)
        sb.forget(self)
        if sb.identities.get(self.identity) is self:
            del sb.identities[self.identity]


class WritableSymlink(WritableInode, HostSymlink):
    """A symlink."""


class WritableFile(WritableInode, HostFile):
    """A regular file."""

    def look_again(self, status: os.stat_result) -> None:
        if self.lock.locked or (self.mapping is not None and self.mapping.dirty):
            return  # the host does not know the size yet
        super().look_again(status)

    async def open(self, task: Task, path: Path, flags: int) -> File:
        access = Access.WRITE if flags & O_ACCMODE else Access.READ
        await self.hostfs.open(self, access)
        await self.refresh()
        if self.mapping is not None and self.mapping.dirty:
            await filemap_fsync(self.mapping)
        await self.load_mapping()
        return WriteThroughFile(path, flags)

    async def set_size(self, size: int) -> None:
        """Raises EFBIG, ENOSPC, EROFS."""
        fd = await self.hostfs.open(self, Access.WRITE)
        await self.hostfs.in_worker(hostwrites.set_size, fd, size)
        shrinks = size < self.size
        self.size = size
        if shrinks and self.mapping is not None:
            await truncate_pages(self.mapping, size)

    async def write_pages(self, index: int, data: bytes) -> None:
        offset = index * PAGE_BYTES
        length = min(len(data), self.size - offset)
        if length <= 0:
            return
        fd = await self.hostfs.open(self, Access.WRITE)
        status = await self.hostfs.in_worker(hostwrites.write_all, fd, data[:length], offset)
        if status.st_size == self.size:
            self.show(status)
            self.version = (self.mtime_ns, self.size)

    async def fallocate(self, mode: int, offset: int, length: int) -> None:
        """Raises ENOSPC, EFBIG, EOPNOTSUPP (all but plain allocation)."""
        if mode:
            raise Errno.EOPNOTSUPP
        fd = await self.hostfs.open(self, Access.WRITE)
        await self.hostfs.in_worker(hostwrites.preallocate, fd, offset, length)
        await self.look()

    async def fsync(self, *, data_only: bool = False) -> None:
        if self.mapping is not None:
            await filemap_fsync(self.mapping)
        await super().fsync(data_only=data_only)

    async def evict(self) -> None:
        if self.mapping is not None:
            self.size = 0
            await truncate_pages(self.mapping, 0)
        await super().evict()


class WriteThroughFile(RegularFile):
    """An open file whose writes have reached the host when they answer."""

    async def _write_locked(self, task: Task, inode: Inode, it: IovIter, start: int) -> int:
        done = await super()._write_locked(task, inode, it, start)
        if inode.mapping is not None:
            await filemap_fsync(inode.mapping)
        return done

    async def flush(self, task: Task) -> None:
        mapping = self.inode.mapping
        if self.writable and mapping is not None and mapping.dirty:
            await filemap_fsync(mapping)

    async def release(self) -> None:
        await super().release()
        inode = self.inode
        assert isinstance(inode, WritableFile)
        if inode.opens == 1:
            inode.writable.let_go_of(inode)


class WritableDir(WritableInode, HostDir):
    """A directory."""

    cache_names: ClassVar[bool] = False

    async def _made(self, name: bytes, inode_of: HostFd | None = None) -> HostInode:
        """The inode of a name that was just made."""
        found = await self.hostfs.find(self, name)
        inode = self.hostfs.new_inode(found, self, name)
        if inode_of is not None:
            self.hostfs.keep(inode, inode_of)
        await self.look()
        return inode

    async def create(self, name: bytes, mode: int, uid: int, gid: int, rdev: int = 0) -> Inode:
        """Regular files only: others would not be seen. Raises EPERM."""
        if not stat.S_ISREG(mode):
            raise Errno.EPERM
        sb = self.writable
        place = await sb.open(self, Access.PLACE)
        fd = await sb.in_worker(
            hostwrites.create_file, place, name, mode & 0o7777, *sb.host_ids(uid, gid)
        )
        return await self._made(name, fd)

    async def mkdir(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        sb = self.writable
        place = await sb.open(self, Access.PLACE)
        ids = sb.host_ids(uid, gid)
        await sb.in_worker(hostwrites.make_directory, place, name, mode & 0o7777, *ids)
        return await self._made(name)

    async def symlink(self, name: bytes, target: bytes, uid: int, gid: int) -> Inode:
        sb = self.writable
        place = await sb.open(self, Access.PLACE)
        ids = sb.host_ids(uid, gid)
        await sb.in_worker(hostwrites.make_symlink, place, name, target, *ids)
        return await self._made(name)

    async def link(self, name: bytes, inode: Inode) -> None:
        assert isinstance(inode, HostInode)
        if inode.parent is None:
            raise Errno.EPERM
        sb = self.writable
        source = await sb.open(inode.parent, Access.PLACE)
        place = await sb.open(self, Access.PLACE)
        await sb.in_worker(hostwrites.make_link, source, inode.name, place, name)
        if (await self._made(name)) is not inode:
            raise Errno.ESTALE

    async def unlink(self, name: bytes, inode: Inode) -> None:
        await self._remove(name, inode, hostwrites.remove_name)

    async def rmdir(self, name: bytes, inode: Inode) -> None:
        await self._remove(name, inode, hostwrites.remove_directory)

    async def _remove(
        self, name: bytes, inode: Inode, call: Callable[[HostFd, bytes], None]
    ) -> None:
        sb = self.writable
        place = await sb.open(self, Access.PLACE)
        await sb.hold(inode)
        await sb.in_worker(call, place, name)
        await sb.renamed(inode)
        await self.look()

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
        assert isinstance(new_dir, WritableDir) and isinstance(inode, HostInode)
        sb = self.writable
        source = await sb.open(self, Access.PLACE)
        place = await sb.open(new_dir, Access.PLACE)
        if target is not None and not exchange:
            await sb.hold(target)
        await sb.in_worker(hostwrites.move, source, name, place, new_name, exchange)
        inode.parent, inode.name = new_dir, new_name
        if exchange:
            assert isinstance(target, HostInode)
            target.parent, target.name = self, name
        elif target is not None:
            await sb.renamed(target)
        await self.look()
        if new_dir is not self:
            await new_dir.look()
