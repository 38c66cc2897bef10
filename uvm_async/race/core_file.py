"""An ELF core of all threads, as the Linux kernel writes it (fs/binfmt_elf.c) and gdb reads it.

Notes first: for each thread NT_PRSTATUS (its registers) and NT_FPREGSET; the failing thread comes
first and carries NT_PRPSINFO, NT_SIGINFO, NT_AUXV and NT_FILE.  Then memory, each stretch a
PT_LOAD at a page of the file; pages of zeros are holes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

__all__ = ["REGISTER_NAMES", "CoreThread", "MappedFile", "Memory", "write_core"]

REGISTER_NAMES: Final = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx"),
    *("rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base"),
    *("ds", "es", "fs", "gs"),
)
"""The order of struct user_regs_struct."""

PAGE_BYTES: Final = 4096
CHUNK_BYTES: Final = 1 << 20
NT_PRSTATUS, NT_FPREGSET, NT_PRPSINFO, NT_AUXV = 1, 2, 3, 6
NT_FILE, NT_SIGINFO = 0x46494C45, 0x53494749
ET_CORE, EM_X86_64, PT_LOAD, PT_NOTE = 4, 62, 1, 4
PN_XNUM: Final = 0xFFFF
CS_USER, SS_USER, EFLAGS_IF = 0x33, 0x2B, 0x202

_EHDR: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR: Final = struct.Struct("<IIQQQQQQ")
_SHDR: Final = struct.Struct("<IIQQQQIIQQ")
# struct elf_prstatus: siginfo (signo, code, errno), cursig, sigpend, sighold, pid, ppid, pgrp,
# sid, four timevals, the registers, fpvalid.
_PRSTATUS: Final = struct.Struct("<iiihxxQQiiii8q27Qixxxx")
# struct elf_prpsinfo: state, sname, zomb, nice, flag, uid, gid, pid, ppid, pgrp, sid, name, args.
_PRPSINFO: Final = struct.Struct("<BcBbxxxxQIIiiii16s80s")
_SIGINFO_BYTES: Final = 128

Reader = Callable[[int, int], bytes]
"""(addr, bytes) -> memory; fewer bytes than asked for are followed by zeros."""


@dataclass(frozen=True, slots=True)
class CoreThread:
    """A thread as it stood."""

    tid: int
    registers: Sequence[int]
    """The 27 of `REGISTER_NAMES`; cs, ss and eflags may be 0, as may the two bases."""
    fs_base: int = 0
    fpregs: bytes | None = None
    """512 bytes as fxsave writes them."""
    signal: int = 0


@dataclass(frozen=True, slots=True)
class Memory:
    """A stretch of memory, page by page."""

    start: int
    end: int
    protection: int
    """PROT_READ 1, PROT_WRITE 2, PROT_EXEC 4"""
    content: bytes | Reader | None
    """None: not saved; a debugger looks into the mapped file."""


@dataclass(frozen=True, slots=True)
class MappedFile:
    """Which file a stretch of memory is of."""

    start: int
    end: int
    page_offset: int
    """Offset into the file, pages."""
    path: str


def write_core(
    path: str | os.PathLike[str],
    threads: Sequence[CoreThread],
    memory: Iterable[Memory],
    auxv: bytes,
    mapped_files: Sequence[MappedFile],
    *,
    pid: int,
    comm: str,
    argv: Sequence[str] = (),
    fault_addr: int = 0,
) -> None:
    """Write a core; the first thread is the one that a debugger shows first.

    Raises OSError, and ValueError for threads without all their registers or none at all.
    """
    if not threads or any(len(thread.registers) != 27 for thread in threads):
        raise ValueError("a core needs a thread, and 27 registers of each")
    stretches = sorted(memory, key=lambda stretch: stretch.start)
    notes = _notes(threads, auxv, mapped_files, pid, comm, argv, fault_addr)
    headers = len(stretches) + 1
    many = headers >= PN_XNUM
    notes_at = _EHDR.size + headers * _PHDR.size
    data_at = _page_up(notes_at + len(notes))
    offsets, at = [], data_at
    for stretch in stretches:
        offsets.append(at)
        at += 0 if stretch.content is None else stretch.end - stretch.start
    with open(path, "wb") as core:
        core.write(_header(headers, section_at=_page_up(at) if many else 0))
        core.write(_PHDR.pack(PT_NOTE, 0, notes_at, 0, 0, len(notes), 0, 4))
        for stretch, offset in zip(stretches, offsets, strict=True):
            core.write(_load(stretch, offset))
        core.write(notes)
        for stretch, offset in zip(stretches, offsets, strict=True):
            _write_memory(core, stretch, offset)
        core.truncate(at)
        if many:
            # The true number of program headers stands in the only section header.
            core.seek(_page_up(at))
            core.write(_SHDR.pack(0, 0, 0, 0, 0, 1, 0, headers, 0, 0))


def _page_up(offset: int) -> int:
    return (offset + PAGE_BYTES - 1) // PAGE_BYTES * PAGE_BYTES


def _header(headers: int, section_at: int) -> bytes:
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    return _EHDR.pack(
        *(ident, ET_CORE, EM_X86_64, 1, 0, _EHDR.size, section_at, 0, _EHDR.size, _PHDR.size),
        *(min(headers, PN_XNUM), _SHDR.size if section_at else 0, 1 if section_at else 0, 0),
    )


def _load(stretch: Memory, offset: int) -> bytes:
    size = stretch.end - stretch.start
    protection = stretch.protection
    flags = (protection & 1) << 2 | protection & 2 | (protection & 4) >> 2
    saved = 0 if stretch.content is None else size
    return _PHDR.pack(PT_LOAD, flags, offset, stretch.start, 0, saved, size, PAGE_BYTES)


def _write_memory(core: BinaryIO, stretch: Memory, offset: int) -> None:
    content = stretch.content
    if content is None:
        return
    zeros = bytes(PAGE_BYTES)
    for addr in range(stretch.start, stretch.end, CHUNK_BYTES):
        wanted = min(CHUNK_BYTES, stretch.end - addr)
        if isinstance(content, bytes):
            chunk = content[addr - stretch.start : addr - stretch.start + wanted]
        else:
            chunk = content(addr, wanted)
        if not chunk.strip(b"\0"):
            continue
        for page in range(0, len(chunk), PAGE_BYTES):
            data = chunk[page : page + PAGE_BYTES]
            if data != zeros[: len(data)]:
                core.seek(offset + addr - stretch.start + page)
                core.write(data)


def _note(kind: int, data: bytes, owner: bytes = b"CORE") -> bytes:
    name = owner + b"\0"
    padded = name.ljust((len(name) + 3) // 4 * 4, b"\0")
    return (
        struct.pack("<III", len(name), len(data), kind)
        + padded
        + data.ljust((len(data) + 3) // 4 * 4, b"\0")
    )


def _notes(
    threads: Sequence[CoreThread],
    auxv: bytes,
    mapped_files: Sequence[MappedFile],
    pid: int,
    comm: str,
    argv: Sequence[str],
    fault_addr: int,
) -> bytes:
    first = threads[0]
    notes = [
        _note(NT_PRSTATUS, _status(first, pid)),
        _note(NT_PRPSINFO, _process(pid, comm, argv)),
        _note(
            NT_SIGINFO,
            struct.pack("<iiiiQ", first.signal, 0, 0, 0, fault_addr).ljust(_SIGINFO_BYTES, b"\0"),
        ),
        _note(NT_AUXV, auxv),
        _note(NT_FILE, _files(mapped_files)),
    ]
    for thread in threads:
        if thread is not first:
            notes.append(_note(NT_PRSTATUS, _status(thread, pid)))
        if thread.fpregs is not None:
            notes.append(_note(NT_FPREGSET, thread.fpregs[:512].ljust(512, b"\0")))
    return b"".join(notes)


def _status(thread: CoreThread, pid: int) -> bytes:
    registers = dict(zip(REGISTER_NAMES, thread.registers, strict=True))
    registers["fs_base"] = registers["fs_base"] or thread.fs_base
    registers["cs"] = registers["cs"] or CS_USER
    registers["ss"] = registers["ss"] or SS_USER
    registers["eflags"] = registers["eflags"] or EFLAGS_IF
    values = [value & 0xFFFFFFFFFFFFFFFF for value in registers.values()]
    signal = thread.signal
    return _PRSTATUS.pack(
        *(signal, 0, 0, signal, 0, 0, thread.tid, 0, pid, pid),
        *(0,) * 8,
        *values,
        1 if thread.fpregs is not None else 0,
    )


def _process(pid: int, comm: str, argv: Sequence[str]) -> bytes:
    return _PRPSINFO.pack(
        *(0, b"R", 0, 0, 0, 0, 0, pid, 0, pid, pid),
        # struct.pack cuts what is too long.
        *(comm.encode()[:15], " ".join(argv).encode()[:79]),
    )


def _files(mapped_files: Sequence[MappedFile]) -> bytes:
    """NT_FILE: how many, the unit of the offsets, (start, end, offset) of each, then the names."""
    ordered = sorted(mapped_files, key=lambda mapped: mapped.start)
    parts = [struct.pack("<QQ", len(ordered), PAGE_BYTES)]
    parts += [struct.pack("<QQQ", m.start, m.end, m.page_offset) for m in ordered]
    parts += [os.fsencode(m.path) + b"\0" for m in ordered]
    return b"".join(parts)
