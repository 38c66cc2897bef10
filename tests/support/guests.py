"""Guest programs: C files of a page, described by the first comment of each.

The comment's first line says what the guest shows.  Lines `key: words` below it:

    variants: static dynamic     how to link it (default: both; also static-pie)
    cflags: -mavx                 more flags for the compiler
    needs: root                   root: the oracle is root itself, not a user namespace
                                  realtime: uses up processor time and expects a clock to notice
    traps: many                   2,000 traps or more: not for --uvm-freeze-every 1
    args: one two                 arguments
    input: text                   standard input, escapes as in Python
    memory: 64M / cpus: 1         the machine it wants
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

__all__ = [
    "GUESTS_DIR",
    "VARIANTS",
    "Builder",
    "Guest",
    "all_guests",
    "guest_named",
    "guest_parameters",
]

GUESTS_DIR = Path(__file__).resolve().parent.parent / "guests"

VARIANTS: dict[str, tuple[str, ...]] = {
    "static": ("-static",),
    "dynamic": (),
    "static-pie": ("-static-pie",),
}
CFLAGS = (
    *("-std=gnu17", "-O2", "-g", "-pthread", "-Wall", "-Wextra", "-Wno-unused-result"),
    # Guests pass bad pointers on purpose.
    *("-Wno-nonnull", "-Wno-array-bounds", "-Wno-stringop-overflow", "-Wno-stringop-overread"),
)

_KEY = re.compile(
    r"^\s*\*?\s*(variants|cflags|needs|traps|args|input|memory|cpus):\s*(.*?)\s*(?:\*/)?$"
)


@dataclass(frozen=True, slots=True)
class Guest:
    """One file of tests/guests."""

    source: Path
    summary: str
    variants: tuple[str, ...] = ("static", "dynamic")
    cflags: tuple[str, ...] = ()
    needs: frozenset[str] = frozenset()
    many_traps: bool = False
    args: tuple[str, ...] = ()
    input: bytes = b""
    machine: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.source.stem

    def __str__(self) -> str:
        return self.name

    @classmethod
    def read(cls, source: Path) -> Guest:
        """The guest as its first comment describes it."""
        text = source.read_text()
        comment = text[: text.index("*/") + 2].splitlines()
        values: dict[str, str] = {}
        for line in comment[1:]:
            if match := _KEY.match(line):
                values[match[1]] = match[2]
        machine: dict[str, Any] = {}
        if "memory" in values:
            machine["memory"] = values["memory"]
        if "cpus" in values:
            machine["cpus"] = int(values["cpus"])
        return cls(
            source=source,
            summary=comment[0].removeprefix("/*").strip(" */"),
            variants=tuple(values.get("variants", "static dynamic").split()),
            cflags=tuple(values.get("cflags", "").split()),
            needs=frozenset(values.get("needs", "").split()),
            many_traps=values.get("traps", "few") == "many",
            args=tuple(values.get("args", "").split()),
            input=values.get("input", "").encode().decode("unicode_escape").encode("latin-1"),
            machine=machine,
        )


def all_guests() -> list[Guest]:
    """Every guest that is its own test, by name; those in `special/` are some test's tools."""
    return [Guest.read(path) for path in sorted(GUESTS_DIR.glob("*.c"))]


def guest_named(name: str) -> Guest:
    """`name` as in tests/guests/NAME.c or tests/guests/special/NAME.c."""
    for folder in (GUESTS_DIR, GUESTS_DIR / "special"):
        if (path := folder / f"{name}.c").exists():
            return Guest.read(path)
    raise LookupError(f"no guest called {name!r} in {GUESTS_DIR}")


def guest_parameters(guest_list: Sequence[Guest]) -> list[Any]:
    """(guest, variant) for parametrize, with the marks that the guests ask for."""
    marks = {"root": pytest.mark.needs_root, "realtime": pytest.mark.realtime}
    parameters = []
    for guest in guest_list:
        wanted = [marks[need] for need in sorted(guest.needs)]
        if guest.many_traps:
            wanted.append(pytest.mark.many_traps)
        parameters += [
            pytest.param(guest, variant, id=f"{guest.name}-{variant}", marks=wanted)
            for variant in guest.variants
        ]
    return parameters


class Builder:
    """Compiles guests into one directory, each variant once."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def build(self, guest: Guest | str, variant: str = "static") -> Path:
        """The executable; compiled at the first call."""
        if isinstance(guest, str):
            guest = guest_named(guest)
        program = self.directory / f"{guest.name}-{variant}"
        if program.exists():
            return program
        part = program.with_suffix(f".{os.getpid()}")  # workers may build the same one
        command = ["gcc", *CFLAGS, *guest.cflags, *VARIANTS[variant]]
        command += ["-I", str(GUESTS_DIR), str(guest.source), "-o", str(part), "-lm"]
        compiled = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if compiled.returncode or compiled.stderr:
            raise RuntimeError(f"{' '.join(command)}\n{compiled.stderr}")
        part.rename(program)
        return program
