"""Instructions that no controlled machine can answer for the processor.

The time-stamp counter traps and is answered from the virtual clock; these do not trap on every
processor that we run on: random numbers, the number of the CPU, performance counters, what the
processor can do.  A program that uses one may run differently under one schedule, and then they
are named.  `wrgsbase` takes away a register that exploring needs, so it is looked for beforehand.

They are found by their bytes, and where the file has symbols only if the function, decoded from its
start, has an instruction there.  Where it has none a doubt may be unfounded; nobody is refused
for one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from iced_x86 import Decoder, Mnemonic

from uvm_async.race.binary import is_library_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from uvm_async.race.binary import Binary
    from uvm_async.race.sources import Sources

__all__ = ["doubt", "sets_gs"]

LONGEST_BYTES: Final = 15
NAMED: Final = 3
CHANGING: Final = {
    Mnemonic.RDRAND: "rdrand", Mnemonic.RDSEED: "rdseed", Mnemonic.RDPID: "rdpid",
    Mnemonic.RDPMC: "rdpmc", Mnemonic.CPUID: "cpuid", Mnemonic.XGETBV: "xgetbv",
}  # fmt: skip
"""What may answer otherwise another time, the likeliest first."""
SETS_GS: Final = {Mnemonic.WRGSBASE: "wrgsbase", Mnemonic.SWAPGS: "swapgs"}
_CANDIDATES: Final = {
    # The opcode's last fixed bytes; prefixes and the registers vary.
    **dict.fromkeys((Mnemonic.RDRAND, Mnemonic.RDSEED, Mnemonic.RDPID), rb"\x0f\xc7[\xf0-\xff]"),
    Mnemonic.RDPMC: rb"\x0f\x33",
    Mnemonic.CPUID: rb"\x0f\xa2",
    Mnemonic.XGETBV: rb"\x0f\x01\xd0",
    Mnemonic.WRGSBASE: rb"\x0f\xae[\xd8-\xdf]",
    Mnemonic.SWAPGS: rb"\x0f\x01\xf8",
}
_PREFIXES: Final = re.compile(rb"[\x66\xf2\xf3]?[\x40-\x4f]?\Z")


def doubt(sources: Sources) -> str:
    """What in a program may make one schedule two executions, in words; empty if nothing was found.
    The user's own code comes first, then libraries'."""
    found: list[tuple[bool, int, int, str]] = []
    rank = list(CHANGING)
    for binary, bias in sources.files():
        for addr, mnemonic in _instructions(binary, CHANGING):
            ip = addr + bias
            library = sources.is_library(ip)
            if library and mnemonic in (Mnemonic.CPUID, Mnemonic.XGETBV):
                continue  # every program's start
            found.append((library, rank.index(mnemonic), ip, CHANGING[mnemonic]))
    found.sort()
    return ", ".join(
        f"{name} at {ip:#x} ({sources.place(ip).where})" for _, _, ip, name in found[:NAMED]
    )


def sets_gs(sources: Sources) -> str:
    """The first instruction of the user's code that surely sets GS, in words; empty if there is
    none."""
    for binary, bias in sources.files():
        if is_library_file(binary.path):  # all of it is: not worth a look at each start
            continue
        for addr, mnemonic in _instructions(binary, SETS_GS):
            if binary.function_at(addr) is not None and not sources.is_library(addr + bias):
                where = sources.place(addr + bias).where
                return f"{SETS_GS[mnemonic]} at {addr + bias:#x} ({where})"
    return ""


def _instructions(binary: Binary, wanted: Mapping[Any, str]) -> Iterator[tuple[int, Any]]:
    """(address as linked, iced_x86's mnemonic) of the wanted instructions of a file, ascending."""
    pattern = re.compile(b"|".join(sorted({_CANDIDATES[mnemonic] for mnemonic in wanted})))
    for start, code in binary.code():
        for match in pattern.finditer(code):
            before = code[max(match.start() - 2, 0) : match.start()]
            prefixes = _PREFIXES.search(before)
            assert prefixes is not None
            length = len(prefixes.group())
            # A byte before may be a prefix, or the end of another instruction.
            for at in range(match.start() - length, match.start() + 1):
                decoded = Decoder(64, code[at : at + LONGEST_BYTES], ip=start + at).decode()
                if decoded.mnemonic in wanted and _stands_at(binary, start + at):
                    yield start + at, decoded.mnemonic
                    break


def _stands_at(binary: Binary, addr: int) -> bool:
    """Is `addr` the beginning of an instruction, as far as symbols tell?"""
    function = binary.function_at(addr)
    if function is None or not function.size:
        return True
    code = binary.bytes_at(function.start, addr - function.start + LONGEST_BYTES)
    for instruction in Decoder(64, code, ip=function.start):
        if instruction.ip >= addr:
            return bool(instruction.ip == addr)
    return True
