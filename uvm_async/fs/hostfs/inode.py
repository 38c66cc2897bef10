"""hostfs: inodes of the host, to be looked at and read.

Invariants:
- `(parent, name)` is a place where the inode was found; hard links have others;
- `identity` is the host's (st_dev, st_ino) and never changes;
- what is not local is asked of the host by a worker only (`hostcalls.Reach`).
"""

from __future__ import annotations

import os
from bisect import bisect_right
from typing import TYPE_CHECKING, ClassVar, Final, cast

from uvm_async.errors import Errno
from uvm_async.fs.hostfs.hostcalls import (
    Access,
    Reach,
    attributes,
    list_directory,
    read_cached,
    read_exactly,
    read_link,
)
from uvm_async.fs.inode import DirEntry, File, Inode, Path
from uvm_async.mm.filemap import AddressSpace, truncate_pages

if TYPE_CHECKING:
    from uvm_async.fs.hostfs.super import HostSuperBlock
    from uvm_async.kernel.task import Task

__all__ = ["HostDir", "HostFile", "HostInode", "HostSymlink", "LiveHostDir"]

PAGE_BYTES: Final = 4096
NAME_MAX: Final = 255
INLINE_LINK_BYTES: Final = 60
"""Up to here ext4 keeps a symlink's text in the inode, in memory once it was looked up."""


class HostInode(Inode):
    """Anything that was found on the host."""

    def __init__(
        self, sb: HostSuperBlock, ino: int, identity: tuple[int, int], reach: Reach
    ) -> None:
        super().__init__(sb, ino, 0)
        self.identity = identity
        self.reach = reach
        self.parent: HostDir | None = None
        self.name = b""

    @property
    def hostfs(self) -> HostSuperBlock:
        return cast("HostSuperBlock", self.sb)

    def show(self, status: os.stat_result) -> None:
        """Take over the host's attributes."""
        sb = self.hostfs
        self.mode = status.st_mode
        self.uid = sb.uid_seen(status.st_uid)
        self.gid = sb.gid_seen(status.st_gid)
        self.nlink = status.st_nlink
        self.size = status.st_size
        self.blocks = status.st_blocks
        self.atime_ns = status.st_atime_ns
        self.mtime_ns = status.st_mtime_ns
        self.ctime_ns = status.st_ctime_ns
        if sb.deterministic:
            if self.is_dir:
                self.size = PAGE_BYTES
            self.blocks = -(-self.size // PAGE_BYTES) * (PAGE_BYTES // 512)
            self.atime_ns = self.mtime_ns

    def look_again(self, status: os.stat_result) -> None:
        """A live view has asked the host once more."""
        self.show(status)

    async def refresh(self) -> None:
        """A live view asks again before a stat. Raises ESTALE."""
        if self.hostfs.live:
            place = await self.hostfs.open(self, Access.PLACE)
            if self.reach >= Reach.LOCAL:
                self.look_again(attributes(place))
            else:
                self.look_again(await self.hostfs.in_worker(attributes, place))


class HostSymlink(HostInode):
    """A symlink; its text is read once."""

    def __init__(
        self, sb: HostSuperBlock, ino: int, identity: tuple[int, int], reach: Reach
    ) -> None:
        super().__init__(sb, ino, identity, reach)
        self.target: bytes | None = None

    async def readlink(self) -> bytes:
        if self.target is None:
            place = await self.hostfs.open(self, Access.PLACE)
            if self.reach is Reach.MEMORY or (
                self.reach is Reach.LOCAL and self.size < INLINE_LINK_BYTES
            ):
                self.target = read_link(place)
            else:
                self.target = await self.hostfs.in_worker(read_link, place)
        return self.target


class HostFile(HostInode):
    """A regular file; its contents are read through the page cache."""

    def __init__(
        self, sb: HostSuperBlock, ino: int, identity: tuple[int, int], reach: Reach
    ) -> None:
        super().__init__(sb, ino, identity, reach)
        self.version = (0, 0)
        """(mtime_ns, size) of the contents that the page cache holds."""

    async def prepare_read(self) -> None:
        await self.hostfs.open(self, Access.READ)

    async def open(self, task: Task, path: Path, flags: int) -> File:
        """What the host has changed since the last open is seen from now on."""
        await self.prepare_read()
        await self.refresh()
        await self.load_mapping()
        return await super().open(task, path, flags)

    async def load_mapping(self) -> None:
        """There is a page cache, and nothing in it is older than the last `show`."""
        version = (self.mtime_ns, self.size)
        if self.mapping is None:
            self.mapping = AddressSpace(self, self.sb.kernel.frames)
        elif version != self.version:
            await truncate_pages(self.mapping, 0)
        self.version = version

    async def read_pages(self, index: int, count: int) -> bytes | None:
        offset = index * PAGE_BYTES
        length = min(count * PAGE_BYTES, self.size - offset)
        if length <= 0:
            return None
        fd = await self.hostfs.open(self, Access.READ)
        if self.reach >= Reach.LOCAL:
            data = read_cached(fd, length, offset, self.reach)
            if data is not None:
                return data
        return await self.hostfs.in_worker(read_exactly, fd, length, offset)


class HostDir(HostInode):
    """A directory."""

    def __init__(
        self, sb: HostSuperBlock, ino: int, identity: tuple[int, int], reach: Reach
    ) -> None:
        super().__init__(sb, ino, identity, reach)
        self.listing: list[DirEntry] | None = None
        """What was seen of it last, in the order of cookies."""
        self.next_cookie = 1

    def show(self, status: os.stat_result) -> None:
        super().show(status)
        if self.reach is Reach.HIDDEN:
            self.nlink, self.size, self.blocks = 2, 0, 0

    async def lookup(self, name: bytes) -> Inode:
        if self.reach is Reach.HIDDEN:
            raise Errno.ENOENT
        if len(name) > NAME_MAX:
            raise Errno.ENAMETOOLONG
        found = await self.hostfs.find(self, name)
        return self.hostfs.new_inode(found, self, name)

    async def readdir(self, pos: int, limit: int) -> list[DirEntry]:
        if self.reach is Reach.HIDDEN:
            return []
        if self.listing is None or (pos == 0 and not self.cache_names):
            await self._list()
        listing = self.listing
        assert listing is not None
        first = bisect_right(listing, pos, key=lambda entry: entry.next_pos)
        return listing[first : first + limit]

    async def _list(self) -> None:
        """List it again: what stays keeps its cookie, what is new comes last, by name."""
        sb = self.hostfs
        place = await sb.open(self, Access.PLACE)
        seen = {entry.name: entry for entry in await sb.in_worker(list_directory, place)}
        listing: list[DirEntry] = []
        for known in self.listing or ():
            entry = seen.pop(known.name, None)
            if entry is not None:
                number = sb.number(self.identity[0], entry.ino)
                listing.append(DirEntry(known.name, number, entry.kind >> 12, known.next_pos))
        for entry in seen.values():
            number = sb.number(self.identity[0], entry.ino)
            listing.append(DirEntry(entry.name, number, entry.kind >> 12, self.next_cookie))
            self.next_cookie += 1
        self.listing = listing


class LiveHostDir(HostDir):
    """A directory whose names the host may change at any time."""

    cache_names: ClassVar[bool] = False
