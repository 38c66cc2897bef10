"""Directories: records in blocks, and an index of them in memory.

Linux: fs/ext2/dir.c.  A directory's blocks are chains of records (inode, record
length, name); a removed record is merged into the one before, a new one takes the
slack of another.  Blocks are never given back while the directory lives.

A hashed directory (dir_index) is read as what it is to an old kernel, a linear
one; whoever changes it clears the flag, and e2fsck -D may hash it again.

The index (name to place, room in each block) is built at first use and thrown away
at a freeze.

Invariants:
- index, room and blocks change together, without an await between;
- a record never moves, so a position in a listing stays good;
- every record of a block is checked before the first of them is believed.
"""

from __future__ import annotations

from typing import ClassVar

from uvm_async.errors import Errno
from uvm_async.fs.ext2 import blockmap
from uvm_async.fs.ext2.commit import RANK_INODES, RANK_NAMES, Handle
from uvm_async.fs.ext2.inode import Ext2Inode
from uvm_async.fs.ext2.layout import (
    DIRENT_HEADER,
    DT_BY_FT,
    INDEX_FL,
    InodeRecord,
    dirent_bytes,
)
from uvm_async.fs.ext2.superblock import Ext2SuperBlock
from uvm_async.fs.inode import DirEntry

__all__ = ["DirRecords"]

DOTS = (b".", b"..")

MAX_DIR_BYTES = 1 << 30
"""No directory is longer: a larger size is damage."""

READ_AHEAD_BLOCKS = 64


class DirRecords(Ext2Inode):
    """The records of a directory. `namei.Ext2Dir` makes operations of them."""

    HAS_MAP: ClassVar[bool] = True
    TRANSIENT: ClassVar[frozenset[str]] = frozenset({"index", "room", "phys"})

    def __init__(self, sb: Ext2SuperBlock, ino: int, record: InodeRecord) -> None:
        self.index: dict[bytes, int] | None = None
        """Byte offset of each name's record."""
        self.room: list[int] | None = None
        """Longest record that fits into each block."""
        self.phys: list[int] | None = None
        """Where each block is on the disk."""
        super().__init__(sb, ino, record)

    def check(self) -> None:
        super().check()
        if not 0 < self.size <= MAX_DIR_BYTES or self.size % self.ext2.block_size:
            raise self.ext2.corrupt(f"directory {self.ino}: size {self.size}")

    # -- reading

    async def load(self) -> dict[bytes, int]:
        """The index, built if need be. Raises EIO."""
        if self.index is None:
            async with self.map_lock:
                if self.index is None:
                    await self._build()
        assert self.index is not None
        return self.index

    async def _build(self) -> None:
        sb = self.ext2
        blocks = self.size // sb.block_size
        phys: list[int] = []
        for run in await blockmap.map_blocks(self, 0, blocks):
            if not run.phys:
                raise sb.corrupt(f"directory {self.ino}: block {run.lblk} is missing")
            phys.extend(range(run.phys, run.phys + run.count))
        index: dict[bytes, int] = {}
        room: list[int] = []
        for lblk, block in enumerate(phys):
            if lblk % READ_AHEAD_BLOCKS == 0:
                await sb.cache.read_ahead(phys[lblk : lblk + READ_AHEAD_BLOCKS])
            data = bytes((await sb.cache.bread(block)).data)
            for offset, ino, _, name, _ in self._records(data, lblk):
                if ino:
                    index.setdefault(name, lblk * sb.block_size + offset)
            room.append(self._room_in(data))
        if index.pop(b".", None) != 0 or index.pop(b"..", None) is None:
            raise sb.corrupt(f"directory {self.ino}: does not begin with . and ..")
        self.index, self.room, self.phys = index, room, phys

    def _records(self, data: bytes, lblk: int) -> list[tuple[int, int, int, bytes, int]]:
        """(offset, inode, length, name, file_type) of each record in a block. Raises EIO."""
        records = []
        sb = self.ext2
        unpack, size = DIRENT_HEADER.unpack_from, len(data)
        has_filetype, inodes_count = sb.has_filetype, sb.inodes_count
        offset = 0
        while offset < size:
            ino, length, name_len, file_type = unpack(data, offset)
            if not has_filetype:
                name_len |= file_type << 8
                file_type = 0
            end = offset + length
            name = data[offset + 8 : offset + 8 + name_len]
            problem = ""
            if length < 12 or length % 4 or end > size or name_len + 8 > length:
                problem = f"record of length {length} with a name of {name_len}"
            elif ino > inodes_count:
                problem = f"record names inode {ino}"
            elif ino and (not 0 < name_len <= 255 or b"/" in name or b"\0" in name):
                problem = f"impossible name {name!r}"
            elif ino and name in DOTS and (lblk or offset > 12):
                problem = f"{name.decode()} is not at the beginning"
            if problem:
                at = lblk * sb.block_size + offset
                raise sb.corrupt(f"directory {self.ino}, byte {at}: {problem}")
            records.append((offset, ino, length, name, file_type))
            offset = end
        return records

    def _room_in(self, data: bytes | bytearray) -> int:
        """The longest record that a block (already checked) has room for."""
        unpack, size, has_filetype = DIRENT_HEADER.unpack_from, len(data), self.ext2.has_filetype
        most = offset = 0
        while offset < size:
            ino, length, name_len, file_type = unpack(data, offset)
            if not has_filetype:
                name_len |= file_type << 8
            room = length - ((name_len + 11) & ~3) if ino else length  # dirent_bytes, inline
            if room > most:
                most = room
            offset += length
        return most

    async def entry(self, name: bytes) -> int:
        """The inode number a name stands for. Raises ENOENT, EIO."""
        place = (await self.load()).get(name)
        if place is None:
            raise Errno.ENOENT
        block, offset = self._place(place)
        ino: int = DIRENT_HEADER.unpack_from((await self.ext2.cache.bread(block)).data, offset)[0]
        return ino

    def _place(self, place: int) -> tuple[int, int]:
        """(disk block, offset) of byte `place` of the directory."""
        assert self.phys is not None
        lblk, offset = divmod(place, self.ext2.block_size)
        return self.phys[lblk], offset

    async def readdir(self, pos: int, limit: int) -> list[DirEntry]:
        await self.load()
        size = self.ext2.block_size
        entries: list[DirEntry] = []
        for lblk in range(pos // size, self.size // size):
            block, _ = self._place(lblk * size)
            data = bytes((await self.ext2.cache.bread(block)).data)
            for offset, ino, length, name, file_type in self._records(data, lblk):
                at = lblk * size + offset
                if at < pos or not ino or name in DOTS:
                    continue
                kind = DT_BY_FT[file_type] if file_type < len(DT_BY_FT) else 0
                entries.append(DirEntry(name, ino, kind, at + length))
                if len(entries) == limit:
                    return entries
        return entries

    # -- changing: within a handle, with the VFS's lock held

    async def make_room(self, name: bytes) -> int:
        """The number of a block in which `name` fits, a new one if need be. Raises ENOSPC, EIO."""
        await self.load()
        assert self.room is not None and self.phys is not None
        need = dirent_bytes(len(name))
        for lblk, room in enumerate(self.room):
            if room >= need:
                return lblk
        size = self.ext2.block_size
        lblk = len(self.phys)
        if (lblk + 1) * size > MAX_DIR_BYTES:
            raise Errno.ENOSPC
        run = await blockmap.allocate(self, lblk, 1)
        buffer = self.ext2.cache.getblk(run.phys)
        DIRENT_HEADER.pack_into(buffer.data, 0, 0, size, 0, 0)
        self.ext2.cache.mark_dirty(buffer, RANK_INODES)
        self.phys.append(run.phys)
        self.room.append(size)
        self.size += size
        return lblk

    async def insert(self, name: bytes, ino: int, file_type: int) -> None:
        """A new record. Raises ENOSPC, EIO."""
        lblk = await self.make_room(name)
        assert self.index is not None and self.room is not None and self.phys is not None
        size = self.ext2.block_size
        need = dirent_bytes(len(name))
        block = self.phys[lblk]
        buffer = await self.ext2.cache.bread(block)
        for offset, old, length, old_name, old_type in self._records(bytes(buffer.data), lblk):
            used = dirent_bytes(len(old_name)) if old else 0
            if length - used < need:
                continue
            if old:
                self._put(buffer.data, offset, old, used, old_name, old_type)
            self._put(buffer.data, offset + used, ino, length - used, name, file_type)
            self.index[name] = lblk * size + offset + used
            break
        else:
            raise self.ext2.corrupt(f"directory {self.ino}: block {lblk} has lost its room")
        self.room[lblk] = self._room_in(buffer.data)
        self.ext2.cache.mark_dirty(buffer, RANK_NAMES)
        self.ext2.commits.name_added(ino, block)
        self._touched()

    async def remove(self, handle: Handle, name: bytes, ino: int, *, survives: bool) -> None:
        """Take a record out. `survives`: its inode has other names. Raises ENOENT, EIO."""
        place = (await self.load()).get(name)
        if place is None:
            raise Errno.ENOENT
        block, offset = self._place(place)
        lblk = place // self.ext2.block_size
        rank = await handle.removal_rank(ino, block) if survives else RANK_NAMES
        buffer = await self.ext2.cache.bread(block)
        assert self.index is not None and self.room is not None
        before = None
        for record in self._records(bytes(buffer.data), lblk):
            if record[0] == offset:
                break
            before = record
        length = DIRENT_HEADER.unpack_from(buffer.data, offset)[1]
        if before is None:
            DIRENT_HEADER.pack_into(buffer.data, offset, 0, length, 0, 0)
        else:
            start, old, old_length, old_name, old_type = before
            self._put(buffer.data, start, old, old_length + length, old_name, old_type)
        del self.index[name]
        self.room[lblk] = self._room_in(buffer.data)
        self.ext2.cache.mark_dirty(buffer, rank)
        self._touched()

    async def replace(
        self, handle: Handle, name: bytes, ino: int, file_type: int, *, old: int, old_survives: bool
    ) -> None:
        """Let a name stand for another inode. Raises ENOENT, EIO."""
        if name == b"..":
            place = 12
            await self.load()
        else:
            found = (await self.load()).get(name)
            if found is None:
                raise Errno.ENOENT
            place = found
        block, offset = self._place(place)
        rank = await handle.removal_rank(old, block) if old_survives else RANK_NAMES
        buffer = await self.ext2.cache.bread(block)
        length = DIRENT_HEADER.unpack_from(buffer.data, offset)[1]
        self._put(buffer.data, offset, ino, length, name, file_type)
        self.ext2.cache.mark_dirty(buffer, rank)
        if name != b"..":
            self.ext2.commits.name_added(ino, block)
        self._touched()

    async def begin(self, parent_ino: int) -> None:
        """The first block of a new directory. Raises ENOSPC, EIO."""
        size = self.ext2.block_size
        run = await blockmap.allocate(self, 0, 1)
        buffer = self.ext2.cache.getblk(run.phys)
        self._put(buffer.data, 0, self.ino, 12, b".", 2)
        self._put(buffer.data, 12, parent_ino, size - 12, b"..", 2)
        self.ext2.cache.mark_dirty(buffer, RANK_INODES)
        self.index, self.room, self.phys = {}, [self._room_in(buffer.data)], [run.phys]
        self.size = size

    async def settle_moves(self, handle: Handle) -> None:
        """This directory is about to go: names that were moved out of it must be stable in
        their new places first. Raises EIO."""
        await self.load()
        late = self.ext2.commits.late
        if late and any(block in late for block in self.phys or ()):
            await handle.restart()

    def _put(
        self, data: bytearray, offset: int, ino: int, length: int, name: bytes, file_type: int
    ) -> None:
        kind = file_type if self.ext2.has_filetype else 0
        DIRENT_HEADER.pack_into(data, offset, ino, length, len(name), kind)
        data[offset + 8 : offset + 8 + len(name)] = name

    def _touched(self) -> None:
        self.flags &= ~INDEX_FL
        self.mtime_ns = self.ctime_ns = self.ext2.now_ns()
