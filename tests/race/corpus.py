"""Example programs for race exploration: C and C++ files of a page, wrong and right in one.

Each file is wrong as it stands and right with `-DFIXED`.  The first line of its first
comment says what is wrong.  Lines `key: words` below it:

    fails: livelock assert        how the wrong one fails; the usual way first
                                  assert: SIGABRT by assert(); signal: another death by signal,
                                  or glibc's own SIGABRT; status: an exit status that is not 0;
                                  deadlock: all sleep for ever; livelock: some spin for ever
    threads: 2                    tasks (threads and processes) beside the first
    preemptions: 1                the fewest switches away from a task that could have gone on
                                  with which it fails
    cflags: -mavx                 more flags for the compiler
    links: -lsqlite3              more flags for the linker; such a program is always dynamic
    module: driver.py             it is an extension of /usr/bin/python3, run by this file beside it
    notes: words                  what else one should know (may go on in indented lines)
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = [
    "FAILURES",
    "LARGER_DIR",
    "OPTIMISATIONS",
    "PROGRAMS_DIR",
    "Program",
    "all_programs",
    "build",
    "larger_programs",
    "program_named",
]

PROGRAMS_DIR = Path(__file__).resolve().parent / "programs"
LARGER_DIR = PROGRAMS_DIR / "larger"
PYTHON = "/usr/bin/python3"
"""The interpreter that extension modules are built for: Debian's, with python3-dev."""

FAILURES = ("assert", "signal", "status", "deadlock", "livelock")
OPTIMISATIONS = ("-O0", "-O1", "-O2")
COMPILERS = {"c": ("gcc", "-std=gnu17"), "c++": ("g++", "-std=gnu++17")}
CFLAGS = ("-pthread", "-Wall", "-Wextra", "-Werror")

_KEY = re.compile(
    r"^ \* (fails|threads|preemptions|cflags|links|module|notes): (.*(?:\n \*   +(?! ).*)*)", re.M
)


@dataclass(frozen=True, slots=True)
class Program:
    """One file of tests/race/programs."""

    source: Path
    summary: str
    failures: tuple[str, ...]
    """Members of FAILURES, the usual one first."""
    threads: int
    """Tasks beside the first."""
    preemptions: int | None = None
    cflags: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    module: str = ""
    """Name of the Python program beside `source` that runs it, if it is an extension module."""
    notes: str = ""

    @property
    def name(self) -> str:
        return self.source.stem

    def __str__(self) -> str:
        return self.name

    @property
    def failure(self) -> str:
        """How it usually fails."""
        return self.failures[0]

    @property
    def language(self) -> str:
        """ "c" or "c++"."""
        return "c" if self.source.suffix == ".c" else "c++"

    @property
    def can_be_static(self) -> bool:
        """Extension modules and what links a library of the system are dynamic only."""
        return not self.links and not self.module

    def command(self, built: Path) -> tuple[str, ...]:
        """The arguments that run what `build` has built."""
        if not self.module:
            return (str(built),)
        return (PYTHON, "-IB", str(self.source.with_name(self.module)), str(built.parent))

    @classmethod
    def read(cls, source: Path) -> Program:
        """The program as its first comment describes it. Raises KeyError if a key is missing."""
        text = source.read_text()
        comment = text[: text.index("*/")]
        values = {key: re.sub(r"\s*\n \*\s*", " ", value) for key, value in _KEY.findall(comment)}
        preemptions = values.get("preemptions")
        return cls(
            source=source,
            summary=comment.splitlines()[0].removeprefix("/*").strip(),
            failures=tuple(values["fails"].split()),
            threads=int(values["threads"]),
            preemptions=None if preemptions is None else int(preemptions),
            cflags=tuple(values.get("cflags", "").split()),
            links=tuple(values.get("links", "").split()),
            module=values.get("module", ""),
            notes=values.get("notes", "").strip(),
        )


def _programs_in(folder: Path) -> list[Program]:
    return [Program.read(path) for path in sorted([*folder.glob("*.c"), *folder.glob("*.cc")])]


def all_programs() -> list[Program]:
    """The small ones, by name; C before C++ of the same name."""
    return _programs_in(PROGRAMS_DIR)


def larger_programs() -> list[Program]:
    """Those that use much code that is not theirs: the standard library, sqlite3, CPython."""
    return _programs_in(LARGER_DIR)


def program_named(name: str) -> Program:
    """`name` without its suffix, small or larger."""
    for program in (*all_programs(), *larger_programs()):
        if program.name == name:
            return program
    raise LookupError(f"no program called {name!r} in {PROGRAMS_DIR}")


@cache
def _python_include() -> str:
    """Where PYTHON's headers are."""
    asked = [PYTHON, "-Ic", "import sysconfig; print(sysconfig.get_path('include'))"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def build(
    program: Program,
    *,
    fixed: bool,
    optimise: str = "-O1",
    debug: bool = True,
    static: bool = True,
    directory: Path,
) -> Path:
    """The executable (the shared object, of an extension module); compiled at the first call.

    One that cannot be static is built dynamic. Raises RuntimeError if the compiler complains.
    """
    static = static and program.can_be_static
    parts = [program.name, "fixed" if fixed else "wrong", optimise.lstrip("-")]
    parts += ["g"] * debug + ["static" if static else "dynamic"]
    built = directory / "-".join(parts)
    if program.module:
        # Python imports it by its file's name.
        built = built / f"{program.name}.so"
        built.parent.mkdir(exist_ok=True)
    if built.exists():
        return built
    part = built.with_name(f"{built.name}.{os.getpid()}")  # workers may build the same one
    command = [*COMPILERS[program.language], *CFLAGS, optimise, *["-g"] * debug]
    command += ["-DFIXED"] * fixed + ["-static"] * static
    if program.module:
        command += ["-shared", "-fPIC", "-isystem", _python_include()]
    command += [*program.cflags, str(program.source), "-o", str(part), *program.links]
    compiled = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if compiled.returncode or compiled.stderr:
        raise RuntimeError(f"{' '.join(command)}\n{compiled.stderr}")
    part.rename(built)
    return built
