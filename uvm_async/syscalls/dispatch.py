"""From registers to handlers: the table keyed by number, for one ABI.

Decoding is compiled once per call from the handler's annotations
(syscalls/table.py) into one small function, so that a call costs what its
arguments cost.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable
from types import CodeType
from typing import Any, Final

import uvm_async.syscalls
from uvm_async.arch import registers as r
from uvm_async.syscalls.numbers import X86_64
from uvm_async.syscalls.table import SyscallDef, registered

__all__ = ["CallTable", "Entry", "load_all"]

ARGUMENT_REGISTERS: Final = (r.RDI, r.RSI, r.RDX, r.R10, r.R8, r.R9)
_NAMES: Final = {number: name for name, number in X86_64.items()}
_DECODE: Final = {
    "s32": "((u[i + {reg}] & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000",
    "u32": "u[i + {reg}] & 0xFFFFFFFF",
    "s64": "(u[i + {reg}] ^ 0x8000000000000000) - 0x8000000000000000",
    "u64": "u[i + {reg}]",
}


class Entry:
    """One call: `invoke(task, u64, regs)` decodes and calls the handler."""

    __slots__ = ("call", "invoke", "is_async", "number")

    def __init__(self, call: SyscallDef, number: int) -> None:
        self.call = call
        self.number = number
        self.is_async = call.is_async
        code = _decoder(tuple(kind.ctype for _, kind in call.params))
        self.invoke: Callable[[Any, Any, int], Any] = eval(code, {"handler": call.handler})


@functools.cache
def _decoder(ctypes: tuple[str, ...]) -> CodeType:
    """The code for arguments of these types; few combinations serve all calls."""
    arguments = ", ".join(
        _DECODE[ctype].format(reg=reg)
        for ctype, reg in zip(ctypes, ARGUMENT_REGISTERS, strict=False)
    )
    return compile(f"lambda task, u, i: handler(task, {arguments})", "<arguments>", "eval")


class CallTable(dict[int, Entry]):
    """Calls by number."""

    @staticmethod
    def name_of(number: int) -> str | None:
        """What the ABI calls it, though it may not be in the table."""
        return _NAMES.get(number)


def load_all() -> CallTable:
    """Import every family and build the x86-64 table."""
    for module in pkgutil.iter_modules(uvm_async.syscalls.__path__):
        importlib.import_module(f"uvm_async.syscalls.{module.name}")
    calls = registered()
    unknown = [name for name in calls if name not in X86_64]
    if unknown:
        raise TypeError(f"no such system call on x86-64: {', '.join(unknown)}")
    return CallTable((X86_64[name], Entry(call, X86_64[name])) for name, call in calls.items())
