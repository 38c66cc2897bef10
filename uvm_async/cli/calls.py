"""`uvm calls`: the system call table as it stands, and whether it is enough for a program."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, TextIO

import click

from uvm_async.cli.outcome import complain

if TYPE_CHECKING:
    from uvm_async.syscalls.table import SyscallDef

__all__ = ["command", "names_in_strace_log"]

CALL: Final = re.compile(
    r"^\s*(?:\[pid\s+\d+\]\s*|\d+\s+)?"  # -f; or -f with -o
    r"(?:[\d:]+(?:\.\d+)?\s+|\(\+\s*[\d.]+\)\s*)*"  # -t, -r
    r"(?:\[[0-9a-f]+\]\s+)?"  # -i
    r"([a-z_][a-z0-9_]*)\("
)
UNKNOWN: Final = re.compile(r"^syscall_(0x[0-9a-f]+)$")
OTHER_NAMES: Final = {
    "fadvise64_64": "fadvise64", "pread": "pread64", "pwrite": "pwrite64", "umount": "umount2",
    "sendfile64": "sendfile", "prlimit": "prlimit64", "newfstat": "fstat",
}  # fmt: skip
DONE_WITHOUT: Final = frozenset({"rseq"})
"""The C library asks for these and does without."""
NOT_A_CALL: Final = frozenset({"restart_syscall"})
"""The kernel's own business, below what the table is about."""


@click.command(short_help="Which system calls there are, and what is missing of each.")
@click.option("--check", type=click.File("r", errors="replace"), metavar="LOG",
              help="Read an `strace -f` log; say which of its calls are missing.")  # fmt: skip
@click.option("--missing", is_flag=True, help="Only what is missing.")
def command(check: TextIO | None, missing: bool) -> int:
    """Print the table of system calls: supported, in part (with what is missing), or not.

    With --check the status is 0 if all calls of the log are supported, 1 if some are not.
    """
    from uvm_async.syscalls.dispatch import load_all
    from uvm_async.syscalls.numbers import X86_64

    calls = {entry.call.name: entry.call for entry in load_all().values()}
    if check is not None:
        return _check(check, calls, X86_64)
    for name, number in sorted(X86_64.items(), key=lambda item: item[1]):
        call = calls.get(name)
        if not missing or call is None or call.missing:
            click.echo(f"{number:3}  {name:24}{_support(call)}")
    click.echo(f"{len(calls)} of {len(X86_64)} calls of the x86-64 table are supported.")
    return 0


def _support(call: SyscallDef | None) -> str:
    if call is None:
        return "no       ENOSYS"
    return f"in part  {_sentence(call.missing)}" if call.missing else "yes"


def _sentence(text: str) -> str:
    text = " ".join(text.split()).rstrip(".")
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def names_in_strace_log(lines: Iterable[str]) -> Counter[str]:
    """How often each call begins in a log of strace (with -f, -t, -r, -i or without)."""
    found: Counter[str] = Counter()
    for line in lines:
        match = CALL.match(line)
        if match is not None:
            name = OTHER_NAMES.get(match[1], match[1])
            if name not in NOT_A_CALL:
                found[name] += 1
    return found


def _check(log: TextIO, calls: dict[str, SyscallDef], table: dict[str, int]) -> int:
    found = names_in_strace_log(log)
    if not found:
        return complain("uvm calls", f"{log.name} has no calls: give it an strace -f log", 2)
    numbers = {number: name for name, number in table.items()}
    absent, partial = [], []
    for name, count in sorted(found.items()):
        unknown = UNKNOWN.match(name)
        known = numbers.get(int(unknown[1], 16), name) if unknown else name
        call = calls.get(known)
        if call is None and known in DONE_WITHOUT:
            partial.append(f"{known} ({count}x): not there, and the C library does without")
        elif call is None:
            absent.append(f"{known} ({count}x)")
        elif call.missing:
            partial.append(f"{known} ({count}x): {_sentence(call.missing)}")
    for text in absent:
        click.echo(f"not supported: {text}")
    for text in partial:
        click.echo(f"in part: {text}")
    supported = len(found) - len(absent) - len(partial)
    click.echo(f"Of {len(found)} calls {supported} are supported, {len(partial)} in part, "
               f"{len(absent)} not.")  # fmt: skip
    return 1 if absent else 0
