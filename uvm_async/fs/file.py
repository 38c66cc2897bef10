"""Open regular files and directories.

Linux: mm/filemap.c (generic_file_read_iter, generic_file_write_iter), fs/readdir.c,
fs/read_write.c.  The contents of a regular file are its page cache
(`mm/filemap.py`); what is here is position, append, limits, times and set-id bits.

Invariants:
- a write, and the position it starts from, happen under the inode's lock;
- a position that is shared (`refs > 1`) is read and advanced under `pos_lock`;
- times are set on the inode directly, and at most every `TIME_GRAIN_NS`.

Lock order: `pos_lock`, then the inode's lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from uvm_async.errors import Errno
from uvm_async.fs.attr import RLIMIT_FSIZE, SIGXFSZ
from uvm_async.fs.inode import DirEntry, File, Inode, Path
from uvm_async.fs.mount import MS_NOATIME, MS_NODIRATIME, MS_RDONLY, MS_STRICTATIME
from uvm_async.fs.permission import drop_setid_bits
from uvm_async.mm.filemap import filemap_read, filemap_write
from uvm_async.sched.wait import Mutex

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task
    from uvm_async.mm.filemap import AddressSpace
    from uvm_async.mm.iov import IovIter

__all__ = [
    "AT_END",
    "SEEK_DATA",
    "SEEK_HOLE",
    "TIME_GRAIN_NS",
    "DirFile",
    "RegularFile",
    "allow_write_access",
    "deny_write_access",
    "touch_atime",
]

O_APPEND: Final = 0o2000
O_DSYNC: Final = 0o10000
O_NOATIME: Final = 0o1000000
AT_END: Final = -1
"""A position for `RegularFile.write_iter`: wherever the end is by then (RWF_APPEND)."""
SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_HOLE = range(5)
MAX_BYTES: Final = (1 << 63) - 1
TIME_GRAIN_NS: Final = 4_000_000
"""Linux's file times advance by the tick, here one of 250 Hz."""
ONE_DAY_NS: Final = 86_400_000_000_000

DT_DIR: Final = 4


def touch_atime(path: Path, inode: Inode, flags: int) -> None:
    """A read happened: note it as relatime says (at most once a day unless it was modified)."""
    mount_flags = path.mount.flags
    if flags & O_NOATIME or mount_flags & (MS_NOATIME | MS_RDONLY) or inode.sb.read_only:
        return
    now = inode.sb.kernel.clock.realtime_ns()
    atime = inode.atime_ns
    if atime > inode.mtime_ns and atime > inode.ctime_ns and now - atime < ONE_DAY_NS:
        if not mount_flags & MS_STRICTATIME or 0 <= now - atime < TIME_GRAIN_NS:
            return
    elif 0 <= now - atime < TIME_GRAIN_NS:
        return
    inode.atime_ns = now


def deny_write_access(inode: Inode) -> None:
    """A program starts to be executed from it. Raises ETXTBSY while it is open for writing."""
    if inode.writers > 0:
        raise Errno.ETXTBSY
    inode.writers -= 1


def allow_write_access(inode: Inode) -> None:
    """A program is no longer executed from it."""
    inode.writers += 1


class RegularFile(File):
    """An open file whose contents are the inode's page cache."""

    seekable: ClassVar[bool] = True
    can_poll: ClassVar[bool] = False

    def __init__(self, path: Path, flags: int) -> None:
        """Raises ETXTBSY."""
        if flags & 3 and path.inode.writers < 0:
            raise Errno.ETXTBSY
        super().__init__(path, flags)
        self.pos_lock: Mutex | None = None
        if self.writable:
            path.inode.writers += 1

    @property
    def mapping(self) -> AddressSpace | None:
        return self.inode.mapping

    def _pages(self, inode: Inode) -> AddressSpace:
        if inode.mapping is None:
            raise Errno.EINVAL
        return inode.mapping

    async def read_iter(self, task: Task, it: IovIter, pos: int | None = None) -> int:
        path = self.path
        assert path is not None
        inode = path.inode
        if pos is not None:
            done = await filemap_read(self._pages(inode), it, pos)
        elif self.refs == 1:
            done = await filemap_read(self._pages(inode), it, self.pos)
            self.pos += done
        else:
            if self.pos_lock is None:
                self.pos_lock = Mutex()
            async with self.pos_lock:
                done = await filemap_read(self._pages(inode), it, self.pos)
                self.pos += done
        touch_atime(path, inode, self.flags)
        return done

    async def write_iter(self, task: Task, it: IovIter, pos: int | None = None) -> int:
        if not it.count:
            return 0
        inode = self.inode
        async with inode.lock:
            if self.flags & O_APPEND or pos == AT_END:
                start = inode.size
            else:
                start = self.pos if pos is None else pos
            it.count = _allowed(task, start, it.count)
            done = await self._write_locked(task, inode, it, start)
            if pos is None:
                self.pos = start + done
        if self.flags & O_DSYNC and done > 0:
            await inode.fsync(data_only=True)
        return done

    async def _write_locked(self, task: Task, inode: Inode, it: IovIter, start: int) -> int:
        mode = drop_setid_bits(inode, task.cred)
        if mode is not None:
            await inode.setattr(mode=mode)
        now = task.kernel.clock.realtime_ns()
        if not 0 <= now - inode.mtime_ns < TIME_GRAIN_NS:
            inode.mtime_ns = inode.ctime_ns = now
        return await filemap_write(self._pages(inode), it, start)

    async def llseek(self, offset: int, whence: int) -> int:
        inode = self.inode
        if whence == SEEK_SET:
            pos = offset
        elif whence == SEEK_CUR:
            pos = self.pos + offset
        elif whence == SEEK_END:
            await inode.refresh()
            pos = inode.size + offset
        elif whence in (SEEK_DATA, SEEK_HOLE):
            if not 0 <= offset < inode.size:
                raise Errno.ENXIO
            pos = await inode.seek_data(offset, hole=whence == SEEK_HOLE)
        else:
            raise Errno.EINVAL
        if not 0 <= pos <= MAX_BYTES:
            raise Errno.EINVAL
        self.pos = pos
        return pos

    async def fsync(self, *, data_only: bool = False) -> None:
        await self.inode.fsync(data_only=data_only)

    async def release(self) -> None:
        if self.writable:
            self.inode.writers -= 1


def _allowed(task: Task, start: int, count: int) -> int:
    """How much of a write at `start` the limits let through. Raises EFBIG, with SIGXFSZ."""
    limit = task.process.rlimits.get(RLIMIT_FSIZE)
    if limit is not None and start + count > limit[0]:
        if start >= limit[0]:
            task.kernel.send_signal(task, SIGXFSZ)
            raise Errno.EFBIG
        count = limit[0] - start
    if start + count > MAX_BYTES:
        if start >= MAX_BYTES:
            raise Errno.EFBIG
        count = MAX_BYTES - start
    return count


class DirFile(File):
    """An open directory. Its position counts "." and ".."; 2 and more are the file system's."""

    seekable: ClassVar[bool] = True
    can_poll: ClassVar[bool] = False

    async def read_iter(self, task: Task, it: IovIter, pos: int | None = None) -> int:
        raise Errno.EISDIR

    async def entries(self, limit: int) -> list[DirEntry]:
        """Up to `limit` entries from `pos` on, which does not advance. Raises ENOENT if the
        directory was removed."""
        path = self.path
        assert path is not None
        inode = path.inode
        async with inode.lock:
            if inode.nlink == 0:
                raise Errno.ENOENT
            found: list[DirEntry] = []
            if self.pos == 0:
                found.append(DirEntry(b".", inode.ino, DT_DIR, 1))
            if self.pos <= 1:
                above = path.dentry.parent
                parent = (
                    above.inode
                    if above is not None and path.dentry is not path.mount.root
                    else inode
                )
                found.append(DirEntry(b"..", parent.ino if parent else inode.ino, DT_DIR, 2))
            if len(found) < limit:
                start = max(self.pos - 2, 0)
                for entry in await inode.readdir(start, limit - len(found)):
                    found.append(DirEntry(entry.name, entry.ino, entry.type, entry.next_pos + 2))
        if not path.mount.flags & MS_NODIRATIME:
            touch_atime(path, inode, self.flags)
        return found

    async def llseek(self, offset: int, whence: int) -> int:
        if whence == SEEK_CUR:
            offset += self.pos
        elif whence != SEEK_SET:
            raise Errno.EINVAL
        if offset < 0:
            raise Errno.EINVAL
        self.pos = offset
        return offset

    async def fsync(self, *, data_only: bool = False) -> None:
        await self.inode.fsync(data_only=data_only)
