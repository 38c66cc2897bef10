"""Page faults.

Linux: mm/memory.c (handle_mm_fault), arch/x86/mm/fault.c.

What reaches this code is what the shim's walk could not resolve: no entry, an
entry not yet accessed, a first write, copy-on-write, or a mistake.  Resolving one
changes page tables only; the shim maps what they say when the task goes on.

After every await the world may have changed: the area is looked up again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvm_async._host import lib
from uvm_async.errors import Errno
from uvm_async.mm.filemap import reclaim
from uvm_async.mm.vma import MAP_GROWSDOWN, PROT_EXEC, PROT_READ, PROT_WRITE, Vma

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task
    from uvm_async.mm.mm import Mm

__all__ = ["BusError", "MemoryFault", "SegmentationFault", "handle_mm_fault"]

P: int = lib.UVM_PTE_P
W: int = lib.UVM_PTE_W
U: int = lib.UVM_PTE_U
A: int = lib.UVM_PTE_A
D: int = lib.UVM_PTE_D
COW: int = lib.UVM_PTE_COW
CACHE: int = lib.UVM_PTE_CACHE
NX: int = lib.UVM_PTE_NX
ADDR: int = lib.UVM_PTE_ADDR

FAULT_AROUND_ORDER = 4
"""Anonymous memory comes in aligned runs of up to 2**4 pages."""
FILE_AROUND_PAGES = 64
"""Cached pages of a file are entered in aligned windows of this many."""
COW_AROUND_PAGES = 16
"""Copy-on-write copies an aligned window of this many into one run."""
STACK_GUARD_BYTES = 256 << 12

SEGV_MAPERR = 1
SEGV_ACCERR = 2
BUS_ADRERR = 2


class MemoryFault(Exception):
    """The access is a mistake; `code` is the si_code that says which."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class SegmentationFault(MemoryFault):
    """SIGSEGV: SEGV_MAPERR or SEGV_ACCERR."""


class BusError(MemoryFault):
    """SIGBUS: beyond the end of the file, or it cannot be read."""


async def handle_mm_fault(
    mm: Mm, addr: int, *, write: bool = False, execute: bool = False, current: Task | None = None
) -> None:
    """Make the page of `addr` accessible as asked. Raises SegmentationFault, BusError, ENOMEM.

    `current` is the task whose own access it was (its stub is not running); None for the
    kernel's copies.
    """
    while True:
        vma = mm.find(addr) or _grow_stack(mm, addr)
        if vma is None:
            raise SegmentationFault(SEGV_MAPERR)
        need = PROT_WRITE if write else PROT_EXEC if execute else PROT_READ
        if not vma.prot & need and not (need == PROT_READ and vma.prot & (PROT_WRITE | PROT_EXEC)):
            raise SegmentationFault(SEGV_ACCERR)
        page = addr & ~4095
        pte = mm.pte(page)
        try:
            if pte & P:
                await _present(mm, vma, page, pte, write, current)
                return
            if vma.mapping is None:
                _anonymous(mm, vma, page)
                return
            if await _file(mm, vma, page, write):
                return
        except Errno.ENOMEM:
            if not await reclaim(mm.frames, 64):
                raise


def _bits(vma: Vma) -> int:
    return P | U | A | (0 if vma.prot & PROT_EXEC else NX)


def _grow_stack(mm: Mm, addr: int) -> Vma | None:
    """Extend a stack downwards over `addr`, within its limit and clear of what lies below."""
    above = [vma for vma in mm.overlapping(addr, mm.start_stack + 1) if vma.flags & MAP_GROWSDOWN]
    if not above:
        return None
    vma = above[0]
    start = addr & ~4095
    if vma.end - start > mm.stack_limit_bytes:
        return None
    if mm.overlapping(start - STACK_GUARD_BYTES, vma.start):
        return None
    mm.move_start(vma, start)
    return vma


def _anonymous(mm: Mm, vma: Vma, page: int) -> None:
    """Zeros, for the page and the untouched ones around it."""
    frames = mm.frames
    bits = _bits(vma) | ((W | D) if vma.prot & PROT_WRITE else 0)
    order = FAULT_AROUND_ORDER
    while order:
        low = page & -(4096 << order)
        if (
            low >= vma.start
            and low + (4096 << order) <= vma.end
            and lib.uvm_pte_none_run(frames.pm, mm.pgd, low, 1 << order) == 1 << order
        ):
            break
        order -= 1
    else:
        low = page
    pfn, got = frames.alloc_run(order)
    if got < order:
        low = page & -(4096 << got)
    count = 1 << got
    frames.zero(pfn, count)
    made = lib.uvm_pte_map_run(frames.pm, mm.pgd, low, count, pfn, bits, 1)
    if made < 0:
        for i in range(count):
            frames.put(pfn + i)
        raise Errno.ENOMEM


async def _present(
    mm: Mm, vma: Vma, page: int, pte: int, write: bool, current: Task | None
) -> None:
    """There is an entry: first use, first write, or copy-on-write."""
    frames = mm.frames
    if not write:
        if not pte & A:
            mm.set_pte(page, pte | A)
        return
    if pte & W:
        if pte & CACHE and not pte & D and not await _mkwrite(mm, vma, page, pte):
            return
        mm.set_pte(page, pte | A | D)
        if not pte & D:
            mm.tlb.owe(mm, current, [(page, 4096)])
        return
    pfn = (pte & ADDR) >> 12
    if vma.shared:  # mprotect gave the right back
        if pte & CACHE and not await _mkwrite(mm, vma, page, pte):
            return
        mm.set_pte(page, (pte & ~COW) | W | A | D)
        return
    if frames.refs(pfn) == 1 and not pte & CACHE:
        mm.set_pte(page, (pte & ~COW) | W | A | D)
        return
    await _unshare(mm, vma, page, current)


async def _unshare(mm: Mm, vma: Vma, page: int, current: Task | None) -> None:
    """Copy-on-write, for the page and those around it.

    A page of a private file mapping that is only read keeps following the file, so where somebody
    may be writing to that file, no other page is copied than the one that must be.
    """
    frames = mm.frames
    low, high = page, page + 4096
    if vma.mapping is None or vma.mapping.host.writers <= 0:
        low = max(vma.start, page & -(COW_AROUND_PAGES << 12))
        high = min(vma.end, (page & -(COW_AROUND_PAGES << 12)) + (COW_AROUND_PAGES << 12))
    lib.uvm_pte_unshare(frames.pm, mm.pgd, low, (high - low) >> 12)
    if not mm.pte(page) & W:  # not enough for all of them
        pfn = (mm.pte(page) & ADDR) >> 12
        copy = frames.alloc(0)
        frames.copy(copy, pfn)
        mm.set_pte(page, (copy << 12) | _bits(vma) | W | D)
        frames.put(pfn)  # never the last: the page cache or a relative holds another
    mm.tlb.owe(mm, current, [(low, high - low)])
    await mm.tlb.sync()


async def _mkwrite(mm: Mm, vma: Vma, page: int, pte: int) -> bool:
    """A shared file page is about to be written (Linux: page_mkwrite): room for it, dirty, new
    times. False if the entry or area changed meanwhile. Raises BusError where there is no room."""
    mapping = vma.mapping
    if mapping is None:
        return True
    index = vma.pgoff + ((page - vma.start) >> 12)
    start = index << 12
    try:
        await mapping.host.prepare_write(start, max(1, min(4096, mapping.host.size - start)))
    except Errno:
        raise BusError(BUS_ADRERR) from None
    if mm.find(page) is not vma or mm.pte(page) != pte:
        return False
    mapping.mark_dirty(index)
    mapping.host.mapped_write()
    return True


async def _file(mm: Mm, vma: Vma, page: int, write: bool) -> bool:
    """A page of the area's page cache; False if the area changed while it was read in."""
    mapping = vma.mapping
    assert mapping is not None
    frames = mm.frames
    index = vma.pgoff + ((page - vma.start) >> 12)
    if index << 12 >= mapping.host.size:
        raise BusError(BUS_ADRERR)
    pfn = mapping.pages.get(index)
    if pfn is None:
        try:
            pfn = await mapping.page(index)
        except Errno.EIO:
            raise BusError(BUS_ADRERR) from None
        if mm.find(page) is not vma or mm.pte(page):
            return False
        pfn = mapping.pages.get(index)
        if pfn is None:
            return False
    bits = _bits(vma)
    private_write = write and not vma.shared
    bits |= CACHE
    if vma.shared:
        if vma.prot & PROT_WRITE:
            bits |= W
        if write:
            if not await _mkwrite(mm, vma, page, 0):
                return False
            if mapping.pages.get(index) != pfn:
                return False
            frames.get(pfn)
            mm.set_pte(page, (pfn << 12) | bits | D)
            return True
    elif vma.max_prot & PROT_WRITE:
        bits |= COW
    _map_around(mm, vma, index, bits)
    if private_write:
        await _unshare(mm, vma, page, None)
    return True


def _map_around(mm: Mm, vma: Vma, index: int, bits: int) -> None:
    """Enter the cached pages around `index`, contiguous frames in one go."""
    mapping = vma.mapping
    assert mapping is not None
    pages = mapping.pages
    first = max(vma.pgoff, index & -FILE_AROUND_PAGES)
    last = min(
        vma.pgoff + ((vma.end - vma.start) >> 12),
        (index & -FILE_AROUND_PAGES) + FILE_AROUND_PAGES,
        (mapping.host.size + 4095) >> 12,
    )
    frames = mm.frames
    at = first
    while at < last:
        pfn = pages.get(at)
        if pfn is None:
            at += 1
            continue
        count = 1
        while at + count < last and pages.get(at + count) == pfn + count:
            count += 1
        addr = vma.start + ((at - vma.pgoff) << 12)
        made = lib.uvm_pte_map_run(frames.pm, mm.pgd, addr, count, pfn, bits, 0)
        if made < 0:
            raise Errno.ENOMEM
        at += count
