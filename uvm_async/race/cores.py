"""A core of a controlled machine's process, as it stands at the failing step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uvm_async.arch import registers as r
from uvm_async.arch.physmem import PAGE_SIZE
from uvm_async.arch.regs import fp_state
from uvm_async.arch.stub import FAULT_ADDR, FS_BASE, GS_BASE
from uvm_async.race.core_file import CoreThread, MappedFile, Memory, write_core
from uvm_async.race.engine import mappings_of

if TYPE_CHECKING:
    from uvm_async.kernel.task import Process, Task
    from uvm_async.race.engine import Engine

__all__ = ["dump"]

ORDER: Final = (
    r.R15, r.R14, r.R13, r.R12, r.RBP, r.RBX, r.R11, r.R10, r.R9, r.R8, r.RAX, r.RCX, r.RDX,
    r.RSI, r.RDI,
)  # fmt: skip
"""struct user_regs_struct up to orig_rax (sys/user.h)."""
NO_CALL: Final = (1 << 64) - 1
USER_CS, USER_SS = 0x33, 0x2B
FXSAVE_BYTES: Final = 512


def dump(engine: Engine, path: str, process: Process, first: Task | None, signo: int) -> None:
    """Write a core of `process`; `first` is whom a debugger shows first. Raises OSError."""
    tasks = sorted(
        (task for task in process.tasks if task.stub is not None), key=lambda t: t is not first
    )
    if not tasks:
        return
    mm = tasks[0].mm
    maps = mappings_of(tasks[0])

    def read(addr: int, size: int) -> bytes:
        """Page by page: those that nobody has touched are zeros."""
        return b"".join(
            mm.peek(page, PAGE_SIZE).ljust(PAGE_SIZE, b"\0")
            for page in range(addr, addr + size, PAGE_SIZE)
        )

    memory = [Memory(vma.start, vma.end, vma.prot, read) for vma in mm.vmas]
    stub = tasks[0].stub
    assert stub is not None
    write_core(
        path,
        [_thread(task, signo if task is first else 0) for task in tasks],
        memory,
        mm.auxv,
        [
            MappedFile(m.start, m.end, m.offset // PAGE_SIZE, m.path)
            for m in maps
            if m.path.startswith("/")
        ],
        pid=process.pid,
        comm=tasks[0].comm.decode(errors="replace"),
        argv=engine.target.args,
        fault_addr=tasks[0].kernel.physmem.u64[stub.u64 + FAULT_ADDR],
    )


def _thread(task: Task, signo: int) -> CoreThread:
    stub = task.stub
    assert stub is not None
    physmem = task.kernel.physmem
    u64, at = physmem.u64, stub.regs
    fs_base, gs_base = u64[stub.u64 + FS_BASE], u64[stub.u64 + GS_BASE]
    registers = [u64[at + place] for place in ORDER]
    registers += [NO_CALL, u64[at + r.RIP], USER_CS, u64[at + r.EFLAGS], u64[at + r.RSP], USER_SS]
    registers += [fs_base, gs_base, 0, 0, 0, 0]
    floating = fp_state(physmem, stub)[:FXSAVE_BYTES]
    return CoreThread(
        task.pid, registers, fs_base, floating if len(floating) == FXSAVE_BYTES else None, signo
    )
