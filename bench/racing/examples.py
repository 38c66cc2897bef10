"""The example programs (tests/race/programs): which are meant, and how they are run."""

from __future__ import annotations

from pathlib import Path

from race.corpus import LARGER_DIR, Program, all_programs, build, larger_programs
from uvm_async.errors import UsageError
from uvm_async.race.engine import Target

__all__ = ["ENVIRONMENT", "Program", "chosen", "command", "target"]

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
"""The same everywhere: it stands in the program's memory."""


def chosen(names: list[str], *, larger: bool = False) -> list[Program]:
    """Those of these names; without names all small ones, and the `larger` ones if asked for.

    Raises UsageError for a name that is none.
    """
    every = {program.name: program for program in (*all_programs(), *larger_programs())}
    unknown = [name for name in names if name not in every]
    if unknown:
        raise UsageError(f"no program called {', '.join(unknown)}: there are {', '.join(every)}")
    if names:
        return [every[name] for name in dict.fromkeys(names)]
    return [*all_programs(), *(larger_programs() if larger else [])]


def is_larger(program: Program) -> bool:
    """It uses much code that is not its own."""
    return program.source.parent == LARGER_DIR


def command(
    program: Program, directory: Path, *, fixed: bool, static: bool = True
) -> tuple[str, ...]:
    """What runs it, built at -O1 with -g, and static but for the larger ones."""
    static = static and not is_larger(program)
    return program.command(build(program, fixed=fixed, static=static, directory=directory))


def target(program: Program, directory: Path, *, fixed: bool) -> Target:
    """What `uvm race` would be given. Of an interpreter with a module, the module counts."""
    arguments = command(program, directory, fixed=fixed)
    only = (f"{program.name}.so",) if program.module else ()
    return Target(arguments, ENVIRONMENT, str(directory), only=only)
