"""The address space of a process: its areas, its page tables, and access to its memory.

Linux: struct mm_struct, mm/mmap.c, lib/usercopy.c.

Invariants:
- `vmas` is sorted and disjoint; outside it the page tables hold no entry;
- every change that takes a right away owes a shootdown (mm/shootdown.py) before
  the call that made it returns;
- `def` methods are atomic; those that may have to read a page in are `async`.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from uvm_async._host import ffi, lib
from uvm_async.arch.physmem import TASK_SIZE
from uvm_async.errors import Errno
from uvm_async.mm.fault import MemoryFault, handle_mm_fault
from uvm_async.mm.frames import SCRATCH_BYTES
from uvm_async.mm.vma import MAP_GROWSDOWN, VM_DONTCOPY, VM_LOCKED, VM_WIPEONFORK, Vma
from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.fs.inode import File
    from uvm_async.kernel.task import Task
    from uvm_async.mm.frames import Frames
    from uvm_async.mm.shootdown import Shootdowns

__all__ = ["MMAP_MIN_ADDR", "Mm", "page_align"]

MMAP_MIN_ADDR: int = lib.UVM_MMAP_MIN_ADDR
MMAP_BASE = TASK_SIZE - (1 << 36)
"""Mappings grow down from here."""
STACK_TOP = TASK_SIZE - (1 << 32)
PATH_MAX = 4096
EAGER_PAGES = 64
"""So many dirty private pages are copied at a fork itself: both sides mostly write to them at
once (stack, thread area, heap), and a copy costs less than two faults."""


def page_align(value: int) -> int:
    """Up to a whole number of pages."""
    return (value + 4095) & ~4095


class Mm(Entity):
    """One address space, shared by the tasks in `tasks`."""

    def __init__(self, frames: Frames, tlb: Shootdowns) -> None:
        self.frames = frames
        self.tlb = tlb
        self.pgd: int = lib.uvm_pgd_new(frames.pm)
        """Frame number of the top table."""
        if not self.pgd:
            raise Errno.ENOMEM
        self.vmas: list[Vma] = []
        self.starts: list[int] = []
        """vma.start of each, for bisect."""
        self.tasks: list[Task] = []
        self.users = 0
        self.start_brk = self.brk = 0
        self.start_code = self.end_code = 0
        self.start_data = self.end_data = 0
        self.start_stack = 0
        self.arg_start = self.arg_end = self.env_start = self.env_end = 0
        self.auxv = b""
        self.exe_file: File | None = None
        self.mmap_base = MMAP_BASE
        self.stack_limit_bytes = 8 << 20
        self.as_limit_bytes = (1 << 64) - 1
        self.data_limit_bytes = (1 << 64) - 1

    # -- areas

    def find(self, addr: int) -> Vma | None:
        """The area that holds `addr`."""
        at = bisect_right(self.starts, addr) - 1
        if at >= 0:
            vma = self.vmas[at]
            if addr < vma.end:
                return vma
        return None

    def overlapping(self, start: int, end: int) -> list[Vma]:
        """Areas that meet [start, end), in order."""
        at = max(0, bisect_right(self.starts, start) - 1)
        found = []
        for vma in self.vmas[at:]:
            if vma.start >= end:
                break
            if vma.end > start:
                found.append(vma)
        return found

    def insert(self, vma: Vma) -> Vma:
        """Add an area where none is; merges with its neighbours where they are alike."""
        at = bisect_right(self.starts, vma.start)
        self.vmas.insert(at, vma)
        self.starts.insert(at, vma.start)
        if vma.mapping is not None:
            vma.mapping.vmas[vma] = None
        return self._merge(at)

    def _merge(self, at: int) -> Vma:
        vma = self.vmas[at]
        if at + 1 < len(self.vmas) and _alike(vma, self.vmas[at + 1]):
            following = self.vmas[at + 1]
            vma.end = following.end
            self._forget(at + 1, following)
        if at > 0 and _alike(self.vmas[at - 1], vma):
            before = self.vmas[at - 1]
            before.end = vma.end
            self._forget(at, vma)
            return before
        return vma

    def _forget(self, at: int, vma: Vma) -> None:
        del self.vmas[at]
        del self.starts[at]
        if vma.mapping is not None:
            vma.mapping.vmas.pop(vma, None)
        if vma.file is not None:
            vma.file.refs -= 1  # merged: its neighbour holds one on the same file

    def split(self, addr: int) -> None:
        """No area shall straddle `addr`."""
        vma = self.find(addr)
        if vma is None or vma.start == addr:
            return
        at = bisect_right(self.starts, addr) - 1
        pgoff = vma.pgoff + ((addr - vma.start) >> 12)
        if vma.file is not None:
            vma.file.refs += 1
        upper = Vma(
            self, addr, vma.end, vma.prot, vma.flags,
            file=vma.file, mapping=vma.mapping, pgoff=pgoff, max_prot=vma.max_prot, name=vma.name,
        )  # fmt: skip
        vma.end = addr
        self.vmas.insert(at + 1, upper)
        self.starts.insert(at + 1, addr)
        if upper.mapping is not None:
            upper.mapping.vmas[upper] = None

    def remove(self, vma: Vma) -> None:
        """Take an area off the list (its entries must be gone); its file is the caller's to put."""
        at = bisect_right(self.starts, vma.start) - 1
        assert self.vmas[at] is vma
        del self.vmas[at]
        del self.starts[at]
        if vma.mapping is not None:
            vma.mapping.vmas.pop(vma, None)

    def move_start(self, vma: Vma, start: int) -> None:
        """The area begins elsewhere now (stack growth)."""
        at = self.vmas.index(vma)
        vma.pgoff -= (vma.start - start) >> 12
        vma.start = start
        self.starts[at] = start

    def unmapped_area(self, length: int) -> int:
        """Address of a gap of `length` bytes, highest first. Raises ENOMEM."""
        top = self.mmap_base
        for vma in reversed(self.vmas):
            if vma.start >= top:
                continue
            if vma.end <= top - length:
                break
            top = min(top, vma.start)
        if top - length < MMAP_MIN_ADDR:
            raise Errno.ENOMEM
        return top - length

    # -- page tables

    def zap(self, start: int, end: int, current: Task | None) -> None:
        """Clear the entries of [start, end); shootdown owed, frames to limbo or free."""
        frames = self.frames
        pfns: list[int] = []
        cleared = 0
        position = start
        while position < end:
            count = lib.uvm_pte_zap(
                frames.pm, self.pgd, position, end, frames.pfns, 4096, frames.word, frames.word + 1
            )
            position = frames.word[0]
            cleared += frames.word[1]
            if count:
                pfns += ffi.unpack(frames.pfns, count)
        if cleared:
            self.tlb.owe(self, current, [(start, end - start)])
        self.tlb.release(pfns)

    def pte(self, addr: int) -> int:
        """The leaf entry for `addr`, 0 if there is none."""
        return int(lib.uvm_pte_get(self.frames.pm, self.pgd, addr))

    def set_pte(self, addr: int, pte: int) -> None:
        """Replace a leaf entry. Raises ENOMEM."""
        if lib.uvm_pte_set(self.frames.pm, self.pgd, addr, pte):
            raise Errno.ENOMEM

    def rss_pages(self) -> int:
        """Pages present."""
        return int(lib.uvm_pte_count(self.frames.pm, self.pgd, 0, TASK_SIZE))

    @property
    def total_vm_pages(self) -> int:
        """Pages of all areas."""
        return sum(v.end - v.start for v in self.vmas) >> 12

    async def unmap_file_pages(self, vma: Vma, first: int = 0) -> None:
        """Take the mapping's own pages from page `first` on out of this area's entries (truncate,
        reclaim); copies made by copy-on-write go too where the file has ended."""
        start = max(vma.start, vma.start + ((first - vma.pgoff) << 12))
        if start >= vma.end:
            return
        if vma.shared or first:
            self.zap(start, vma.end, None)
        else:
            for addr in range(start, vma.end, 4096):
                if self.pte(addr) & lib.UVM_PTE_CACHE:
                    self.zap(addr, addr + 4096, None)
        await self.tlb.sync()

    async def write_protect_file(self, vma: Vma, first: int, count: int) -> None:
        """Clear D of the area's entries for pages [first, first + count): the next write faults."""
        if not vma.shared:
            return
        start = max(vma.start, vma.start + ((first - vma.pgoff) << 12))
        end = min(vma.end, vma.start + ((first + count - vma.pgoff) << 12))
        changed = False
        for addr in range(start, end, 4096):
            pte = self.pte(addr)
            if pte & lib.UVM_PTE_D:
                self.set_pte(addr, pte & ~lib.UVM_PTE_D)
                changed = True
        if changed:
            self.tlb.owe(self, None, [(start, end - start)])
            await self.tlb.sync()

    async def fork(self, current: Task) -> Mm:
        """A copy of this address space: writable private pages become copy-on-write in both."""
        child = Mm(self.frames, self.tlb)
        for name, value in self.__dict__.items():
            if name not in ("pgd", "vmas", "starts", "tasks", "users", "frames", "tlb"):
                setattr(child, name, value)
        if child.exe_file is not None:
            child.exe_file.refs += 1
            child.exe_file.inode.writers -= 1
        shrunk: list[tuple[int, int]] = []
        # With siblings that may be writing right now, nothing is copied under their hands.
        eager = ffi.new("uint32_t *", EAGER_PAGES if len(self.tasks) == 1 else 0)
        shrank = ffi.new("uint32_t *")
        try:
            for vma in self.vmas:
                if vma.flags & VM_DONTCOPY:
                    continue
                if vma.file is not None:
                    vma.file.refs += 1
                copy = Vma(
                    child, vma.start, vma.end, vma.prot, vma.flags, file=vma.file,
                    mapping=vma.mapping, pgoff=vma.pgoff, max_prot=vma.max_prot, name=vma.name,
                )  # fmt: skip
                child.vmas.append(copy)
                child.starts.append(copy.start)
                if copy.mapping is not None:
                    copy.mapping.vmas[copy] = None
                copy.flags &= ~VM_LOCKED
                if vma.flags & VM_WIPEONFORK:
                    continue
                private = not vma.shared
                shrank[0] = 0
                done = lib.uvm_pte_copy(
                    self.frames.pm, child.pgd, self.pgd, vma.start, vma.end, private, eager, shrank
                )
                if shrank[0]:
                    shrunk.append((vma.start, vma.end - vma.start))
                if done < 0:
                    raise Errno.ENOMEM
        except Errno:
            self.tlb.owe(self, current, shrunk)
            await child.destroy()
            raise
        self.tlb.owe(self, current, _joined(shrunk))
        await self.tlb.sync()
        return child

    async def put(self, task: Task) -> None:
        """`task` leaves; the last one takes the address space down."""
        self.tasks.remove(task)
        self.users -= 1
        if self.users == 0:
            await self.destroy()

    async def destroy(self) -> None:
        """Unmap everything and free the page tables."""
        self.zap(0, TASK_SIZE, None)
        vmas, self.vmas, self.starts = self.vmas, [], []
        for vma in vmas:
            if vma.mapping is not None:
                vma.mapping.vmas.pop(vma, None)
        await self.tlb.sync()
        lib.uvm_pgd_free(self.frames.pm, self.pgd)
        self.pgd = 0
        for vma in vmas:
            if vma.file is not None:
                await vma.file.put()
        if self.exe_file is not None:
            exe, self.exe_file = self.exe_file, None
            exe.inode.writers += 1
            await exe.put()

    # -- access to guest memory

    async def fault_in(self, addr: int, length: int, *, write: bool) -> int:
        """Make [addr, addr + length) accessible to the kernel; answers how many bytes are."""
        end = addr + length
        position = addr
        while position < end:
            if not 0 <= position < TASK_SIZE:
                break
            if not lib.uvm_user_phys(self.frames.pm, self.pgd, position, write):
                try:
                    await handle_mm_fault(self, position, write=write)
                except MemoryFault:
                    break
                except Errno.ENOMEM:
                    break
            position = (position & ~4095) + 4096
        return min(position, end) - addr if position > addr else 0

    def copy_to_user_atomic(self, addr: int, data: bytes | memoryview) -> int:
        """Store as much of `data` as is mapped writable; answers bytes stored."""
        if not 0 <= addr < TASK_SIZE:
            return 0
        frames = self.frames
        return int(
            lib.uvm_copy_to_user(frames.pm, self.pgd, addr, ffi.from_buffer(data), len(data))
        )

    def copy_from_user_atomic(self, addr: int, length: int) -> bytes:
        """Fetch as much as is mapped (at most 64 KiB)."""
        if not 0 <= addr < TASK_SIZE:
            return b""
        frames = self.frames
        length = min(length, SCRATCH_BYTES)
        count = lib.uvm_copy_from_user(frames.pm, self.pgd, frames.scratch, addr, length)
        data: bytes = frames.scratch_view[:count]
        return data

    def peek(self, addr: int, length: int) -> bytes:
        """As `copy_from_user_atomic`, for what the kernel wants to know for itself: not an access
        of any task's."""
        if not 0 <= addr < TASK_SIZE:
            return b""
        frames = self.frames
        length = min(length, SCRATCH_BYTES)
        count = lib.uvm_peek_user(frames.pm, self.pgd, frames.scratch, addr, length)
        data: bytes = frames.scratch_view[:count]
        return data

    def poke(self, addr: int, data: bytes) -> int:
        """As `copy_to_user_atomic`, with the same difference."""
        if not 0 <= addr < TASK_SIZE:
            return 0
        return int(lib.uvm_poke_user(self.frames.pm, self.pgd, addr, data, len(data)))

    async def copy_to_user(self, addr: int, data: bytes) -> None:
        """Store all of `data`. Raises EFAULT (what was mapped before the fault is stored)."""
        if not 0 <= addr < TASK_SIZE:  # a sum of the guest's numbers need not fit 64 bits
            raise Errno.EFAULT
        frames = self.frames
        size = len(data)
        done = lib.uvm_copy_to_user(frames.pm, self.pgd, addr, data, size)
        while done < size:
            if not await self.fault_in(addr + done, 1, write=True):
                raise Errno.EFAULT
            done += self.copy_to_user_atomic(addr + done, memoryview(data)[done:])

    async def copy_from_user(self, addr: int, length: int) -> bytes:
        """Fetch `length` bytes. Raises EFAULT."""
        data = self.copy_from_user_atomic(addr, length)
        while len(data) < length:
            if not await self.fault_in(addr + len(data), 1, write=False):
                raise Errno.EFAULT
            data += self.copy_from_user_atomic(addr + len(data), length - len(data))
        return data

    async def clear_user(self, addr: int, length: int) -> None:
        """Store zeros. Raises EFAULT."""
        if not 0 <= addr < TASK_SIZE:
            raise Errno.EFAULT
        done = 0
        while done < length:
            step = lib.uvm_clear_user(self.frames.pm, self.pgd, addr + done, length - done)
            done += step
            if done < length and not await self.fault_in(addr + done, 1, write=True):
                raise Errno.EFAULT

    async def strndup_user(self, addr: int, limit: int) -> bytes:
        """The NUL-terminated string at `addr`, without the NUL. Raises EFAULT; ENAMETOOLONG if no
        NUL stands in the first `limit` bytes."""
        frames = self.frames
        data = b""
        if not 0 <= addr < TASK_SIZE:
            raise Errno.EFAULT
        while True:
            room = min(limit - len(data), SCRATCH_BYTES)
            if room <= 0:
                raise Errno.ENAMETOOLONG
            count = lib.uvm_strncpy_from_user(
                frames.pm, self.pgd, frames.scratch, addr + len(data), room, frames.found
            )
            if frames.found[0]:
                last: bytes = frames.scratch_view[: count - 1]
                return data + last
            data += frames.scratch_view[:count]
            if count < room and not await self.fault_in(addr + len(data), 1, write=False):
                raise Errno.EFAULT

    async def get_path(self, addr: int) -> bytes:
        """A path argument (Linux: getname). Raises EFAULT, ENAMETOOLONG."""
        return await self.strndup_user(addr, PATH_MAX)

    async def get_u64(self, addr: int) -> int:
        """One 64-bit word. Raises EFAULT."""
        return int.from_bytes(await self.copy_from_user(addr, 8), "little")

    async def get_u32(self, addr: int) -> int:
        """One 32-bit word. Raises EFAULT."""
        return int.from_bytes(await self.copy_from_user(addr, 4), "little")


def _alike(a: Vma, b: Vma) -> bool:
    """May b, which follows a in the list, be one area with it?"""
    if a.end != b.start or a.prot != b.prot or a.flags != b.flags or a.mapping is not b.mapping:
        return False
    if a.file is not b.file or a.name != b.name or a.max_prot != b.max_prot:
        return False
    if a.flags & MAP_GROWSDOWN:
        return False
    return a.mapping is None or a.pgoff + ((a.end - a.start) >> 12) == b.pgoff


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Neighbouring ranges as one."""
    joined: list[tuple[int, int]] = []
    for addr, length in ranges:
        if joined and sum(joined[-1]) == addr:
            joined[-1] = (joined[-1][0], joined[-1][1] + length)
        else:
            joined.append((addr, length))
    return joined
