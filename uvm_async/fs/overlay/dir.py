"""overlay: directories.

A directory is listed by cookies: the lower directory's names have the first ones,
in its order, at the first listing; every name that is added later has one more
than any before.

Invariants:
- `entries` has what was decided: an inode, or None for a name of the lower
  directory that is gone (a whiteout);
- once `listed`, `cookies` has exactly the names that are there, in order;
- `undecided` (number, type) has those of them that are not in `entries`.

Lock order: the VFS's locks of the directories; no others are taken.
"""

from __future__ import annotations

import stat
from bisect import bisect_right
from typing import TYPE_CHECKING, ClassVar, Final, cast

from uvm_async.errors import Errno
from uvm_async.fs.inode import DirEntry, Inode
from uvm_async.fs.tmpfs.inode import TmpfsInode

if TYPE_CHECKING:
    from uvm_async.fs.overlay.super import OverlaySuperBlock

__all__ = ["OverlayDir"]

NAME_MAX: Final = 255
DIRECTORY_BYTES: Final = 4096
LISTED_AT_ONCE: Final = 4096


class OverlayDir(TmpfsInode):
    """A directory, which may have begun in the lower layer."""

    TRANSIENT: ClassVar[frozenset[str]] = frozenset({"in_order"})

    def __init__(
        self, sb: OverlaySuperBlock, ino: int, mode: int, uid: int, gid: int, now_ns: int
    ) -> None:
        super().__init__(sb, ino, mode, uid, gid, now_ns)
        self.nlink = 2
        self.size = DIRECTORY_BYTES
        self.blocks = DIRECTORY_BYTES // 512
        self.lower: Inode | None = None
        self.entries: dict[bytes, Inode | None] = {}
        self.listed = True
        self.cookies: dict[bytes, int] = {}
        self.undecided: dict[bytes, tuple[int, int]] = {}
        self.next_cookie = 1
        self.in_order: tuple[list[bytes], list[int]] | None = None
        """`cookies` as two lists, until it changes."""

    def adopt(self, lower: Inode) -> None:
        """It begins as what `lower` is in the lower layer."""
        self.lower = lower
        self.blocks = lower.blocks
        self.listed = False

    @property
    def overlay(self) -> OverlaySuperBlock:
        return cast("OverlaySuperBlock", self.sb)

    # -- names

    async def lookup(self, name: bytes) -> Inode:
        if len(name) > NAME_MAX:
            raise Errno.ENAMETOOLONG
        if name in self.entries:
            decided = self.entries[name]
            if decided is None:
                raise Errno.ENOENT
            return decided
        if self.lower is None:
            raise Errno.ENOENT
        inode = self.overlay.wrap(await self.lower.lookup(name))
        self.entries[name] = inode
        self.undecided.pop(name, None)
        if self.listed and name not in self.cookies:
            self._number(name)
        return inode

    async def _load(self) -> None:
        """Learn the lower directory's names."""
        if self.listed:
            return
        assert self.lower is not None
        found: list[DirEntry] = []
        while batch := await self.lower.readdir(found[-1].next_pos if found else 0, LISTED_AT_ONCE):
            found += batch
        added = [name for name, inode in self.entries.items() if inode is not None]
        self.cookies.clear()
        for entry in found:
            if entry.name not in self.entries:
                number = self.overlay.number(entry.ino)
                self.undecided[entry.name] = (number, entry.type)
                self._number(entry.name)
            elif self.entries[entry.name] is not None:
                self._number(entry.name)
        for name in added:
            if name not in self.cookies:
                self._number(name)
        self.listed = True

    def _number(self, name: bytes) -> None:
        self.cookies[name] = self.next_cookie
        self.next_cookie += 1
        self.in_order = None

    def _add(self, name: bytes, inode: Inode) -> None:
        self.entries[name] = inode
        if self.listed:
            self._number(name)

    def _replace(self, name: bytes, inode: Inode) -> None:
        """Another inode under a name that is there; the cookie stays."""
        self.entries[name] = inode
        self.undecided.pop(name, None)

    def _remove(self, name: bytes, *, whiteout: bool) -> None:
        if whiteout:
            self.entries[name] = None
        else:
            del self.entries[name]
        if self.cookies.pop(name, None) is not None:
            self.in_order = None

    async def _is_below(self, name: bytes) -> bool:
        """Would the lower directory show this name?"""
        if self.lower is None:
            return False
        try:
            await self.lower.lookup(name)
        except Errno.ENOENT:
            return False
        return True

    async def _check_empty(self) -> None:
        await self._load()
        if self.cookies:
            raise Errno.ENOTEMPTY

    async def readdir(self, pos: int, limit: int) -> list[DirEntry]:
        await self._load()
        if self.in_order is None:
            self.in_order = (list(self.cookies), list(self.cookies.values()))
        names, cookies = self.in_order
        first = bisect_right(cookies, pos)
        found: list[DirEntry] = []
        for name, cookie in zip(names[first : first + limit], cookies[first:], strict=False):
            inode = self.entries.get(name)
            if inode is not None:
                number, kind = inode.ino, stat.S_IFMT(inode.mode) >> 12
            else:
                number, kind = self.undecided[name]
            found.append(DirEntry(name, number, kind, cookie))
        return found

    # -- making

    def _changed(self) -> int:
        now = self.tmpfs.now_ns()
        self.mtime_ns = self.ctime_ns = now
        return now

    def _count_subdirectories(self, change: int) -> None:
        if self.nlink > 1:  # else the lower file system does not count them
            self.nlink += change

    async def create(self, name: bytes, mode: int, uid: int, gid: int, rdev: int = 0) -> Inode:
        inode = self.tmpfs.new_inode(mode, uid, gid, rdev)
        self._add(name, inode)
        self._changed()
        return inode

    async def mkdir(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        inode = self.tmpfs.new_inode(mode, uid, gid)
        self._add(name, inode)
        self._count_subdirectories(1)
        self._changed()
        return inode

    async def symlink(self, name: bytes, target: bytes, uid: int, gid: int) -> Inode:
        inode = self.tmpfs.new_symlink(target, uid, gid)
        self._add(name, inode)
        self._changed()
        return inode

    async def tmpfile(self, mode: int, uid: int, gid: int) -> Inode:
        inode = self.tmpfs.new_inode(mode, uid, gid)
        inode.nlink = 0
        return inode

    async def link(self, name: bytes, inode: Inode) -> None:
        if inode.nlink and not self.overlay.from_below(inode):
            self.tmpfs.charge_inode()
        inode.nlink += 1
        self._add(name, inode)
        inode.ctime_ns = self._changed()

    # -- removing

    async def unlink(self, name: bytes, inode: Inode) -> None:
        whiteout = await self._is_below(name)
        self._remove(name, whiteout=whiteout)
        self._lost(inode)
        inode.ctime_ns = self._changed()

    async def rmdir(self, name: bytes, inode: Inode) -> None:
        assert isinstance(inode, OverlayDir)
        await inode._check_empty()
        whiteout = await self._is_below(name)
        self._remove(name, whiteout=whiteout)
        self._lost(inode)
        inode.ctime_ns = self._changed()

    def _lost(self, inode: Inode) -> None:
        """A name of `inode` in this directory is gone."""
        if isinstance(inode, OverlayDir):
            inode.nlink = 0
            self._count_subdirectories(-1)
            return
        if inode.nlink > 1 and not self.overlay.from_below(inode):
            self.tmpfs.uncharge_inode()
        inode.nlink -= 1

    # -- moving

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
        assert isinstance(new_dir, OverlayDir)
        if exchange:
            assert target is not None
            self._replace(name, target)
            new_dir._replace(new_name, inode)
            self._moved(target, new_dir, self)
        else:
            if isinstance(target, OverlayDir):
                await target._check_empty()
            whiteout = await self._is_below(name)
            self._remove(name, whiteout=whiteout)
            if target is None:
                new_dir._add(new_name, inode)
            else:
                new_dir._replace(new_name, inode)
                new_dir._lost(target)
        self._moved(inode, self, new_dir)
        now = self._changed()
        new_dir._changed()
        inode.ctime_ns = now
        if target is not None:
            target.ctime_ns = now

    @staticmethod
    def _moved(inode: Inode, old: OverlayDir, new: OverlayDir) -> None:
        if isinstance(inode, OverlayDir) and old is not new:
            old._count_subdirectories(-1)
            new._count_subdirectories(1)

    async def evict(self) -> None:
        if self.lower is None:
            await super().evict()
