"""Where memcpy and its kin are: library code whose accesses are its caller's.

A static program's symbols name them.  The C library of a dynamic one is stripped,
and which of several versions is used was decided for this processor when the
program was loaded; but every caller's global offset table has the address by
then (LD_BIND_NOW), and its relocations have the name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from uvm_async.race.sources import Mapping

__all__ = ["is_string_function", "string_ranges"]

_NAMES: Final = re.compile(
    r"_*(?:mem(?:cpy|move|set|cmp|pcpy|chr|rchr|ccpy|mem)|bcopy|bzero|bcmp|rawmemchr"
    r"|str(?:n?cpy|n?cat|n?cmp|n?casecmp|n?len|chr|rchr|chrnul|str|spn|cspn|pbrk|sep)|stpn?cpy"
    r"|wmem(?:cpy|move|set|cmp|chr)|wcs(?:n?cpy|n?cat|n?cmp|n?len|chr|rchr))(?:_chk|_l)?"
    r"(?:_(?:sse|avx|evex|erms|unaligned|ssse|generic|x86).*)?"
)
REACH: Final = 0x700
"""A function of that kind is no longer than so many bytes; what follows it is another."""
R_X86_64_GLOB_DAT, R_X86_64_JUMP_SLOT = 6, 7


def is_string_function(name: str) -> bool:
    """Is it memcpy, or of its kin, or one processor's version of that?"""
    return _NAMES.fullmatch(name) is not None


def string_ranges(
    maps: Sequence[Mapping], read: Callable[[int, int], bytes]
) -> list[tuple[int, int]]:
    """Code of string functions that mapped files call through their offset tables; `read` fetches
    guest memory (addr, size)."""
    found: dict[int, None] = {}
    for path, base in _files(maps):
        try:
            with open(path, "rb") as file:
                for offset in _slots(ELFFile(file)):
                    target = int.from_bytes(read(base + offset, 8), "little")
                    if target:
                        found[target] = None
        except (OSError, ELFError, ValueError):
            continue
    code = [m for m in maps if m.path]
    return sorted(
        (target, target + REACH) for target in found if any(m.start <= target < m.end for m in code)
    )


def _files(maps: Sequence[Mapping]) -> list[tuple[str, int]]:
    """Files, and where their first byte is mapped."""
    bases: dict[str, int] = {}
    for mapping in maps:
        if mapping.path.startswith("/") and mapping.offset == 0:
            bases.setdefault(mapping.path, mapping.start)
    return list(bases.items())


def _slots(elf: ELFFile) -> list[int]:
    """Offsets from the file's first mapped byte of table entries for string functions."""
    lowest = min(
        (s["p_vaddr"] for s in elf.iter_segments("PT_LOAD")),
        default=0,
    )
    slots = []
    section: Any
    for section in elf.iter_sections(type="SHT_RELA"):
        symbols: Any = elf.get_section(section["sh_link"])
        if symbols is None or symbols["sh_type"] != "SHT_DYNSYM":
            continue
        for relocation in section.iter_relocations():
            if relocation["r_info_type"] not in (R_X86_64_GLOB_DAT, R_X86_64_JUMP_SLOT):
                continue
            name = symbols.get_symbol(relocation["r_info_sym"]).name
            if is_string_function(name):
                slots.append(relocation["r_offset"] - (lowest & ~4095))
    return slots
