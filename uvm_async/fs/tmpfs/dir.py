"""tmpfs: directories.

Linux: fs/libfs.c (simple_offset_*), mm/shmem.c.  Every entry has a cookie, one
higher than any before; a listing goes from the newest to the oldest, and goes on
where it was whatever is removed or added meanwhile.  An entry that was renamed is
new.

Invariant: `entries` is in the order of cookies, which `cookies` repeats sorted.
"""

from __future__ import annotations

import stat
from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.fs.inode import DirEntry, Inode
from uvm_async.fs.tmpfs.inode import TmpfsInode

if TYPE_CHECKING:
    from uvm_async.fs.tmpfs.super import TmpfsSuperBlock

__all__ = ["TmpfsDir"]

ENTRY_BYTES: Final = 20
"""What an entry adds to st_size (Linux: BOGO_DIRENT_SIZE)."""
END: Final = (1 << 31) - 3
"""The cookie after the last entry; with the two of "." and ".." it is what Linux shows."""
NAME_MAX: Final = 255


class TmpfsDir(TmpfsInode):
    """A directory."""

    def __init__(
        self, sb: TmpfsSuperBlock, ino: int, mode: int, uid: int, gid: int, now_ns: int
    ) -> None:
        super().__init__(sb, ino, mode, uid, gid, now_ns)
        self.nlink = 2
        self.size = 2 * ENTRY_BYTES
        self.parent: TmpfsDir | None = None
        self.entries: dict[bytes, tuple[int, Inode]] = {}
        self.cookies: list[int] = []
        self.names: dict[int, bytes] = {}
        self.next_cookie = 1

    def inodes(self) -> list[Inode]:
        """What its entries stand for."""
        return [inode for _, inode in self.entries.values()]

    # -- entries

    def _add(self, name: bytes, inode: Inode) -> None:
        cookie, self.next_cookie = self.next_cookie, self.next_cookie + 1
        self.entries[name] = (cookie, inode)
        self.cookies.append(cookie)
        self.names[cookie] = name
        self.size += ENTRY_BYTES

    def _remove(self, name: bytes) -> None:
        cookie, _ = self.entries.pop(name)
        del self.cookies[bisect_right(self.cookies, cookie) - 1]
        del self.names[cookie]
        self.size -= ENTRY_BYTES

    def _changed(self) -> int:
        now = self.tmpfs.now_ns()
        self.mtime_ns = self.ctime_ns = now
        return now

    async def lookup(self, name: bytes) -> Inode:
        if len(name) > NAME_MAX:
            raise Errno.ENAMETOOLONG
        found = self.entries.get(name)
        if found is None:
            raise Errno.ENOENT
        return found[1]

    async def readdir(self, pos: int, limit: int) -> list[DirEntry]:
        if pos >= END:
            return []
        stop = bisect_right(self.cookies, pos) if pos else len(self.cookies)
        listed: list[DirEntry] = []
        for at in range(stop - 1, max(stop - 1 - limit, -1), -1):
            name = self.names[self.cookies[at]]
            inode = self.entries[name][1]
            next_pos = self.cookies[at - 1] if at else END
            listed.append(DirEntry(name, inode.ino, stat.S_IFMT(inode.mode) >> 12, next_pos))
        return listed

    # -- making

    async def create(self, name: bytes, mode: int, uid: int, gid: int, rdev: int = 0) -> Inode:
        inode = self.tmpfs.new_inode(mode, uid, gid, rdev)
        self._add(name, inode)
        self._changed()
        return inode

    async def mkdir(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        inode = self.tmpfs.new_inode(mode, uid, gid)
        assert isinstance(inode, TmpfsDir)
        inode.parent = self
        self._add(name, inode)
        self.nlink += 1
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
        if inode.nlink:
            self.tmpfs.charge_inode()
        inode.nlink += 1
        self._add(name, inode)
        inode.ctime_ns = self._changed()

    # -- removing

    async def unlink(self, name: bytes, inode: Inode) -> None:
        if inode.nlink > 1:
            self.tmpfs.uncharge_inode()
        self._remove(name)
        inode.nlink -= 1
        inode.ctime_ns = self._changed()

    async def rmdir(self, name: bytes, inode: Inode) -> None:
        assert isinstance(inode, TmpfsDir)
        if inode.entries:
            raise Errno.ENOTEMPTY
        self._remove(name)
        inode.nlink = 0
        self.nlink -= 1
        inode.ctime_ns = self._changed()

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
        assert isinstance(new_dir, TmpfsDir)
        if exchange:
            assert target is not None
            self._exchange(name, inode, new_dir, new_name, target)
        else:
            if isinstance(target, TmpfsDir) and target.entries:
                raise Errno.ENOTEMPTY
            self._remove(name)
            if target is not None:
                new_dir._remove(new_name)
                new_dir._lost(target)
            new_dir._add(new_name, inode)
            self._moved_to(new_dir, inode)
        now = self._changed()
        new_dir._changed()
        inode.ctime_ns = now
        if target is not None:
            target.ctime_ns = now

    def _exchange(
        self, name: bytes, inode: Inode, new_dir: TmpfsDir, new_name: bytes, target: Inode
    ) -> None:
        self._remove(name)
        new_dir._remove(new_name)
        self._add(name, target)
        new_dir._add(new_name, inode)
        self._moved_to(new_dir, inode)
        new_dir._moved_to(self, target)

    def _lost(self, target: Inode) -> None:
        """`target` was replaced by another inode."""
        if isinstance(target, TmpfsDir):
            target.nlink = 0
            self.nlink -= 1
        else:
            if target.nlink > 1:
                self.tmpfs.uncharge_inode()
            target.nlink -= 1

    def _moved_to(self, new_dir: TmpfsDir, inode: Inode) -> None:
        if isinstance(inode, TmpfsDir) and new_dir is not self:
            self.nlink -= 1
            new_dir.nlink += 1
            inode.parent = new_dir
