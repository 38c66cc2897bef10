"""Directory operations: lookup, create, link, unlink, rename.

Linux: fs/ext2/namei.c.  Each holds one handle from its first change to its last.

Invariants:
- what can fail for want of room fails before anything is changed;
- a name is added before another is taken away;
- an inode's link count is raised before its name is there, and lowered after it
  has gone.
"""

from __future__ import annotations

import stat
from collections.abc import Coroutine
from typing import Any

from uvm_async.errors import Errno
from uvm_async.fs.ext2.commit import Handle
from uvm_async.fs.ext2.dir import DirRecords
from uvm_async.fs.ext2.ialloc import alloc_inode
from uvm_async.fs.ext2.inode import Ext2Inode, encode_dev, new_record
from uvm_async.fs.ext2.layout import APPEND_FL, FT_BY_IFMT, IMMUTABLE_FL, INHERITED_FL
from uvm_async.fs.ext2.symlink import Ext2Symlink, new_symlink_fits
from uvm_async.fs.inode import Inode
from uvm_async.mm.filemap import filemap_fsync

__all__ = ["Ext2Dir"]

LINK_MAX = 32000
"""Linux's EXT2_LINK_MAX."""


def _file_type(inode: Ext2Inode) -> int:
    return FT_BY_IFMT[stat.S_IFMT(inode.mode)]


class Ext2Dir(DirRecords):
    """A directory."""

    async def lookup(self, name: bytes) -> Inode:
        ino = await self.entry(name)
        if ino == self.ino:
            raise self.ext2.corrupt(f"directory {self.ino} contains itself as {name!r}")
        return await self.ext2.iget(ino)

    # -- new inodes

    async def create(self, name: bytes, mode: int, uid: int, gid: int, rdev: int = 0) -> Inode:
        async with self.ext2.handle() as handle:
            await handle.room()
            await self._check_new(name)
            await self.make_room(name)
            inode = await self._new_inode(mode, uid, gid)
            if inode.holds_device:
                inode.block[0], inode.block[1] = encode_dev(rdev)
                inode.rdev = rdev
            inode.nlink = 1
            await self._enter(name, inode)
        return inode

    async def mkdir(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        async with self.ext2.handle() as handle:
            await handle.room()
            await self._check_new(name)
            if self.nlink >= LINK_MAX:
                raise Errno.EMLINK
            await self.make_room(name)
            inode = await self._new_inode(stat.S_IFDIR | mode & 0o7777, uid, gid)
            assert isinstance(inode, Ext2Dir)
            await self._or_undo(inode, inode.begin(self.ino))
            inode.nlink = 2
            await self._enter(name, inode)
            self.nlink += 1
        return inode

    async def symlink(self, name: bytes, target: bytes, uid: int, gid: int) -> Inode:
        new_symlink_fits(self.ext2, target)
        async with self.ext2.handle() as handle:
            await handle.room()
            await self._check_new(name)
            await self.make_room(name)
            inode = await self._new_inode(stat.S_IFLNK | 0o777, uid, gid)
            assert isinstance(inode, Ext2Symlink)
            await self._or_undo(inode, inode.set_target(target))
            inode.nlink = 1
            await self._enter(name, inode)
        return inode

    async def tmpfile(self, mode: int, uid: int, gid: int) -> Inode:
        async with self.ext2.handle() as handle:
            await handle.room()
            inode = await self._new_inode(stat.S_IFREG | mode & 0o7777, uid, gid)
            self.ext2.add_orphan(inode)
        return inode

    async def link(self, name: bytes, inode: Inode) -> None:
        assert isinstance(inode, Ext2Inode)
        if inode.nlink >= LINK_MAX:
            raise Errno.EMLINK
        if inode.flags & (IMMUTABLE_FL | APPEND_FL):
            raise Errno.EPERM
        async with self.ext2.handle() as handle:
            await handle.room()
            await self._check_new(name)
            await self.make_room(name)
            inode.nlink += 1
            inode.ctime_ns = self.ext2.now_ns()
            self.ext2.remove_orphan(inode)
            inode.dtime = 0
            await self.insert(name, inode.ino, _file_type(inode))

    async def _check_new(self, name: bytes) -> None:
        if self.nlink == 0:
            raise Errno.ENOENT  # removed, and still somebody's working directory
        if self.flags & IMMUTABLE_FL:
            raise Errno.EPERM
        if name in await self.load():
            raise Errno.EEXIST

    async def _new_inode(self, mode: int, uid: int, gid: int) -> Ext2Inode:
        """An inode without a name yet. Raises ENOSPC, EIO."""
        sb = self.ext2
        ino = await alloc_inode(sb, self, is_dir=stat.S_ISDIR(mode))
        now_ns = sb.now_ns()
        record = new_record(sb, sb.next_generation(), now_ns)
        record.i_mode = mode
        inode = sb.make_inode(ino, record)
        inode.uid, inode.gid = uid, gid
        inode.flags = self.flags & INHERITED_FL
        inode.atime_ns = inode.mtime_ns = inode.ctime_ns = now_ns
        inode.mark_dirty()
        sb.inodes[ino] = inode
        return inode

    async def _enter(self, name: bytes, inode: Ext2Inode) -> None:
        await self._or_undo(inode, self.insert(name, inode.ino, _file_type(inode)))

    async def _or_undo(self, inode: Ext2Inode, step: Coroutine[Any, Any, None]) -> None:
        """A step in making `inode`; if it fails the inode is freed."""
        try:
            await step
        except Errno:
            await inode.free()
            raise

    # -- names that go

    async def unlink(self, name: bytes, inode: Inode) -> None:
        assert isinstance(inode, Ext2Inode)
        self._check_removable(inode)
        async with self.ext2.handle() as handle:
            await self.remove(handle, name, inode.ino, survives=inode.nlink > 1)
            inode.drop_link(self.ctime_ns)

    async def rmdir(self, name: bytes, inode: Inode) -> None:
        assert isinstance(inode, Ext2Dir)
        self._check_removable(inode)
        async with self.ext2.handle() as handle:
            if await inode.load():
                raise Errno.ENOTEMPTY
            self._check_subdirs()
            await inode.settle_moves(handle)
            await self.remove(handle, name, inode.ino, survives=False)
            inode.nlink = 1
            inode.drop_link(self.ctime_ns)
            self.nlink -= 1

    def _check_subdirs(self) -> None:
        """A subdirectory is about to leave. Raises EIO if the link count says there is none."""
        if self.nlink < 3:
            raise self.ext2.corrupt(f"directory {self.ino}: link count {self.nlink}")

    def _check_removable(self, inode: Ext2Inode) -> None:
        if (self.flags | inode.flags) & IMMUTABLE_FL or (self.flags | inode.flags) & APPEND_FL:
            raise Errno.EPERM

    # -- rename

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
        assert isinstance(inode, Ext2Inode) and isinstance(new_dir, Ext2Dir)
        assert target is None or isinstance(target, Ext2Inode)
        self._check_removable(inode)
        if target is not None:
            new_dir._check_removable(target)
        if exchange:
            assert target is not None
            await self._exchange(name, inode, new_dir, new_name, target)
            return
        if target is not None and inode.is_reg:
            # Whoever replaces a file by another wants one of the two after a crash.
            await write_back(inode)
        async with self.ext2.handle() as handle:
            await handle.room()
            moved_dir = inode.is_dir and new_dir is not self
            if moved_dir:
                self._check_subdirs()
            if target is None:
                if new_dir.nlink == 0:
                    raise Errno.ENOENT
                if moved_dir and new_dir.nlink >= LINK_MAX:
                    raise Errno.EMLINK
                await new_dir.insert(new_name, inode.ino, _file_type(inode))
            else:
                await new_dir._replace_target(handle, new_name, inode, target)
            await self.remove(handle, name, inode.ino, survives=True)
            inode.ctime_ns = self.ext2.now_ns()
            if inode.is_dir:
                if moved_dir:
                    assert isinstance(inode, Ext2Dir)
                    await inode._set_parent(handle, self.ino, new_dir.ino)
                    new_dir.nlink += 1
                    self.nlink -= 1
                if target is not None:
                    new_dir.nlink -= 1

    async def _replace_target(
        self, handle: Handle, name: bytes, inode: Ext2Inode, target: Ext2Inode
    ) -> None:
        """`name`, which stood for `target`, stands for `inode`."""
        if target.is_dir:
            assert isinstance(target, Ext2Dir)
            self._check_subdirs()
            if await target.load():
                raise Errno.ENOTEMPTY
            await target.settle_moves(handle)
        await self.replace(
            handle,
            name,
            inode.ino,
            _file_type(inode),
            old=target.ino,
            old_survives=not target.is_dir and target.nlink > 1,
        )
        if target.is_dir:
            target.nlink = 1
        target.drop_link(self.ctime_ns)

    async def _exchange(
        self, name: bytes, inode: Ext2Inode, new_dir: Ext2Dir, new_name: bytes, target: Ext2Inode
    ) -> None:
        """RENAME_EXCHANGE."""
        if new_dir is not self and inode.is_dir is not target.is_dir:
            grows = new_dir if inode.is_dir else self
            if grows.nlink >= LINK_MAX:
                raise Errno.EMLINK
        async with self.ext2.handle() as handle:
            if new_dir is not self:
                for moved, origin in ((inode, self), (target, new_dir)):
                    if isinstance(moved, Ext2Dir):
                        origin._check_subdirs()
            await new_dir.replace(
                handle, new_name, inode.ino, _file_type(inode), old=target.ino, old_survives=False
            )
            await self.replace(
                handle, name, target.ino, _file_type(target), old=inode.ino, old_survives=True
            )
            if new_dir is not self:
                for moved, origin, goal in ((inode, self, new_dir), (target, new_dir, self)):
                    if isinstance(moved, Ext2Dir):
                        await moved._set_parent(handle, origin.ino, goal.ino)
                        origin.nlink -= 1
                        goal.nlink += 1
            inode.ctime_ns = target.ctime_ns = self.ext2.now_ns()

    async def _set_parent(self, handle: Handle, old: int, new: int) -> None:
        """This directory has moved. (Its own times stay.)"""
        times = self.mtime_ns, self.ctime_ns
        await self.replace(
            handle, b"..", new, FT_BY_IFMT[stat.S_IFDIR], old=old, old_survives=False
        )
        self.mtime_ns, self.ctime_ns = times


async def write_back(inode: Ext2Inode) -> None:
    """Write a file's dirty pages. Raises EIO, ENOSPC."""
    if inode.mapping is not None:
        await filemap_fsync(inode.mapping)
