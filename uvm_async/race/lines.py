"""Line programs of DWARF 2 to 5: from the address of an instruction to its source line.

pyelftools reads the header; the program itself is run here, a state machine of a few opcodes,
because a file of 300,000 lines would keep pyelftools busy for most of a minute.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

__all__ = ["LineTable", "decode_lines"]


@dataclass(slots=True)
class LineTable:
    """Rows in order of address; each holds until the next."""

    starts: list[int]
    rows: list[tuple[str, int]]
    """(file, line); file "" where a sequence ends."""

    def find(self, addr: int) -> tuple[str, int]:
        """The line of the instruction at `addr`; ("", 0) if there is none."""
        at = bisect_right(self.starts, addr) - 1
        return self.rows[at] if at >= 0 else ("", 0)


def decode_lines(program: Any, folder: str) -> LineTable:
    """Run a line program of pyelftools. `folder` is where the compiler stood."""
    stream = program.stream
    stream.seek(program.program_start_offset)
    code = stream.read(program.program_end_offset - program.program_start_offset)
    header = program.header
    files = _files(header, folder)
    sequences = _run(code, header)
    sequences.sort(key=lambda rows: rows[0][0])
    starts: list[int] = []
    rows: list[tuple[str, int]] = []
    for sequence in sequences:
        for address, file, line in sequence:
            row = (files.get(file, ""), line) if file >= 0 else ("", 0)
            if starts and starts[-1] == address:
                rows[-1] = row
            elif not rows or rows[-1] != row:
                starts.append(address)
                rows.append(row)
    return LineTable(starts, rows)


def _files(header: Any, folder: str) -> dict[int, str]:
    modern = header.version >= 5
    if modern:
        folders = [_text(name) for name in header.include_directory]
        first = 0
    else:
        folders = [folder, *(_text(name) for name in header.include_directory)]
        first = 1
    files = {}
    for number, entry in enumerate(header.file_entry, first):
        name = _text(entry.name)
        index = entry.dir_index
        within = folders[index] if index < len(folders) else ""
        files[number] = os.path.normpath(os.path.join(folder, within, name))
    return files


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _run(code: bytes, header: Any) -> list[list[tuple[int, int, int]]]:
    """All sequences: rows of (address, file, line); file -1 ends one."""
    unit = header.minimum_instruction_length
    line_base, line_range = header.line_base, header.line_range
    base = header.opcode_base
    lengths = header.standard_opcode_lengths
    constant = (255 - base) // line_range * unit
    sequences: list[list[tuple[int, int, int]]] = []
    rows: list[tuple[int, int, int]] = []
    address, file, line = 0, 1, 1
    at, end = 0, len(code)

    def unsigned() -> int:
        nonlocal at
        result = shift = 0
        while True:
            byte = code[at]
            at += 1
            result |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return result

    while at < end:
        opcode = code[at]
        at += 1
        if opcode >= base:
            opcode -= base
            address += opcode // line_range * unit
            line += line_base + opcode % line_range
            rows.append((address, file, line))
        elif opcode == 0:
            length = unsigned()
            after = at + length
            kind = code[at] if length else 0
            if kind == 1:
                rows.append((address, -1, 0))
                # The linker leaves what it threw away at address 0.
                if rows[0][0]:
                    sequences.append(rows)
                rows = []
                address, file, line = 0, 1, 1
            elif kind == 2:
                address = int.from_bytes(code[at + 1 : after], "little")
            at = after
        elif opcode == 1:
            rows.append((address, file, line))
        elif opcode == 2:
            address += unsigned() * unit
        elif opcode == 3:
            start = at
            delta = unsigned()
            bits = 7 * (at - start)
            line += delta - (1 << bits) if delta >> (bits - 1) else delta
        elif opcode == 4:
            file = unsigned()
        elif opcode == 8:
            address += constant
        elif opcode == 9:
            address += int.from_bytes(code[at : at + 2], "little")
            at += 2
        else:
            for _ in range(lengths[opcode - 1]):
                unsigned()
    return sequences
