"""The page cache: file contents in frames of physmem, shared by read, write and mmap.

Linux: mm/filemap.c, mm/truncate.c, mm/page-writeback.c.

Invariants:
- `pages[index]` holds one reference on its frame; a mapping of it in some page
  table holds another;
- a page in `dirty` differs (or may differ) from the backing store;
- a frame that guests map writable is in `dirty` before its entry gets D;
- what is read ahead lies in contiguous frames where possible, so that a Tlb maps
  it in one call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvm_async.errors import Errno
from uvm_async.sched.wait import Mutex
from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.mm.frames import Frames
    from uvm_async.mm.iov import IovIter
    from uvm_async.mm.mapping import BackingStore
    from uvm_async.mm.vma import Vma

__all__ = ["AddressSpace", "filemap_fsync", "filemap_read", "filemap_write", "truncate_pages"]

PAGE = 4096
READ_AHEAD_ORDER = 4
"""Pages are read in runs of up to 2**4."""
DIRTY_LIMIT_SHIFT = 3
"""Writers write back when more than 1/8 of memory is dirty in one file."""


class AddressSpace(Entity):
    """The cached pages of one inode (Linux: struct address_space)."""

    def __init__(self, host: BackingStore, frames: Frames) -> None:
        self.host = host
        self.frames = frames
        self.pages: dict[int, int] = {}
        """Page index -> pfn."""
        self.dirty: dict[int, None] = {}
        self.vmas: dict[Vma, None] = {}
        """Who maps it (Linux: i_mmap)."""
        self.lock = Mutex()
        """Held while pages are read in, so that none is read twice."""
        self.writeback_lock = Mutex()
        """Held while dirty pages are written back: who waits for it waits for them."""
        self.writing: dict[int, None] = {}
        """Pages on their way to the backing store: not to be dropped."""

    # -- looking up and reading in

    async def page(self, index: int) -> int:
        """The pfn of page `index`, read in (with neighbours) if need be. Raises EIO, ENOMEM."""
        pfn = self.pages.get(index)
        while pfn is None:
            async with self.lock:
                pfn = self.pages.get(index)
                if pfn is None:
                    await self._read_in(index)
                    pfn = self.pages.get(index)
        return pfn

    async def _read_in(self, index: int) -> None:
        frames = self.frames
        last = max(index, (self.host.size - 1) >> 12)
        order = READ_AHEAD_ORDER
        while order and (index & -(1 << order)) + (1 << order) - 1 > last:
            order -= 1
        first = index & -(1 << order)
        if any(i in self.pages for i in range(first, first + (1 << order))):
            first, order = index, 0
        if not self.host.evictable and await self.host.read_pages(first, 1 << order) is None:
            first, order = index, 0  # holes that only the cache would fill: no more than asked for
        pfn, got = await self._alloc_run(order)
        if got < order:
            first, order = index & -(1 << got), got
        count = 1 << order
        try:
            data = await self.host.read_pages(first, count)
        except BaseException:
            for i in range(count):
                frames.put(pfn + i)
            raise
        if data is None:
            frames.zero(pfn, count)
        else:
            frames.write(pfn, 0, data)
            missing = count * PAGE - len(data)
            if missing > 0:
                frames.write(pfn, len(data), bytes(missing))
        for i in range(count):
            if first + i in self.pages:  # appeared meanwhile: keep that one
                frames.put(pfn + i)
            else:
                self.pages[first + i] = pfn + i
        if self.host.evictable:
            frames.caches.pop(self, None)
            frames.caches[self] = None

    async def _alloc_run(self, order: int) -> tuple[int, int]:
        try:
            return self.frames.alloc_run(order)
        except Errno.ENOMEM:
            await reclaim(self.frames, 256)
            return self.frames.alloc_run(order)

    # -- giving up

    def drop_clean(self, want: int) -> int:
        """Forget up to `want` clean pages that nobody has mapped; answers frames freed."""
        freed = 0
        if not self.host.evictable:
            return 0
        frames = self.frames
        for index in list(self.pages):
            if freed >= want:
                break
            pfn = self.pages[index]
            if index not in self.dirty and index not in self.writing and frames.refs(pfn) == 1:
                del self.pages[index]
                frames.put(pfn)
                freed += 1
        frames.dropped += freed
        if not self.pages:
            frames.caches.pop(self, None)
        return freed

    def drop_all(self) -> None:
        """The inode goes: forget everything, dirty or not."""
        self.frames.dropped += len(self.pages)
        for pfn in self.pages.values():
            self.frames.put(pfn)
        self.pages.clear()
        self.dirty.clear()
        self.frames.caches.pop(self, None)

    def mark_dirty(self, index: int) -> None:
        """The page is about to differ from the backing store."""
        self.dirty[index] = None

    # -- writing back

    async def write_back(self) -> None:
        """Write every dirty page, in order, in runs. Raises EIO, ENOSPC (pages stay dirty)."""
        if not self.host.evictable:
            return
        async with self.writeback_lock:
            for start, count in _runs(sorted(self.dirty)):
                for vma in list(self.vmas):
                    await vma.mm.write_protect_file(vma, start, count)
                # A truncate may have come in between.
                for begin, length in _runs(
                    [i for i in range(start, start + count) if i in self.dirty]
                ):
                    await self._write_run(begin, length)

    async def _write_run(self, start: int, count: int) -> None:
        indices = range(start, start + count)
        data = b"".join(self.frames.read(self.pages[i], 0, PAGE) for i in indices)
        for i in indices:
            del self.dirty[i]
            self.writing[i] = None
        try:
            await self.host.write_pages(start, data)
        except BaseException:
            for i in indices:
                if i in self.pages:
                    self.dirty[i] = None
            raise
        finally:
            for i in indices:
                self.writing.pop(i, None)


def _runs(indices: list[int], most: int = 256) -> list[tuple[int, int]]:
    """Consecutive numbers as (start, count), each of at most `most`."""
    runs: list[tuple[int, int]] = []
    for index in indices:
        if runs and runs[-1][0] + runs[-1][1] == index and runs[-1][1] < most:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((index, 1))
    return runs


async def reclaim(frames: Frames, want: int) -> int:
    """Free `want` frames of page caches: unmap, write back what is dirty, drop.

    Answers frames freed. Linux: mm/vmscan.c.
    """
    freed = frames.shrink(want)
    for cache in list(frames.caches):
        if freed >= want:
            break
        if cache.writeback_lock.locked:
            continue
        for vma in list(cache.vmas):
            await vma.mm.unmap_file_pages(vma)
        if cache.dirty:
            try:
                await cache.write_back()
            except Errno:
                continue
        freed += cache.drop_clean(want - freed)
    return freed


async def filemap_read(mapping: AddressSpace, it: IovIter, pos: int) -> int:
    """Read from byte `pos` up to the end of the file; answers bytes read. Raises EIO, EFAULT."""
    done = 0
    host = mapping.host
    pages = mapping.pages
    while it.count:
        left = host.size - pos
        if left <= 0:
            break
        index, offset = divmod(pos, PAGE)
        try:
            pfn = pages.get(index)
            if pfn is None and not host.evictable and await host.read_pages(index, 1) is None:
                # A hole in a file that lives in the cache alone: reading it takes no memory.
                copied = await it.copy_to(bytes(min(PAGE - offset, left, it.count)))
                done += copied
                pos += copied
                continue
            if pfn is None:
                pfn = pages.get(index) or await mapping.page(index)
        except Errno:
            if done:
                break
            raise
        length = min(PAGE - offset, left, it.count)
        want = min(left, it.count, 65536)
        while length < want and pages.get(index + 1) == pfn + ((offset + length) >> 12):
            index += 1
            length = min(length + PAGE, want)
        data = mapping.frames.read(pfn, offset, length)
        try:
            copied = await it.copy_to(data)
        except Errno.EFAULT:
            if done:
                break
            raise
        done += copied
        pos += copied
        if copied < length:
            break
    return done


async def filemap_write(mapping: AddressSpace, it: IovIter, pos: int) -> int:
    """Write at byte `pos`, growing the file: `host.prepare_write(pos, n)` is awaited first for each
    chunk (may raise ENOSPC, EFBIG; may answer fewer bytes than asked), `host.size` grows as bytes
    arrive, pages become dirty. Answers bytes written."""
    done = 0
    host = mapping.host
    frames = mapping.frames
    while it.count:
        index, offset = divmod(pos, PAGE)
        length = min(PAGE - offset, it.count)
        try:
            await it.fault_in(length)
            length = await host.prepare_write(pos, length)
            pfn = mapping.pages.get(index)
            if pfn is None:
                whole = (offset == 0 and length == PAGE) or (
                    offset == 0 and pos + length >= host.size
                )
                pfn = await (
                    _new_page(mapping, index)
                    if whole or index << 12 >= host.size
                    else mapping.page(index)
                )
        except Errno:
            if done:
                break
            raise
        frames.get(pfn)
        try:
            mapping.mark_dirty(index)
            data = it.take(length)
            frames.write(pfn, offset, data)
        finally:
            frames.put(pfn)
        done += len(data)
        pos += len(data)
        if pos > host.size:
            host.size = pos
        if len(mapping.dirty) > frames.total() >> DIRTY_LIMIT_SHIFT and host.evictable:
            await mapping.write_back()
    return done


async def _new_page(mapping: AddressSpace, index: int) -> int:
    """A page that need not be read: zeros."""
    pfn, _ = await mapping._alloc_run(0)
    other = mapping.pages.get(index)
    if other is not None:
        mapping.frames.put(pfn)
        return other
    mapping.frames.zero(pfn)
    mapping.pages[index] = pfn
    if mapping.host.evictable:
        mapping.frames.caches[mapping] = None
    return pfn


async def truncate_pages(mapping: AddressSpace, size: int) -> None:
    """The file ends at byte `size` now: unmap what lies beyond from guests, drop its pages, zero
    the tail of the last one."""
    first = (size + PAGE - 1) >> 12
    for vma in list(mapping.vmas):
        await vma.mm.unmap_file_pages(vma, first)
    frames = mapping.frames
    for index in [i for i in mapping.pages if i >= first]:
        frames.put(mapping.pages.pop(index))
        mapping.dirty.pop(index, None)
    tail = size & (PAGE - 1)
    pfn = mapping.pages.get(size >> 12)
    if tail and pfn is not None:
        frames.write(pfn, tail, bytes(PAGE - tail))
        mapping.mark_dirty(size >> 12)


async def filemap_fsync(mapping: AddressSpace) -> None:
    """Write back every dirty page through `host.write_pages`. Raises EIO."""
    await mapping.write_back()
