"""ext2 inodes: from the disk and back, birth and end.

Linux: fs/ext2/inode.c (ext2_iget, ext2_evict_inode), fs/ext2/ialloc.c.  `Ext2Inode`
serves devices, FIFOs and sockets; files, directories and symlinks are subclasses.

Invariants:
- one object for one inode number (`sb.inodes`);
- an attribute that the disk has marks the inode dirty when it is set, whoever sets
  it; the record on the disk is made from the attributes at the next commit;
- what the record holds beyond those attributes stays as it was read;
- an inode without a name is in `sb.orphans` until it is evicted, so that the disk
  says what must be cleaned up after a crash.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any, ClassVar, cast

from uvm_async.errors import Errno
from uvm_async.fs.ext2 import blockmap, xattr
from uvm_async.fs.ext2.blockmap import NodeKey
from uvm_async.fs.ext2.ialloc import free_inode
from uvm_async.fs.ext2.layout import (
    GOOD_OLD_INODE_SIZE,
    IMMUTABLE_FL,
    UNKNOWN_LAYOUT_FL,
    InodeRecord,
    pack_time,
    unpack_time,
)
from uvm_async.fs.inode import Inode
from uvm_async.sched.wait import Mutex

if TYPE_CHECKING:
    from uvm_async.fs.ext2.superblock import Ext2SuperBlock

__all__ = ["Ext2Inode", "new_record"]

ON_DISK = frozenset(
    {"mode", "uid", "gid", "nlink", "size", "atime_ns", "mtime_ns", "ctime_ns", "flags", "file_acl"}
)
TIMES = (("atime_ns", "i_atime"), ("mtime_ns", "i_mtime"), ("ctime_ns", "i_ctime"))
ONE_SECOND_NS = 1_000_000_000


def new_record(sb: Ext2SuperBlock, generation: int, now_ns: int) -> InodeRecord:
    """The record of an inode that was never used."""
    record = InodeRecord(bytes(sb.inode_size))
    record.i_generation = generation
    if sb.inode_size > GOOD_OLD_INODE_SIZE:
        record.i_extra_isize = sb.extra_isize
        if record.has_extra(InodeRecord.i_crtime_extra):
            record.i_crtime, record.i_crtime_extra = pack_time(now_ns)
    return record


class Ext2Inode(Inode):
    """An inode of an ext2 file system."""

    def __init__(self, sb: Ext2SuperBlock, ino: int, record: InodeRecord) -> None:
        super().__init__(sb, ino, record.i_mode)
        self.record = record
        self.block = list(record.block)
        """i_block: pointers, or a fast symlink's text, or a device number."""
        self.group = (ino - 1) // sb.inodes_per_group
        self.flags = record.i_flags
        self.file_acl = record.i_file_acl
        self.dtime = 0
        self.disk_blocks = record.i_blocks
        """Allocated, in units of 512 bytes; `blocks` counts what is reserved as well."""
        self.reserved: dict[int, None] = {}
        """File blocks that have no place on the disk yet, but the promise of one."""
        self.reserved_nodes: dict[NodeKey, None] = {}
        self.cut_from = 0
        """While a truncate has not freed its blocks: the old size, which the disk still needs."""
        self.map_lock = Mutex()
        self.uid = record.i_uid | record.i_uid_high << 16
        self.gid = record.i_gid | record.i_gid_high << 16
        self.nlink = record.i_links_count
        self.size = record.i_size
        self.blocks = self.disk_blocks
        self.blksize = sb.block_size
        for name, field in TIMES:
            extra = getattr(InodeRecord, field + "_extra")
            has_extra = record.has_extra(extra)
            setattr(
                self,
                name,
                unpack_time(getattr(record, field), extra.__get__(record) if has_extra else 0),
            )
        if self.holds_device:
            self.rdev = _decode_dev(self.block[0], self.block[1])
        self.settled = True
        """From here on, setting an attribute makes it dirty. The last one set, also at a thaw."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ON_DISK and self.__dict__.get("settled"):
            if name.endswith("_ns"):
                value -= value % self.ext2.time_gran_ns
            if self.__dict__[name] != value:
                self.mark_dirty()
        object.__setattr__(self, name, value)

    @property
    def ext2(self) -> Ext2SuperBlock:
        return cast("Ext2SuperBlock", self.sb)

    @property
    def holds_device(self) -> bool:
        return stat.S_ISCHR(self.mode) or stat.S_ISBLK(self.mode)

    def mark_dirty(self) -> None:
        """Its record must be written at the next commit."""
        self.ext2.dirty_inodes[self.ino] = self

    # -- from the disk and back

    def check(self) -> None:
        """Is what was read from the disk plausible? Raises EIO."""
        sb, record = self.ext2, self.record
        for flag, name in UNKNOWN_LAYOUT_FL.items():
            if self.flags & flag:
                raise sb.corrupt(f"inode {self.ino}: uses {name}")
        if stat.S_IFMT(self.mode) not in KNOWN_TYPES:
            raise sb.corrupt(f"inode {self.ino}: unknown type, mode {self.mode:#o}")
        if sb.inode_size > GOOD_OLD_INODE_SIZE:
            extra = record.i_extra_isize
            if extra % 4 or extra > sb.inode_size - GOOD_OLD_INODE_SIZE:
                raise sb.corrupt(f"inode {self.ino}: extra size {extra}")
        if record.i_blocks_high or record.i_file_acl_high:
            raise sb.corrupt(f"inode {self.ino}: block count or attributes beyond 32 bits")
        if self.file_acl:
            sb.check_blocks(self.file_acl, 1, f"inode {self.ino}: attributes")

    def pack(self) -> bytes:
        """Its record as it must be on the disk."""
        record = self.record
        record.i_mode = self.mode
        record.i_uid, record.i_uid_high = self.uid & 0xFFFF, self.uid >> 16 & 0xFFFF
        record.i_gid, record.i_gid_high = self.gid & 0xFFFF, self.gid >> 16 & 0xFFFF
        record.i_links_count = self.nlink
        size = max(self.size, self.cut_from)
        record.i_size = size & 0xFFFFFFFF
        if self.is_reg:
            record.i_size_high = size >> 32
        record.i_blocks = self.disk_blocks
        record.i_flags = self.flags
        record.i_file_acl = self.file_acl
        record.i_dtime = self.dtime
        record.block = self.block
        for name, field in TIMES:
            seconds, extra = pack_time(getattr(self, name))
            if record.has_extra(getattr(InodeRecord, field + "_extra")):
                setattr(record, field + "_extra", extra)
            else:
                whole = getattr(self, name) // ONE_SECOND_NS
                seconds = min(max(whole, -(1 << 31)), (1 << 31) - 1)
            setattr(record, field, seconds)
        return bytes(record.raw)

    # -- blocks, and promises of blocks (see file.py)

    def charge(self, count: int) -> None:
        """`count` blocks more (or fewer) on the disk are this inode's. Raises EIO."""
        blocks = self.disk_blocks + count * (self.ext2.block_size // 512)
        if blocks < 0:
            raise self.ext2.corrupt(f"inode {self.ino}: has more blocks than it says")
        self.disk_blocks = blocks
        self.count_blocks()
        self.mark_dirty()

    def count_blocks(self) -> None:
        """Bring `blocks` up to date."""
        promised = len(self.reserved) + len(self.reserved_nodes)
        self.blocks = self.disk_blocks + promised * (self.ext2.block_size // 512)

    def promised_run(self, lblk: int, most: int) -> tuple[int, bool]:
        """(how many blocks from `lblk` on are alike, whether they are reserved)."""
        promised = lblk in self.reserved
        count = 1
        while count < most and (lblk + count in self.reserved) is promised:
            count += 1
        return count, promised

    def promised_node(self, key: NodeKey) -> bool:
        return key in self.reserved_nodes

    def keep_promise(self, lblk: int, count: int) -> None:
        """These reserved blocks have their place now."""
        for number in range(lblk, lblk + count):
            del self.reserved[number]
        self.ext2.reserved_blocks -= count
        if not self.reserved:
            self.drop_promises(0)
        self.count_blocks()

    def keep_promise_node(self, key: NodeKey) -> None:
        if key in self.reserved_nodes:
            del self.reserved_nodes[key]
            self.ext2.reserved_blocks -= 1
            self.count_blocks()

    def drop_promises(self, lblk: int) -> None:
        """What is reserved from file block `lblk` on is no longer wanted."""
        blocks = [number for number in self.reserved if number >= lblk]
        for number in blocks:
            del self.reserved[number]
        nodes = [key for key in self.reserved_nodes if key[1] >= lblk or not self.reserved]
        for key in nodes:
            del self.reserved_nodes[key]
        self.ext2.reserved_blocks -= len(blocks) + len(nodes)
        self.count_blocks()

    # -- inode operations

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
        if self.ext2.read_only:
            raise Errno.EROFS
        if self.flags & IMMUTABLE_FL:
            raise Errno.EPERM
        if size is not None:
            await self.set_size(size)
        await super().setattr(
            mode=mode, uid=uid, gid=gid, atime_ns=atime_ns, mtime_ns=mtime_ns, ctime_ns=ctime_ns
        )

    async def set_size(self, size: int) -> None:
        """truncate(2). Raises EINVAL where there is nothing to cut."""
        raise Errno.EINVAL

    async def fsync(self, *, data_only: bool = False) -> None:
        await self.ext2.commit()

    def drop_link(self, now_ns: int) -> None:
        """A name of it is gone."""
        self.nlink -= 1
        self.ctime_ns = now_ns
        if self.nlink == 0:
            self.ext2.add_orphan(self)

    async def evict(self) -> None:
        """No name and no open file is left: free its blocks and its number.

        Corruption met on the way is logged, and leaves the rest to e2fsck.
        """
        sb = self.ext2
        if sb.inodes.get(self.ino) is not self:
            return
        if self.mapping is not None:
            self.mapping.drop_all()
        if sb.read_only:
            return
        try:
            async with sb.handle(), self.map_lock:
                await self.free()
        except Errno as error:
            sb.complain(f"inode {self.ino} could not be freed: {error}")

    async def free(self) -> None:
        """Free its blocks and its number. Within a handle. Raises EIO."""
        sb = self.ext2
        self.drop_promises(0)
        if self.has_block_map:
            await blockmap.truncate(self, 0)
        await xattr.release(self)
        self.size = self.cut_from = 0
        await free_inode(sb, self.ino, is_dir=self.is_dir)
        self.dtime = sb.now_ns() // ONE_SECOND_NS
        self.mark_dirty()
        sb.remove_orphan(self)
        del sb.inodes[self.ino]

    HAS_MAP: ClassVar[bool] = False

    @property
    def has_block_map(self) -> bool:
        """Does i_block hold block numbers?"""
        return self.HAS_MAP


KNOWN_TYPES = frozenset(
    {
        stat.S_IFREG,
        stat.S_IFDIR,
        stat.S_IFLNK,
        stat.S_IFCHR,
        stat.S_IFBLK,
        stat.S_IFIFO,
        stat.S_IFSOCK,
    }
)


def _decode_dev(old: int, new: int) -> int:
    """i_block of a device, in Linux's old (16 bits) or new (32 bits) form."""
    if old:
        return os.makedev(old >> 8 & 0xFF, old & 0xFF)
    return os.makedev(new >> 8 & 0xFFF, new & 0xFF | new >> 12 & 0xFFF00)


def encode_dev(rdev: int) -> tuple[int, int]:
    """The inverse of what reading a device's i_block does."""
    major, minor = os.major(rdev), os.minor(rdev)
    if major < 256 and minor < 256:
        return major << 8 | minor, 0
    return 0, minor & 0xFF | (major & 0xFFF) << 8 | (minor & 0xFFF00) << 12


def needs_large_file(size: int) -> bool:
    """Is it too long for a file system without the large_file feature?"""
    return size > 0x7FFFFFFF
