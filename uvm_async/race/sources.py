"""From addresses of an execution to what its programmer wrote: functions, lines, variables.

`Sources` knows which files are mapped where; each file (`Binary`) is read when first asked about.
Answers are kept: an exploration asks for the same few hundred instructions again and again.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from elftools.common.exceptions import ELFError

from uvm_async.race.binary import Binary, is_library_file
from uvm_async.race.demangle import demangle

__all__ = ["Mapping", "Place", "Sources"]

PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Mapping:
    """A stretch of the guest's memory."""

    start: int
    end: int
    offset: int
    """Where in the file it begins, bytes."""
    path: str
    """The file on the host; "[heap]", "[stack]" or "" where there is none."""


@dataclass(frozen=True, slots=True)
class Place:
    """What stands at the address of an instruction. Empty strings and 0 where nothing is known."""

    ip: int
    binary: str = ""
    """The file, as the host names it."""
    function: str = ""
    offset: int = 0
    """Bytes into the function."""
    file: str = ""
    line: int = 0
    text: str = ""
    """The source line, without its indentation, if the file is there."""

    @property
    def where(self) -> str:
        """As short as it can be said: "lost.c:14", "worker+0x12", "libc.so.6+0x9c4f0"."""
        if self.line:
            return f"{os.path.basename(self.file)}:{self.line}"
        if self.function:
            return f"{self.function}+{self.offset:#x}" if self.offset else self.function
        return f"{os.path.basename(self.binary)}:{self.ip:#x}" if self.binary else f"{self.ip:#x}"


@dataclass(slots=True)
class _Module:
    """A file at one place in memory."""

    low: int
    high: int
    bias: int
    """What was added to the addresses that it was linked for."""
    binary: Binary


class Sources:
    """Names for the addresses of one program.

    `search` are folders in which sources are looked for that are not where the compiler saw them.
    """

    def __init__(self, mappings: Iterable[Mapping], search: Sequence[str] = ()) -> None:
        self._mappings = sorted(mappings, key=lambda mapping: mapping.start)
        self._starts = [mapping.start for mapping in self._mappings]
        self._search = tuple(search)
        self._regions: list[tuple[int, int, str]] = []
        self._places: dict[int, Place] = {}
        self._names: dict[int, str] = {}
        self._library: dict[int, bool] = {}
        self._texts: dict[str, list[str]] = {}

    def name_region(self, start: int, end: int, name: str) -> None:
        """Memory that no file describes: "stack of thread 2". The latest name counts."""
        self._regions.insert(0, (start, end, name))
        self._names.clear()

    def covers(self, ip: int) -> bool:
        """Is anything known to be mapped at `ip`?"""
        return self._mapping(ip) is not None

    def file_at(self, addr: int) -> str:
        """The file that is mapped there; "" if none is."""
        path = self._mapped_file(addr)
        return path if path.startswith("/") else ""

    def files(self) -> list[tuple[Binary, int]]:
        """The ELF files, each with what was added to the addresses that it was linked for."""
        return [(module.binary, module.bias) for module in self._modules]

    def place(self, ip: int) -> Place:
        """What stands at the instruction at `ip`."""
        found = self._places.get(ip)
        if found is None:
            found = self._places[ip] = self._look_up(ip)
        return found

    def address(self, addr: int) -> str:
        """A name for memory: "counter", "table+16", "heap+0x2a0", "0x7f0000001000"."""
        found = self._names.get(addr)
        if found is None:
            found = self._names[addr] = self._name(addr)
        return found

    def is_library(self, ip: int) -> bool:
        """Is it code of the C library, the loader, or the C++ run-time library?"""
        found = self._library.get(ip)
        if found is None:
            found = self._library[ip] = self._is_library(ip)
        return found

    def runs_straight(self, start: int, end: int) -> bool:
        """Is nothing called between two instructions, run one after the other?"""
        module = self._module(start)
        if module is None or not module.low <= end < module.high:
            return False
        return module.binary.runs_straight(start - module.bias, end - module.bias)

    def is_library_data(self, addr: int) -> bool:
        """Is it a variable of the C library, the loader, or the C++ run-time library?"""
        module = self._module(addr)
        if module is not None:
            return module.binary.is_library_data(addr - module.bias)
        return is_library_file(self._mapped_file(addr))

    def excerpt(self, file: str, line: int, around: int = 4) -> list[tuple[int, str]]:
        """Numbered lines of a source file about `line`; empty if it is not there."""
        lines = self._lines(file)
        if not 0 < line <= len(lines):
            return []
        first = max(line - around, 1)
        return list(enumerate(lines[first - 1 : line + around], first))

    def _look_up(self, ip: int) -> Place:
        module = self._module(ip)
        if module is None:
            return Place(ip, binary=self._mapped_file(ip))
        binary, addr = module.binary, ip - module.bias
        function = binary.function_at(addr)
        file, line = binary.line_at(addr)
        lines = self._lines(file) if line else []
        return Place(
            ip,
            binary=binary.path,
            function=demangle(function.name) if function else "",
            offset=addr - function.start if function else 0,
            file=file,
            line=line,
            text=lines[line - 1].strip() if 0 < line <= len(lines) else "",
        )

    def _name(self, addr: int) -> str:
        for start, end, name in self._regions:
            if start <= addr < end:
                return f"{name}+{addr - start:#x}"
        module = self._module(addr)
        if module is not None:
            symbol = module.binary.object_at(addr - module.bias)
            if symbol is not None:
                offset = addr - module.bias - symbol.start
                # A static variable of a function is called name.number.
                stem, dot, number = symbol.name.rpartition(".")
                name = demangle(stem if dot and number.isdigit() else symbol.name)
                return f"{name}+{offset}" if offset else name
            section = module.binary.section_at(addr - module.bias)
            if section is not None:
                name, start = section
                offset = addr - module.bias - start
                return f"{os.path.basename(module.binary.path)}{name}+{offset:#x}"
        mapping = self._mapping(addr)
        if mapping is not None and mapping.path:
            name = mapping.path.strip("[]") if mapping.path.startswith("[") else ""
            name = name or os.path.basename(mapping.path)
            return f"{name}+{addr - mapping.start + mapping.offset:#x}"
        return f"{addr:#x}"

    def _is_library(self, ip: int) -> bool:
        module = self._module(ip)
        if module is not None:
            return module.binary.is_library_code(ip - module.bias)
        path = self._mapped_file(ip)
        return path in ("[vdso]", "[vsyscall]") or is_library_file(path)

    def _mapping(self, addr: int) -> Mapping | None:
        at = bisect_right(self._starts, addr) - 1
        if at < 0 or addr >= self._mappings[at].end:
            return None
        return self._mappings[at]

    def _mapped_file(self, addr: int) -> str:
        mapping = self._mapping(addr)
        return mapping.path if mapping is not None else ""

    @cached_property
    def _modules(self) -> list[_Module]:
        return _load(self._mappings)

    def _module(self, addr: int) -> _Module | None:
        return next((m for m in self._modules if m.low <= addr < m.high), None)

    def _lines(self, file: str) -> list[str]:
        if not file:
            return []
        lines = self._texts.get(file)
        if lines is None:
            lines = self._texts[file] = self._read(file)
        return lines

    def _read(self, file: str) -> list[str]:
        for path in self._candidates(file):
            try:
                with open(path, encoding="utf-8", errors="replace") as stream:
                    return stream.read().splitlines()
            except OSError:
                continue
        return []

    def _candidates(self, file: str) -> Iterable[str]:
        yield file
        parts = file.strip("/").split("/")
        for folder in self._search:
            for first in range(len(parts)):
                yield os.path.join(folder, *parts[first:])


def _load(mappings: Sequence[Mapping]) -> list[_Module]:
    by_path: dict[str, list[Mapping]] = {}
    for mapping in mappings:
        if mapping.path and not mapping.path.startswith("["):
            by_path.setdefault(mapping.path, []).append(mapping)
    modules = []
    for path, parts in by_path.items():
        try:
            binary = Binary(path)
        except (OSError, ELFError, ValueError):
            continue
        if not binary.segments:
            continue
        bias = _bias(binary, parts)
        low = min(vaddr for _, vaddr, _, _ in binary.segments) + bias
        high = max(vaddr + memory for _, vaddr, _, memory in binary.segments) + bias
        modules.append(_Module(low // PAGE_BYTES * PAGE_BYTES, high, bias, binary))
    return modules


def _bias(binary: Binary, parts: Sequence[Mapping]) -> int:
    """What all mappings of the file agree on; two segments may share a page of the file, so that
    one mapping alone can be read in two ways."""
    votes: Counter[int] = Counter()
    for mapping in parts:
        possible = set()
        for offset, vaddr, in_file, _ in binary.segments:
            if offset // PAGE_BYTES * PAGE_BYTES <= mapping.offset < offset + in_file:
                possible.add(mapping.start - mapping.offset - (vaddr - offset))
        votes.update(sorted(possible))
    return votes.most_common(1)[0][0] if votes else 0
