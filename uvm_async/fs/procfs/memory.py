"""procfs: /proc/PID/maps, smaps, cmdline, environ, auxv: what is in a task's memory.

Linux: fs/proc/task_mmu.c, fs/proc/base.c.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from uvm_async._host import lib
from uvm_async.errors import Errno
from uvm_async.fs.dcache import d_path
from uvm_async.fs.procfs.node import mm_of

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task
    from uvm_async.mm.mm import Mm
    from uvm_async.mm.vma import Vma

__all__ = [
    "show_auxv",
    "show_cmdline",
    "show_environ",
    "show_maps",
    "show_smaps",
    "show_smaps_rollup",
]

NAME_COLUMN: Final = 73
CHUNK_BYTES: Final = 65536
LIMIT_BYTES: Final = 4 << 20


def _line(task: Task, vma: Vma) -> bytes:
    letters = b"".join(
        letter if vma.prot & bit else b"-" for bit, letter in ((1, b"r"), (2, b"w"), (4, b"x"))
    )
    letters += b"s" if vma.shared else b"p"
    dev = ino = offset = 0
    name = vma.name
    if vma.file is not None and vma.file.path is not None:
        inode = vma.file.inode
        dev, ino, offset = inode.sb.dev, inode.ino, vma.pgoff << 12
        name = name or d_path(task.fs.root, vma.file.path).replace(b"\n", b"\\012")
    line = b"%08x-%08x %s %08x %02x:%02x %d " % (
        vma.start,
        vma.end,
        letters,
        offset,
        os.major(dev),
        os.minor(dev),
        ino,
    )
    return (line.ljust(NAME_COLUMN) + name if name else line) + b"\n"


def show_maps(task: Task) -> bytes:
    """proc_pid_maps(5)."""
    mm = mm_of(task)
    return b"".join(_line(task, vma) for vma in mm.vmas) if mm is not None else b""


def _figures(mm: Mm, vmas: list[Vma]) -> bytes:
    """The lines of smaps, of these areas together."""
    size = sum(vma.end - vma.start for vma in vmas) >> 10
    resident = clean = anonymous = 0
    for vma in vmas:
        kib = 4 * lib.uvm_pte_count(mm.frames.pm, mm.pgd, vma.start, vma.end)
        resident += kib
        if vma.mapping is not None and not vma.prot & 2:
            clean += kib
        else:
            anonymous += kib
    figures = (
        (b"Size", size),
        (b"KernelPageSize", 4),
        (b"MMUPageSize", 4),
        (b"Rss", resident),
        (b"Pss", resident),
        (b"Pss_Dirty", anonymous),
        (b"Shared_Clean", 0),
        (b"Shared_Dirty", 0),
        (b"Private_Clean", clean),
        (b"Private_Dirty", anonymous),
        (b"Referenced", resident),
        (b"Anonymous", anonymous),
        (b"LazyFree", 0),
        (b"AnonHugePages", 0),
        (b"Swap", 0),
        (b"SwapPss", 0),
        (b"Locked", 0),
    )
    return b"".join(b"%-16s%8d kB\n" % (name + b":", value) for name, value in figures)


def show_smaps(task: Task) -> bytes:
    """proc_pid_smaps(5); what is shared with other processes is counted as its own."""
    mm = mm_of(task)
    if mm is None:
        return b""
    parts: list[bytes] = []
    for vma in mm.vmas:
        flags = b"".join(
            text for bit, text in ((1, b"rd "), (2, b"wr "), (4, b"ex ")) if vma.prot & bit
        )
        parts += [_line(task, vma), _figures(mm, [vma]), b"VmFlags: %s\n" % flags]
    return b"".join(parts)


def show_smaps_rollup(task: Task) -> bytes:
    """The sum of smaps."""
    mm = mm_of(task)
    if mm is None or not mm.vmas:
        raise Errno.ESRCH
    head = b"%08x-%08x ---p 00000000 00:00 0 " % (mm.vmas[0].start, mm.vmas[-1].end)
    return head.ljust(NAME_COLUMN) + b"[rollup]\n" + _figures(mm, mm.vmas)


async def _read(mm: Mm, start: int, end: int) -> bytes:
    """Memory from `start` to `end`, as far as it is there."""
    parts: list[bytes] = []
    end = min(end, start + LIMIT_BYTES)
    while start < end:
        step = min(CHUNK_BYTES, end - start)
        try:
            parts.append(await mm.copy_from_user(start, step))
        except Errno.EFAULT:
            break
        start += step
    return b"".join(parts)


async def show_cmdline(task: Task) -> bytes:
    """proc_pid_cmdline(5): what stands where the arguments were; if the last NUL was overwritten,
    a string that may reach into the environment (setproctitle)."""
    mm = mm_of(task)
    if mm is None or mm.arg_start >= mm.arg_end:
        return b""
    data = await _read(mm, mm.arg_start, mm.arg_end)
    if not data or data.endswith(b"\0"):
        return data
    if mm.env_start == mm.arg_end:
        data += await _read(mm, mm.env_start, mm.env_end)
    return data.split(b"\0", 1)[0]


async def show_environ(task: Task) -> bytes:
    """proc_pid_environ(5)."""
    mm = mm_of(task)
    return await _read(mm, mm.env_start, mm.env_end) if mm is not None else b""


def show_auxv(task: Task) -> bytes:
    """proc_pid_auxv(5)."""
    mm = mm_of(task)
    return mm.auxv if mm is not None else b""
