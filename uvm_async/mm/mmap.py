"""Changing an address space: map, unmap, protect, move, brk.

Linux: mm/mmap.c, mm/mprotect.c, mm/mremap.c, mm/madvise.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvm_async._host import lib
from uvm_async.arch.physmem import TASK_SIZE
from uvm_async.errors import Errno
from uvm_async.mm.mm import MMAP_MIN_ADDR, Mm, page_align
from uvm_async.mm.vma import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    MAP_TYPE,
    Vma,
)

if TYPE_CHECKING:
    from uvm_async.fs.inode import File
    from uvm_async.kernel.task import Task
    from uvm_async.mm.filemap import AddressSpace

__all__ = ["do_brk", "do_mmap", "do_munmap", "madvise_dontneed", "mprotect", "mremap"]

MAX_MAP_COUNT = 65530
PROT_GROWSDOWN = 0x01000000
PROT_GROWSUP = 0x02000000
MREMAP_MAYMOVE = 1
MREMAP_FIXED = 2
MREMAP_DONTUNMAP = 4


def _check_room(mm: Mm, length: int, *, private_writable: bool) -> None:
    if len(mm.vmas) >= MAX_MAP_COUNT:
        raise Errno.ENOMEM
    if (mm.total_vm_pages << 12) + length > mm.as_limit_bytes:
        raise Errno.ENOMEM
    if private_writable and mm.data_limit_bytes < 1 << 62:
        data = sum(v.end - v.start for v in mm.vmas if v.prot & 2 and not v.shared)
        if data + length > mm.data_limit_bytes:
            raise Errno.ENOMEM
    # Heuristic overcommit: refuse what could never fit (man 5 proc, overcommit_memory 0).
    if private_writable and length >> 12 > mm.frames.total():
        raise Errno.ENOMEM


async def do_mmap(
    mm: Mm,
    addr: int,
    length: int,
    prot: int,
    flags: int,
    *,
    file: File | None = None,
    mapping: AddressSpace | None = None,
    pgoff: int = 0,
    max_prot: int = 7,
    current: Task | None = None,
    name: bytes = b"",
) -> int:
    """Map `length` bytes; answers the address. Takes over the caller's reference on `file` if it
    succeeds. Raises EINVAL, ENOMEM, EEXIST, EPERM. man 2 mmap."""
    if not length:
        raise Errno.EINVAL
    if length > TASK_SIZE:
        raise Errno.ENOMEM
    length = page_align(length)
    if flags & MAP_TYPE not in (MAP_SHARED, MAP_PRIVATE, MAP_SHARED_VALIDATE):
        raise Errno.EINVAL
    if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE):
        if addr & 4095:
            raise Errno.EINVAL
        if addr > TASK_SIZE - length:
            raise Errno.ENOMEM
        if addr < MMAP_MIN_ADDR:
            raise Errno.EPERM
        if flags & MAP_FIXED_NOREPLACE and mm.overlapping(addr, addr + length):
            raise Errno.EEXIST
        place: int | None = addr
    else:
        hint = page_align(addr)
        place = None
        if hint and MMAP_MIN_ADDR <= hint <= TASK_SIZE - length:
            place = None if mm.overlapping(hint, hint + length) else hint
    private = flags & MAP_TYPE == MAP_PRIVATE
    _check_room(mm, length, private_writable=private and bool(prot & 2) and not flags & 0x4000)
    if place is None:
        place = mm.unmapped_area(length)
    elif flags & MAP_FIXED:
        await do_munmap(mm, place, length, current)
    kept = (MAP_PRIVATE if private else MAP_SHARED) | (flags & MAP_GROWSDOWN)
    vma = Vma(
        mm, place, place + length, prot & 7, kept,
        file=file, mapping=mapping, pgoff=pgoff, max_prot=max_prot, name=name,
    )  # fmt: skip
    if mapping is None and flags & MAP_ANONYMOUS:
        vma.pgoff = 0
    mm.insert(vma)
    return place


async def do_munmap(mm: Mm, addr: int, length: int, current: Task | None) -> None:
    """Unmap a range; returns when no Tlb holds any of it. Raises EINVAL. man 2 munmap."""
    length = page_align(length)
    if addr & 4095 or not length or addr > TASK_SIZE or length > TASK_SIZE - addr:
        raise Errno.EINVAL
    end = addr + length
    touched = mm.overlapping(addr, end)
    if not touched:
        return
    mm.split(addr)
    mm.split(end)
    gone = mm.overlapping(addr, end)
    for vma in gone:
        mm.remove(vma)
    mm.zap(addr, end, current)
    await mm.tlb.sync()
    for vma in gone:
        if vma.file is not None:
            await vma.file.put()


async def mprotect(mm: Mm, addr: int, length: int, prot: int, current: Task) -> None:
    """Change permissions. Raises EINVAL, ENOMEM (a hole), EACCES. man 2 mprotect."""
    if addr & 4095:
        raise Errno.EINVAL
    if not length:
        return
    length = page_align(length)
    end = addr + length
    if end <= addr or end >= 1 << 64:
        raise Errno.ENOMEM
    if prot & ~(PROT_GROWSDOWN | PROT_GROWSUP | 0xF) or prot & PROT_GROWSUP:
        raise Errno.EINVAL
    if prot & PROT_GROWSDOWN:
        vma = mm.find(addr)
        if vma is None:
            raise Errno.ENOMEM
        if not vma.flags & MAP_GROWSDOWN:
            raise Errno.EINVAL
        length += addr - vma.start
        addr = vma.start
    prot &= 7
    position = addr
    failure: type[Errno] | None = None
    for vma in mm.overlapping(addr, end):
        if vma.start > position:
            failure = Errno.ENOMEM
            break
        if prot & ~vma.max_prot:
            failure = Errno.EACCES
            break
        position = vma.end
    else:
        if position < end:
            failure = Errno.ENOMEM
    stop = min(position, end)
    if stop > addr:
        mm.split(addr)
        mm.split(stop)
        for vma in mm.overlapping(addr, stop):
            vma.prot = prot
            lib.uvm_pte_protect(
                mm.frames.pm, mm.pgd, vma.start, vma.end, prot,
                1 if prot & 2 else 0, 1 if vma.shared else 0,
            )  # fmt: skip
        _merge_range(mm, addr, stop)
        if lib.uvm_pte_count(mm.frames.pm, mm.pgd, addr, stop):
            # Entries that gained a right are still mapped with the old one: dropping them all is
            # cheaper than faults that find nothing to do.
            mm.tlb.owe(mm, current, [(addr, stop - addr)])
            await mm.tlb.sync()
    if failure is not None:
        raise failure


def _merge_range(mm: Mm, start: int, end: int) -> None:
    """Merge areas in and next to [start, end) that have become alike."""
    for vma in mm.overlapping(max(0, start - 1), end + 1):
        if vma in mm.vmas:
            mm._merge(mm.vmas.index(vma))


async def mremap(
    mm: Mm, old: int, old_length: int, new_length: int, flags: int, new: int, current: Task
) -> int:
    """Resize or move a mapping; answers its address. Raises EINVAL, EFAULT, ENOMEM."""
    if flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP) or old & 4095:
        raise Errno.EINVAL
    if flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) and not flags & MREMAP_MAYMOVE:
        raise Errno.EINVAL
    old_length, new_length = page_align(old_length), page_align(new_length)
    if not new_length:
        raise Errno.EINVAL
    if flags & MREMAP_DONTUNMAP and old_length != new_length:
        raise Errno.EINVAL
    vma = mm.find(old)
    if vma is None:
        raise Errno.EFAULT
    if not old_length and not vma.shared:
        raise Errno.EINVAL
    if flags & MREMAP_FIXED:
        if new & 4095 or new > TASK_SIZE - new_length or new < MMAP_MIN_ADDR:
            raise Errno.EINVAL
        if old < new + new_length and new < old + old_length:
            raise Errno.EINVAL
        await do_munmap(mm, new, new_length, current)
    elif not flags & MREMAP_DONTUNMAP and old_length >= new_length:
        if old_length > new_length:
            await do_munmap(mm, old + new_length, old_length - new_length, current)
        return old
    if old_length > vma.end - old:
        raise Errno.EFAULT
    if old_length > new_length:
        await do_munmap(mm, old + new_length, old_length - new_length, current)
        old_length = new_length
    grow = new_length - old_length
    if grow:
        _check_room(mm, grow, private_writable=not vma.shared and bool(vma.prot & 2))
    fixed = flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)
    if not fixed and old + old_length == vma.end:
        end = old + new_length
        if end <= TASK_SIZE and not mm.overlapping(vma.end, end):
            vma.end = end
            mm._merge(mm.vmas.index(vma))
            return old
    if not flags & MREMAP_MAYMOVE:
        raise Errno.ENOMEM
    place = new if flags & MREMAP_FIXED else mm.unmapped_area(new_length)
    if vma.file is not None:
        vma.file.refs += 1
    pgoff = vma.pgoff + ((old - vma.start) >> 12) if vma.mapping is not None else 0
    moved = Vma(
        mm, place, place + new_length, vma.prot, vma.flags,
        file=vma.file, mapping=vma.mapping, pgoff=pgoff, max_prot=vma.max_prot, name=vma.name,
    )  # fmt: skip
    if old_length:
        count = lib.uvm_pte_move(mm.frames.pm, mm.pgd, old, place, old_length)
        if count < 0:
            raise Errno.ENOMEM
        mm.tlb.owe(mm, current, [(old, old_length)])
    mm.insert(moved)
    if old_length and not flags & MREMAP_DONTUNMAP:
        await do_munmap(mm, old, old_length, current)
    await mm.tlb.sync()
    return place


async def madvise_dontneed(mm: Mm, start: int, end: int, current: Task) -> None:
    """Forget the contents of private pages; file pages come back from the file."""
    mm.zap(start, end, current)
    await mm.tlb.sync()


async def do_brk(mm: Mm, addr: int, current: Task) -> int:
    """Move the end of the heap; answers where it is. man 2 brk."""
    if addr < mm.start_brk:
        return mm.brk
    old_end, new_end = page_align(mm.brk), page_align(addr)
    if new_end < old_end:
        await do_munmap(mm, new_end, old_end - new_end, current)
    elif new_end > old_end:
        if new_end > TASK_SIZE or mm.overlapping(old_end, new_end + 4096):
            return mm.brk
        try:
            _check_room(mm, new_end - old_end, private_writable=True)
        except Errno.ENOMEM:
            return mm.brk
        mm.insert(Vma(mm, old_end, new_end, 3, MAP_PRIVATE, name=b"[heap]"))
    mm.brk = addr
    return addr
