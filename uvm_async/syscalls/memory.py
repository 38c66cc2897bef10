"""Memory: man 2 mmap, munmap, mprotect, mremap, brk, madvise, msync, mincore, mlock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uvm_async._host import lib
from uvm_async.arch.physmem import TASK_SIZE
from uvm_async.errors import Errno
from uvm_async.fs.memfd import create_shmem_file
from uvm_async.mm import mmap as mm_ops
from uvm_async.mm.filemap import filemap_fsync
from uvm_async.mm.mm import page_align
from uvm_async.mm.vma import (
    MAP_ANONYMOUS,
    MAP_GROWSDOWN,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    MAP_TYPE,
    PROT_EXEC,
    PROT_WRITE,
    VM_DONTCOPY,
    VM_LOCKED,
    VM_WIPEONFORK,
)
from uvm_async.syscalls.table import Addr, Fd, Flags, Int, Size, ULong, syscall

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task
    from uvm_async.mm.mm import Mm

KNOWN_FLAGS: Final = 0x7FF33  # LEGACY_MAP_MASK of <linux/mman.h>
USER_LIMIT: Final = (1 << 47) - 4096
MS_ASYNC, MS_INVALIDATE, MS_SYNC = 1, 2, 4
MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED = range(5)
MADV_FREE, MADV_REMOVE, MADV_DONTFORK, MADV_DOFORK = 8, 9, 10, 11
MADV_WIPEONFORK, MADV_KEEPONFORK = 18, 19
MADV_POPULATE_READ, MADV_POPULATE_WRITE = 22, 23
MADV_ACCEPTED: Final = (12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23)


@syscall("mmap")
async def sys_mmap(
    task: Task, addr: Addr, length: Size, prot: Flags, flags: Flags, fd: Fd, offset: ULong
) -> int:
    """Map files or anonymous memory. man 2 mmap."""
    mm = task.mm
    if offset & 4095:
        raise Errno.EINVAL
    if page_align(length) >= 1 << 64:
        raise Errno.ENOMEM
    if (offset >> 12) + (page_align(length) >> 12) >= 1 << 52 and length:
        raise Errno.EOVERFLOW
    kind = flags & MAP_TYPE
    file = None
    mapping = None
    max_prot = 7
    if not flags & MAP_ANONYMOUS:
        file = task.files.get(fd)
        if not length:
            raise Errno.EINVAL
        if kind not in (MAP_SHARED, MAP_PRIVATE, MAP_SHARED_VALIDATE):
            raise Errno.EINVAL
        if kind == MAP_SHARED_VALIDATE and flags & ~KNOWN_FLAGS:
            raise Errno.EOPNOTSUPP
        if not file.readable:
            raise Errno.EACCES
        if kind != MAP_PRIVATE and not file.writable:
            if prot & PROT_WRITE:
                raise Errno.EACCES
            max_prot &= ~PROT_WRITE
        if file.path is not None and file.path.mount.flags & 8:  # MS_NOEXEC
            if prot & PROT_EXEC:
                raise Errno.EPERM
            max_prot &= ~PROT_EXEC
        mapping = file.mapping
        if mapping is None:
            raise Errno.ENODEV
        if flags & MAP_GROWSDOWN:
            raise Errno.EINVAL
        file.refs += 1
    elif kind in (MAP_SHARED, MAP_SHARED_VALIDATE) and length:
        file = create_shmem_file(task.kernel, b"dev/zero", page_align(length))
        mapping = file.mapping
        offset = 0
    try:
        place = await mm_ops.do_mmap(
            mm, addr, length, prot, flags,
            file=file, mapping=mapping, pgoff=offset >> 12, max_prot=max_prot, current=task,
        )  # fmt: skip
    except BaseException:
        if file is not None:
            await file.put()
        raise
    if flags & MAP_POPULATE:
        await mm.fault_in(place, length, write=bool(prot & PROT_WRITE))
    return place


@syscall("munmap")
async def sys_munmap(task: Task, addr: Addr, length: Size) -> int:
    """man 2 munmap."""
    await mm_ops.do_munmap(task.mm, addr, length, task)
    return 0


@syscall("mprotect")
async def sys_mprotect(task: Task, addr: Addr, length: Size, prot: Flags) -> int:
    """man 2 mprotect."""
    await mm_ops.mprotect(task.mm, addr, length, prot, task)
    return 0


@syscall("pkey_mprotect")
async def sys_pkey_mprotect(task: Task, addr: Addr, length: Size, prot: Flags, pkey: Int) -> int:
    """As mprotect; there are no keys but none. man 2 pkey_mprotect."""
    if pkey != -1:
        raise Errno.EINVAL
    await mm_ops.mprotect(task.mm, addr, length, prot, task)
    return 0


@syscall("mremap")
async def sys_mremap(
    task: Task, old: Addr, old_length: Size, new_length: Size, flags: Flags, new: Addr
) -> int:
    """man 2 mremap."""
    return await mm_ops.mremap(task.mm, old, old_length, new_length, flags, new, task)


@syscall("brk")
async def sys_brk(task: Task, addr: Addr) -> int:
    """man 2 brk; answers the new end of the heap, or the old one where it cannot."""
    return await mm_ops.do_brk(task.mm, addr, task)


def _range(addr: int, length: int) -> int:
    """The end of a page range. Raises EINVAL."""
    end = addr + page_align(length)
    if addr & 4095 or end > 1 << 64 or (length and not page_align(length) & ((1 << 64) - 1)):
        raise Errno.EINVAL
    return end


FORK_SET: Final = {
    MADV_DONTFORK: VM_DONTCOPY, MADV_DOFORK: 0, MADV_WIPEONFORK: VM_WIPEONFORK, MADV_KEEPONFORK: 0
}  # fmt: skip
FORK_CLEARED: Final = {
    MADV_DONTFORK: 0, MADV_DOFORK: VM_DONTCOPY, MADV_WIPEONFORK: 0, MADV_KEEPONFORK: VM_WIPEONFORK
}  # fmt: skip


@syscall("madvise", missing="advice other than DONTNEED, FREE and REMOVE changes nothing")
async def sys_madvise(task: Task, addr: Addr, length: Size, advice: Int) -> int:
    """Advice about use of memory. man 2 madvise."""
    known = advice in range(5) or advice in (8, 9, 10, 11) or advice in MADV_ACCEPTED
    if not known:
        raise Errno.EINVAL
    end = _range(addr, length)
    if end == addr:
        return 0
    mm = task.mm
    position = addr
    hole = False
    for vma in mm.overlapping(addr, end):
        if vma.start > position:
            hole = True
        position = vma.end
        start, stop = max(vma.start, addr), min(vma.end, end)
        if advice == MADV_DONTNEED or (advice == MADV_FREE and vma.mapping is None):
            await mm_ops.madvise_dontneed(mm, start, stop, task)
        elif advice == MADV_FREE or (advice == MADV_REMOVE and not vma.shared):
            raise Errno.EINVAL
        elif advice in (MADV_DONTFORK, MADV_DOFORK, MADV_WIPEONFORK, MADV_KEEPONFORK):
            if advice == MADV_WIPEONFORK and vma.mapping is not None:
                raise Errno.EINVAL
            mm.split(start)
            mm.split(stop)
            for part in mm.overlapping(start, stop):
                part.flags = part.flags & ~FORK_CLEARED[advice] | FORK_SET[advice]
        elif advice in (MADV_POPULATE_READ, MADV_POPULATE_WRITE):
            write = advice == MADV_POPULATE_WRITE
            if await mm.fault_in(start, stop - start, write=write) < stop - start:
                raise Errno.EFAULT if vma.prot & (2 if write else 1) else Errno.EINVAL
    if hole or position < end:
        raise Errno.ENOMEM
    return 0


@syscall("msync")
async def sys_msync(task: Task, addr: Addr, length: Size, flags: Flags) -> int:
    """Write shared file pages back. man 2 msync."""
    if flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC) or (flags & MS_ASYNC and flags & MS_SYNC):
        raise Errno.EINVAL
    end = _range(addr, length)
    mm = task.mm
    position = addr
    hole = False
    for vma in mm.overlapping(addr, end):
        if vma.start > position:
            hole = True
        position = vma.end
        if flags & MS_INVALIDATE and vma.flags & VM_LOCKED:
            raise Errno.EBUSY
        if flags & MS_SYNC and vma.shared and vma.file is not None and vma.mapping is not None:
            file = vma.file
            await filemap_fsync(vma.mapping)
            await file.fsync()
    if hole or position < end:
        raise Errno.ENOMEM
    return 0


@syscall("mincore")
async def sys_mincore(task: Task, addr: Addr, length: Size, vec: Addr) -> int:
    """Which pages are resident. man 2 mincore."""
    if addr & 4095:
        raise Errno.EINVAL
    end = addr + page_align(length)
    if end > TASK_SIZE:
        raise Errno.ENOMEM
    if vec + (length + 4095 >> 12) > USER_LIMIT:
        raise Errno.EFAULT
    mm = task.mm
    position = addr
    out = bytearray()
    for vma in mm.overlapping(addr, end):
        if vma.start > position:
            raise Errno.ENOMEM
        for page in range(max(vma.start, addr), min(vma.end, end), 4096):
            resident = bool(mm.pte(page) & lib.UVM_PTE_P)
            if not resident and vma.mapping is not None:
                resident = vma.pgoff + ((page - vma.start) >> 12) in vma.mapping.pages
            out.append(int(resident))
        position = vma.end
    if position < end:
        raise Errno.ENOMEM
    await mm.copy_to_user(vec, bytes(out))
    return 0


async def _mlock(task: Task, addr: int, length: int) -> int:
    start = addr & ~4095
    end = page_align(addr + length)
    if end >= 1 << 64:
        raise Errno.EINVAL
    mm = task.mm
    position = start
    for vma in mm.overlapping(start, end):
        if vma.start > position:
            raise Errno.ENOMEM
        position = vma.end
    if position < end:
        raise Errno.ENOMEM
    _set_locked(mm, start, end, True)
    await mm.fault_in(start, end - start, write=False)
    return 0


def _set_locked(mm: Mm, start: int, end: int, locked: bool) -> None:
    mm.split(start)
    mm.split(end)
    for vma in mm.overlapping(start, end):
        vma.flags = vma.flags | VM_LOCKED if locked else vma.flags & ~VM_LOCKED


@syscall("mlock")
async def sys_mlock(task: Task, addr: Addr, length: Size) -> int:
    """Fault in; guest memory is never swapped. man 2 mlock."""
    return await _mlock(task, addr, length)


@syscall("mlock2")
async def sys_mlock2(task: Task, addr: Addr, length: Size, flags: Flags) -> int:
    """man 2 mlock2."""
    if flags & ~1:
        raise Errno.EINVAL
    return await _mlock(task, addr, length)


@syscall("munlock")
def sys_munlock(task: Task, addr: Addr, length: Size) -> int:
    """man 2 munlock."""
    _set_locked(task.mm, addr & ~4095, page_align(addr + length), False)
    return 0


@syscall("mlockall")
def sys_mlockall(task: Task, flags: Flags) -> int:
    """man 2 mlockall."""
    if not flags or flags & ~7:
        raise Errno.EINVAL
    return 0


@syscall("munlockall")
def sys_munlockall(task: Task) -> int:
    """man 2 munlockall."""
    return 0


@syscall("membarrier", missing="every command is a full barrier of all tasks")
async def sys_membarrier(task: Task, cmd: Int, flags: Flags, cpu: Int) -> int:
    """man 2 membarrier."""
    if flags:
        raise Errno.EINVAL
    if cmd == 0:
        return 0x1F
    if cmd & 0x1F != cmd or cmd & (cmd - 1):
        raise Errno.EINVAL
    # A shootdown of nothing: every running sibling passes through its shim.
    task.kernel.tlb.owe(task.mm, task, [(lib.UVM_MMAP_MIN_ADDR, 4096)])
    await task.kernel.tlb.sync()
    return 0
