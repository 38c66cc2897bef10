"""A Linux-compatible kernel that runs as ordinary user processes, inside an asyncio program.

Public names: Machine, GuestProcess, CompletedProcess, PIPE, DEVNULL, STDOUT,
MachineError, UsageError.

Importing this package starts nothing and imports nothing, not even typing: names are
loaded at first use.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from uvm_async.errors import MachineError, UsageError
    from uvm_async.machine import Machine
    from uvm_async.process import DEVNULL, PIPE, STDOUT, CompletedProcess, GuestProcess

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "CompletedProcess",
    "GuestProcess",
    "Machine",
    "MachineError",
    "UsageError",
]

_HOME = {
    "Machine": "machine",
    "GuestProcess": "process",
    "CompletedProcess": "process",
    "PIPE": "process",
    "DEVNULL": "process",
    "STDOUT": "process",
    "MachineError": "errors",
    "UsageError": "errors",
}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
