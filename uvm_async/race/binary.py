"""What one ELF file tells of its code and data: symbols, source lines, where user code ends.

Everything is read on first use.  Symbol tables and line programs are decoded here, not by
pyelftools, whose objects take tens of microseconds each: a program of a hundred thousand symbols
would take seconds.  A line program is decoded for one compilation unit at a time, found by
.debug_aranges or, where a compiler wrote none, by the ranges of the units themselves.

Addresses in this file are those the ELF file was linked for.
"""

from __future__ import annotations

import os
import re
import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

from elftools.common.exceptions import ELFError
from elftools.dwarf.ranges import BaseAddressEntry
from elftools.elf.elffile import ELFFile
from iced_x86 import Decoder, FlowControl

from uvm_async.race.lines import LineTable, decode_lines

__all__ = ["Binary", "Symbol", "is_library_file"]

FUNC, OBJECT, FILE, IFUNC = 2, 1, 4, 10
SHN_UNDEF: Final = 0
SHN_LORESERVE: Final = 0xFF00
SHF_EXECINSTR: Final = 4
STRAIGHT_BYTES: Final = 256

_LIBRARY_FILE: Final = re.compile(
    r"^(ld-linux.*|ld-musl.*|ld|libc|libpthread|libm|libmvec|libdl|librt|libutil|libresolv"
    r"|libanl|libnss_\w+|libthread_db|libstdc\+\+|libgcc_s|libc\+\+|libc\+\+abi|libunwind"
    r"|libatomic|libasan|libubsan|linux-vdso)(-[0-9.]+)?\.so(\.[0-9.]+)?$"
)
_INTERNAL: Final = re.compile(
    r"^(_IO_|_dl_|_nl_|_nss_|_Unwind_|_init$|_fini$|_start$|__libc_|__pthread_|__nptl_|__lll_|__GI_"
    r"|__gconv|__new_|__old_|__res_|__gcc_|__gxx_|__cxa_|__run_exit|__tunables?_|__str\w+_(avx|sse|evex)"
    r"|__mem\w+_(avx|sse|evex)|__wcs\w+_(avx|sse|evex)|__syscall_|__clone|__getcwd|__assert_|__tls_)"
)
_STARTERS: Final = ("frame_dummy", "__do_global_dtors_aux", "register_tm_clones")
_PIECE: Final = re.compile(r"\.(cold|part|isra|constprop|lto_priv|cfi)(\.\d+)?")
_HOST_FOLDERS: Final = (
    *("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"),
    *("/lib64", "/usr/lib64", "/lib", "/usr/lib"),
)
_HOST_LIBRARIES: Final = ("libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1")


@dataclass(frozen=True, slots=True)
class Symbol:
    """A function or a variable."""

    start: int
    size: int
    name: str
    kind: int
    is_local: bool
    source: str
    """The file that a local one is of, as the linker was told."""


def is_library_file(path: str) -> bool:
    """Is this the C library, the loader, the C++ run-time library, or a sanitizer's?"""
    return _LIBRARY_FILE.match(os.path.basename(path)) is not None


class Binary:
    """One ELF file. Raises OSError, ELFError."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._elf = ELFFile(open(path, "rb"))  # noqa: SIM115 - lives as long as this does
        self.segments: list[tuple[int, int, int, int]] = [
            (seg["p_offset"], seg["p_vaddr"], seg["p_filesz"], seg["p_memsz"])
            for seg in self._elf.iter_segments("PT_LOAD")
        ]
        """Loadable segments: offset, address, bytes in the file, bytes in memory."""
        self._units: dict[int, LineTable] = {}

    @cached_property
    def is_static(self) -> bool:
        """A program without a loader: the C library's code is in it."""
        if any(True for _ in self._elf.iter_segments("PT_INTERP")):
            return False
        segment: Any
        for segment in self._elf.iter_segments("PT_DYNAMIC"):
            if any(tag.entry.d_tag == "DT_NEEDED" for tag in segment.iter_tags()):
                return False
        return bool(self._elf["e_entry"])

    # -- symbols ---------------------------------------------------------------------------

    def _table(self, section: str) -> Iterator[Symbol]:
        table = self._elf.get_section_by_name(section)
        if table is None or table["sh_type"] == "SHT_NOBITS":
            return
        strings: bytes = self._elf.get_section(table["sh_link"]).data()
        is_64 = self._elf.elfclass == 64
        entry = struct.Struct("<IBBHQQ" if is_64 else "<IIIBBH")
        data: bytes = table.data()
        source = ""
        for fields in entry.iter_unpack(data[: len(data) // entry.size * entry.size]):
            if is_64:
                name, info, _, index, value, size = fields
            else:
                name, value, size, info, _, index = fields
            kind, is_local = info & 15, info >> 4 == 0
            if kind == FILE:
                source = strings[name : strings.index(0, name)].decode("utf-8", "replace")
            elif kind in (FUNC, OBJECT, IFUNC) or (kind == 0 and 0 < index < SHN_LORESERVE):
                if index == SHN_UNDEF:
                    continue
                text = strings[name : strings.index(0, name)].decode("utf-8", "replace")
                if text and (kind or section == ".symtab"):
                    yield Symbol(value, size, text, kind, is_local, source if is_local else "")

    @cached_property
    def symbols(self) -> list[Symbol]:
        """All functions and variables, by address."""
        found = list(self._table(".symtab")) or list(self._table(".dynsym"))
        return sorted(found, key=lambda s: (s.start, s.is_local, s.name.startswith("_"), s.name))

    def defined_names(self) -> frozenset[str]:
        """What the dynamic symbol table defines, versions left off."""
        return frozenset(symbol.name for symbol in self._table(".dynsym"))

    @cached_property
    def _functions(self) -> tuple[list[int], list[Symbol]]:
        return _first_at_each(s for s in self.symbols if s.kind in (FUNC, IFUNC, 0))

    @cached_property
    def _objects(self) -> tuple[list[int], list[Symbol]]:
        return _first_at_each(s for s in self.symbols if s.kind == OBJECT and s.size)

    def function_at(self, addr: int) -> Symbol | None:
        """The function whose code this is; one without a size reaches to the next."""
        starts, functions = self._functions
        at = bisect_right(starts, addr) - 1
        while at >= 0 and functions[at].kind == 0 and functions[at].name.startswith("."):
            at -= 1
        if at < 0:
            return None
        symbol = functions[at]
        if symbol.size and addr >= symbol.start + symbol.size:
            return None
        return symbol

    def object_at(self, addr: int) -> Symbol | None:
        """The variable whose memory this is."""
        starts, objects = self._objects
        at = bisect_right(starts, addr) - 1
        if at < 0 or addr >= objects[at].start + objects[at].size:
            return None
        return objects[at]

    def section_at(self, addr: int) -> tuple[str, int] | None:
        """(name, start) of the section that is loaded here."""
        for name, start, size in self._sections:
            if start <= addr < start + size:
                return name, start
        return None

    @cached_property
    def _sections(self) -> list[tuple[str, int, int]]:
        alloc, tls = 2, 0x400
        return [
            (section.name, section["sh_addr"], section["sh_size"])
            for section in self._elf.iter_sections()
            if section["sh_flags"] & alloc
            and not (section["sh_flags"] & tls and section["sh_type"] == "SHT_NOBITS")
        ]

    # -- source lines ----------------------------------------------------------------------

    def line_at(self, addr: int) -> tuple[str, int]:
        """(file, line); line 0 where the compiler names none, file "" where nothing is known."""
        unit = self._unit_at(addr)
        if unit is None:
            return "", 0
        table = self._units.get(unit)
        if table is None:
            table = self._units[unit] = self._decode_unit(unit)
        return table.find(addr)

    def has_line_information(self, addr: int) -> bool:
        """Was this code compiled with -g?"""
        return self._unit_at(addr) is not None

    @cached_property
    def _dwarf(self) -> Any:
        if not self._elf.has_dwarf_info(strict=True):
            return None
        return self._elf.get_dwarf_info(follow_links=False)

    def _decode_unit(self, offset: int) -> LineTable:
        unit = self._dwarf.get_CU_at(offset)
        program = self._dwarf.line_program_for_CU(unit)
        if program is None:
            return LineTable([], [])
        attribute = unit.get_top_DIE().attributes.get("DW_AT_comp_dir")
        folder = attribute.value.decode("utf-8", "replace") if attribute else ""
        return decode_lines(program, folder)

    def _unit_at(self, addr: int) -> int | None:
        starts, ranges = self._ranges
        at = bisect_right(starts, addr) - 1
        if at < 0 or addr >= ranges[at][1]:
            return None
        return ranges[at][2]

    @cached_property
    def _ranges(self) -> tuple[list[int], list[tuple[int, int, int]]]:
        """(start, end, offset of the unit) of all code with line information."""
        if self._dwarf is None:
            return [], []
        found = list(self._aranges())
        covered = {unit for _, _, unit in found}
        try:
            for unit in self._dwarf.iter_CUs():
                if unit.cu_offset not in covered:
                    found.extend(self._ranges_of(unit))
        except (ELFError, ValueError, KeyError):
            pass
        found = sorted(entry for entry in found if 0 < entry[0] < entry[1])
        return [entry[0] for entry in found], found

    def _aranges(self) -> Iterator[tuple[int, int, int]]:
        section = self._dwarf.debug_aranges_sec
        if section is None:
            return
        data: bytes = section.stream.getvalue()
        at = 0
        while at + 12 <= len(data):
            length, _, unit, address_bytes, _ = struct.unpack_from("<IHIBB", data, at)
            if length >= 0xFFFFFFF0 or address_bytes not in (4, 8):
                return
            end = at + 4 + length
            pair = struct.Struct("<QQ" if address_bytes == 8 else "<II")
            at += (12 + pair.size - 1) // pair.size * pair.size
            while at + pair.size <= end:
                start, size = pair.unpack_from(data, at)
                at += pair.size
                if size:
                    yield start, start + size, unit
            at = end

    def _ranges_of(self, unit: Any) -> Iterator[tuple[int, int, int]]:
        top = unit.get_top_DIE()
        low = top.attributes.get("DW_AT_low_pc")
        high = top.attributes.get("DW_AT_high_pc")
        base = low.value if low else 0
        if low and high:
            end = high.value if high.form == "DW_FORM_addr" else base + high.value
            yield base, end, unit.cu_offset
            return
        ranges = top.attributes.get("DW_AT_ranges")
        lists = self._dwarf.range_lists()
        if ranges is None or lists is None:
            return
        for entry in lists.get_range_list_at_offset(ranges.value, cu=unit):
            if isinstance(entry, BaseAddressEntry):
                base = entry.base_address
                continue
            shift = 0 if getattr(entry, "is_absolute", False) else base
            yield entry.begin_offset + shift, entry.end_offset + shift, unit.cu_offset

    # -- code ------------------------------------------------------------------------------

    def runs_straight(self, start: int, end: int) -> bool:
        """Does whoever is at `start` and later at `end` surely do nothing between but what stands
        between: no call, no jump out? False where that takes more than a glance."""
        if not 0 < end - start <= STRAIGHT_BYTES:
            return False
        code = self.bytes_at(start, end - start)
        if len(code) != end - start:
            return False
        for instruction in Decoder(64, code, ip=start):
            match instruction.flow_control:
                case FlowControl.NEXT:
                    continue
                case FlowControl.CONDITIONAL_BRANCH | FlowControl.UNCONDITIONAL_BRANCH:
                    if not instruction.ip < instruction.near_branch_target <= end:
                        return False
                case _:
                    return False
        return True

    def bytes_at(self, addr: int, size: int) -> bytes:
        """What the file has there, at most `size` bytes; none if that is no part of it."""
        for offset, vaddr, in_file, _ in self.segments:
            if vaddr <= addr < vaddr + in_file:
                self._elf.stream.seek(offset + addr - vaddr)
                return bytes(self._elf.stream.read(min(size, vaddr + in_file - addr)))
        return b""

    def code(self) -> Iterator[tuple[int, bytes]]:
        """Sections that are executed: address, bytes."""
        section: Any
        for section in self._elf.iter_sections():
            if section["sh_flags"] & SHF_EXECINSTR and section["sh_type"] != "SHT_NOBITS":
                yield section["sh_addr"], section.data()

    # -- whose code ------------------------------------------------------------------------

    def is_library_code(self, addr: int) -> bool:
        """Is it the C or C++ library's rather than the user's?

        Of a shared object the file's name decides.  In a static program, code with line
        information is the user's (libraries come without).  Else the order of linking decides:
        the user's objects stand together, behind those the compiler starts a program with and
        before the first function of a library.  A compiler puts some pieces of them elsewhere,
        whose names tell.  Code of which nothing is known is the user's.
        """
        if is_library_file(self.path):
            return True
        if not self.is_static or self.has_line_information(addr):
            return False
        low, high = self._user_text
        if low <= addr < high:
            return False
        function = self.function_at(addr)
        if function is None:
            return low < high
        name = _PIECE.sub("", function.name)
        if low < high:
            mine = name == "main" or name.startswith("_GLOBAL__") or name in self._user_names
            return not mine or (function.is_local and function.source.endswith(".o"))
        return self._is_library_symbol(function)

    def is_library_data(self, addr: int) -> bool:
        """Does a library's variable lie there? In a static program, by its name."""
        if is_library_file(self.path):
            return True
        symbol = self.object_at(addr) if self.is_static else None
        return symbol is not None and self._is_library_symbol(symbol)

    def _is_library_symbol(self, symbol: Symbol) -> bool:
        if symbol.is_local:
            # Debian's libraries have lost their own file entries; the linker puts their members'.
            return symbol.source.endswith(".o") or bool(_INTERNAL.match(symbol.name))
        return symbol.name in _host_library_names() or bool(_INTERNAL.match(symbol.name))

    @cached_property
    def _user_text(self) -> tuple[int, int]:
        """The stretch of .text that holds the user's objects; empty if it cannot be told."""
        starts, functions = self._functions
        text = next((s for s in self._sections if s[0] == ".text"), None)
        if text is None:
            return 0, 0
        before = [s for s in self.symbols if s.name in _STARTERS and s.is_local]
        if not before:
            return 0, 0
        # Of frame_dummy nothing tells the size; the next function starts behind it.
        at = bisect_right(starts, max(s.start for s in before))
        if at >= len(functions):
            return 0, 0
        low = starts[at]
        by_start: dict[int, list[Symbol]] = {}
        for symbol in self.symbols:
            if symbol.kind in (FUNC, IFUNC):
                by_start.setdefault(symbol.start, []).append(symbol)
        # One function of the user's may be called as one of the library; three in a row are not.
        row = 0
        while at < len(functions):
            known = any(self._is_library_symbol(s) for s in by_start.get(starts[at], ()))
            row = row + 1 if known else 0
            at += 1
            if row == 3:
                return low, starts[at - 3]
        return low, text[1] + text[2]

    @cached_property
    def _user_names(self) -> frozenset[str]:
        low, high = self._user_text
        return frozenset(
            _PIECE.sub("", s.name)
            for s in self._functions[1]
            if s.name == "main" or low <= s.start < high
        )


def _first_at_each(symbols: Iterator[Symbol]) -> tuple[list[int], list[Symbol]]:
    kept: list[Symbol] = []
    for symbol in symbols:
        if not kept or kept[-1].start != symbol.start:
            kept.append(symbol)
        elif not kept[-1].size and symbol.size:
            kept[-1] = symbol
    return [symbol.start for symbol in kept], kept


@lru_cache(maxsize=1)
def _host_library_names() -> frozenset[str]:
    """What the host's shared C and C++ libraries define: the static ones define the same."""
    names: set[str] = set()
    for library in _HOST_LIBRARIES:
        path = next((p for p in (Path(f, library) for f in _HOST_FOLDERS) if p.is_file()), None)
        if path is not None:
            try:
                names |= Binary(str(path)).defined_names()
            except (OSError, ELFError):
                continue
    names -= {"main", "_edata", "_end", "__bss_start"}
    return frozenset(names)
