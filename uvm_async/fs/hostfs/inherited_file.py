"""Open files of the host's that a guest has inherited, or has opened once more.

Each has a descriptor of the host: the embedder's own (`Given`), or one opened by way of it.
Contents pass by the page cache, which exists only for mmap; a write changes what is cached of it
as well, a read is preceded by writing back what is dirty.

Lock order: the inode's lock, as for any regular file.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Final, cast

from uvm_async.errors import Errno, from_oserror
from uvm_async.fs.attr import RLIMIT_FSIZE, check_size
from uvm_async.fs.file import AT_END, RegularFile
from uvm_async.fs.hostfs import fdcalls
from uvm_async.fs.hostfs.fdcalls import OWN, Handle
from uvm_async.mm.filemap import AddressSpace, filemap_fsync, truncate_pages
from uvm_async.mm.iov import CHUNK_BYTES

if TYPE_CHECKING:
    from uvm_async.fs.hostfs.inherited import Given, InheritedInode
    from uvm_async.fs.inode import Path
    from uvm_async.kernel.task import Task
    from uvm_async.mm.iov import IovIter

__all__ = ["InheritedFile", "ReopenedFile"]

WRITE_BYTES: Final = 1 << 20
"""Most bytes handed to a worker at once."""
UNLIMITED: Final = (1 << 64) - 1


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
                data = fdcalls.read_cached(handle, want, offset)
                if data is None:
                    data = await inode.host.in_worker(fdcalls.read, handle, want, offset)
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
                    written = fdcalls.write(handle, part, at)
                else:
                    written = await inode.host.in_worker(fdcalls.write, handle, part, at)
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
        return await self.node.host.in_worker(fdcalls.seek, handle, offset, whence)

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
            fd = sb.opened[self] = await sb.in_worker(fdcalls.reopen, self.given, flags)
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
