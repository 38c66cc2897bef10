"""The system call table: (ABI, number) to handler, and everything derived from it.

One decorator registers a call; its annotations say how the raw registers become
arguments, how `--strace` prints them, and what the coverage page says:

    @syscall("dup")
    def sys_dup(task: Task, oldfd: Int) -> int:
        '''Duplicate a file descriptor onto the lowest free number. man 2 dup.'''

`def` is atomic, `async def` may sleep.  The answer is the call's result; errors
are raised.  A handler that replaced the whole register frame (exec, sigreturn)
answers `NO_RESULT`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, get_args, get_origin

from uvm_async.errors import Errno

__all__ = [
    "NO_RESULT",
    "Addr",
    "Fd",
    "Flags",
    "Int",
    "Long",
    "Mode",
    "PathPtr",
    "Pid",
    "Signal",
    "Size",
    "StrPtr",
    "SyscallDef",
    "UInt",
    "ULong",
    "refused",
    "registered",
    "syscall",
]

NO_RESULT: Final = object()
"""The handler has set the registers itself."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How one argument is decoded (`ctype`) and shown (`show`)."""

    ctype: str
    show: str = "dec"


Int = Annotated[int, Kind("s32")]
UInt = Annotated[int, Kind("u32")]
Long = Annotated[int, Kind("s64")]
ULong = Annotated[int, Kind("u64")]
Size = Annotated[int, Kind("u64")]
Addr = Annotated[int, Kind("u64", "hex")]
Fd = Annotated[int, Kind("s32", "fd")]
Pid = Annotated[int, Kind("s32")]
Signal = Annotated[int, Kind("s32", "signal")]
Flags = Annotated[int, Kind("s32", "hex")]
Mode = Annotated[int, Kind("u32", "oct")]
PathPtr = Annotated[int, Kind("u64", "path")]
"""A user pointer to a path; fetch it with `await task.mm.get_path(addr)`."""
StrPtr = Annotated[int, Kind("u64", "str")]


@dataclass(frozen=True, slots=True)
class SyscallDef:
    """One entry of the table."""

    name: str
    handler: Callable[..., Any]
    params: tuple[tuple[str, Kind], ...]
    is_async: bool
    missing: str
    """What is not supported yet, as a sentence; empty if complete."""
    refused: str = ""
    """The name of the error that it always answers, on purpose; `missing` says why."""


_REGISTERED: dict[str, SyscallDef] = {}
"""Filled at import time only; read-only afterwards."""


def syscall(*names: str, missing: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a handler under one or more names of the x86-64 table.

    `missing` is the sentence for the coverage page that says what is not done.
    """

    def register(handler: Callable[..., Any]) -> Callable[..., Any]:
        params: list[tuple[str, Kind]] = []
        code = handler.__code__
        for name in code.co_varnames[1 : code.co_argcount]:
            hint = handler.__annotations__.get(name)
            if isinstance(hint, str):
                hint = handler.__globals__.get(hint) or eval(hint, handler.__globals__)
            kinds = [k for k in get_args(hint)[1:] if isinstance(k, Kind)]
            if get_origin(hint) is not Annotated or not kinds:
                raise TypeError(f"{handler.__name__}: argument {name!r} has no system call type")
            params.append((name, kinds[0]))
        for name in names:
            if name in _REGISTERED:
                raise TypeError(f"system call {name!r} registered twice")
            _REGISTERED[name] = SyscallDef(
                name, handler, tuple(params), inspect.iscoroutinefunction(handler), missing
            )
        return handler

    return register


def refused(name: str, error: type[Errno], why: str) -> None:
    """Declare a call that is known and always answers `error`; `why` is a sentence."""

    def refuse(task: object) -> int:
        raise error

    if name in _REGISTERED:
        raise TypeError(f"system call {name!r} registered twice")
    _REGISTERED[name] = SyscallDef(name, refuse, (), False, why, error.__name__)


def registered() -> dict[str, SyscallDef]:
    """All registered calls by name (a copy)."""
    return dict(_REGISTERED)
