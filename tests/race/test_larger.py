"""Larger programs: a pool of C++ threads, sqlite3 from threads, python3 with an extension."""

from __future__ import annotations

from pathlib import Path

import pytest

from race.corpus import Program, build, larger_programs
from uvm_async.race.engine import Target
from uvm_async.race.explore import Options, explore, replay

pytestmark = [
    pytest.mark.machine,
    pytest.mark.fixed_machine,
    pytest.mark.many_traps,
    pytest.mark.timeout(400),
]

BUDGET = 300
SURVIVES = 20
ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


def target_of(program: Program, directory: Path, *, fixed: bool) -> Target:
    built = build(program, fixed=fixed, static=False, directory=directory)
    only = (built.name,) if program.module else ()
    return Target(program.command(built), ENVIRONMENT, str(directory), only=only)


@pytest.mark.parametrize("program", larger_programs(), ids=str)
async def test_wrong_one_is_found_and_replayed(program: Program, directory: Path) -> None:
    target = target_of(program, directory, fixed=False)
    options = Options(schedules=BUDGET, seed=1, shrink_budget=60, share_loop=False)
    found = [failure async for failure in explore(target, options)]
    assert len(found) == 1, f"not found in {BUDGET} schedules"
    results = await replay(found[0], times=3)
    assert all(found[0].is_shown_by(result) for result in results)


@pytest.mark.parametrize("program", larger_programs(), ids=str)
async def test_right_one_survives(program: Program, directory: Path) -> None:
    target = target_of(program, directory, fixed=True)
    options = Options(schedules=SURVIVES, seed=1, share_loop=False)
    found = [failure async for failure in explore(target, options)]
    assert not found, (found[0].why, found[0].stderr)
