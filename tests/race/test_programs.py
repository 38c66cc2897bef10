"""The example programs build everywhere, and the right ones are right on the host too.

That each wrong one fails needs a schedule, which the host does not promise.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from race.corpus import (
    FAILURES,
    LARGER_DIR,
    OPTIMISATIONS,
    PROGRAMS_DIR,
    Program,
    all_programs,
    build,
    larger_programs,
    program_named,
)

PROGRAMS = [*all_programs(), *larger_programs()]
RUNS = 20

# Each way to optimise with and without -g, static and dynamic, spread over the programs:
# of any two of these choices every pair occurs for every fourth program at least.
WAYS = [
    [
        (optimise, bool((index + number) & 1), bool((index + number) & 2))
        for number, optimise in enumerate(OPTIMISATIONS)
    ]
    for index in range(4)
]


def ways_of(program: Program) -> list[tuple[str, bool, bool]]:
    """(optimise, debug, static) in which the tests build it."""
    return WAYS[PROGRAMS.index(program) % len(WAYS)]


def build_all(program: Program, directory: Path, *, fixed: bool) -> list[Path]:
    return [
        build(
            program,
            fixed=fixed,
            optimise=optimise,
            debug=debug,
            static=static,
            directory=directory,
        )
        for optimise, debug, static in ways_of(program)
    ]


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_wrong_and_right_build_at_every_optimisation_and_differ(
    program: Program, directory: Path
) -> None:
    wrong = build_all(program, directory, fixed=False)
    right = build_all(program, directory, fixed=True)
    for one, other in zip(wrong, right, strict=True):
        assert one.read_bytes() != other.read_bytes(), f"{one.name}: FIXED changes nothing"


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_right_one_succeeds_on_the_host_every_time(program: Program, directory: Path) -> None:
    built = build_all(program, directory, fixed=True)
    outputs: Counter[str] = Counter()
    for run in range(RUNS):
        ran = subprocess.run(
            program.command(built[run % len(built)]), capture_output=True, text=True, timeout=20
        )
        assert (ran.returncode, ran.stderr) == (0, "")
        outputs[ran.stdout] += 1
    assert len(outputs) == 1 and outputs.total() == RUNS
    assert next(iter(outputs)).count("\n") == 1


def test_every_pair_of_ways_to_build_occurs() -> None:
    built = [way for program in PROGRAMS if program.can_be_static for way in ways_of(program)]
    for debug in (False, True):
        for static in (False, True):
            assert any(way[1:] == (debug, static) for way in built)
        for optimise in OPTIMISATIONS:
            assert any(way[:2] == (optimise, debug) for way in built)
            assert any((way[0], way[2]) == (optimise, debug) for way in built)


def test_every_source_is_described() -> None:
    sources = {p for p in PROGRAMS_DIR.rglob("*") if p.suffix in (".c", ".cc")}
    assert {program.source for program in PROGRAMS} == sources
    assert len({program.name for program in PROGRAMS}) == len(PROGRAMS)
    for program in PROGRAMS:
        assert program.summary.endswith("."), program
        assert program.failures and set(program.failures) <= set(FAILURES), program
        assert 1 <= program.threads <= 20, program
        assert program.preemptions is None or 0 <= program.preemptions <= 4, program
        assert not program.module or (LARGER_DIR / program.module).exists(), program


def test_keys_of_the_first_comment_are_read(tmp_path: Path) -> None:
    source = tmp_path / "sample.cc"
    source.write_text(
        "/* A sum is wrong.\n *\n * fails: livelock assert\n * threads: 3\n"
        " * cflags: -mavx -mbmi\n * links: -lm\n * notes: one line\n *        and another\n */\n"
    )
    assert Program.read(source) == Program(
        source=source,
        summary="A sum is wrong.",
        failures=("livelock", "assert"),
        threads=3,
        cflags=("-mavx", "-mbmi"),
        links=("-lm",),
        notes="one line and another",
    )
    assert Program.read(source).failure == "livelock"
    assert Program.read(source).language == "c++"
    with pytest.raises(LookupError, match="no_such"):
        program_named("no_such")


def test_each_build_is_made_once(directory: Path) -> None:
    program = program_named("lost_update")
    first = build(program, fixed=False, directory=directory)
    made = first.stat().st_mtime_ns
    again = build(program, fixed=False, directory=directory)
    assert again == first and again.stat().st_mtime_ns == made


def test_counter_is_changed_by_one_add_instruction_when_optimised(directory: Path) -> None:
    """The example of a race within one instruction is none if the compiler splits it."""
    program = program_named("lost_update_add")
    for optimise in ("-O1", "-O2"):
        built = build(program, fixed=False, optimise=optimise, directory=directory)
        listed = subprocess.run(
            ["objdump", "-d", "--no-show-raw-insn", "--disassemble=count", str(built)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert len(re.findall(r"\b(?:add|inc)[lq]\b.*<counter>", listed)) == 1


def test_compilers_complaint_is_an_error_that_shows_it(tmp_path: Path) -> None:
    source = tmp_path / "sample.c"
    source.write_text(
        "/* Wrong.\n * fails: status\n * threads: 1\n */\nint main(void) { int x; }\n"
    )
    with pytest.raises(RuntimeError, match="unused variable"):
        build(Program.read(source), fixed=False, directory=tmp_path)
