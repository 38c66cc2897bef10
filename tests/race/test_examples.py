"""Every wrong example is found, replayed and shrunk; no right one is ever accused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from race.corpus import OPTIMISATIONS, Program, all_programs, build
from uvm_async.race.engine import Target
from uvm_async.race.explore import Options, explore, replay
from uvm_async.race.failure import Failure
from uvm_async.race.model import Result
from uvm_async.race.session import Checks, Session

pytestmark = [pytest.mark.machine, pytest.mark.fixed_machine, pytest.mark.many_traps]

PROGRAMS = all_programs()
SEED = 1
BUDGET = 2_000
"""Schedules within which the default strategy finds each; all but a few need less than 100."""
REPLAYS = 20
SURVIVES = 300
SURVIVES_UNACCUSED = 60
ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


def way_of(program: Program, *, fixed: bool) -> tuple[str, bool, bool]:
    """(optimise, debug, static): every pair of these occurs for some wrong and some right one."""
    at = PROGRAMS.index(program) + (5 if fixed else 0)
    return OPTIMISATIONS[at % len(OPTIMISATIONS)], bool(at & 1), bool(at & 2)


def target_of(program: Program, directory: Path, *, fixed: bool) -> Target:
    optimise, debug, static = way_of(program, fixed=fixed)
    built = build(
        program, fixed=fixed, optimise=optimise, debug=debug, static=static, directory=directory
    )
    return Target(program.command(built), ENVIRONMENT, str(directory))


def kind_of(failure: Failure) -> str:
    """The failure in the words of the examples' headers."""
    if failure.why in ("deadlock", "livelock"):
        return failure.why
    if failure.why.startswith("exit status"):
        return "status"
    if failure.why == "SIGABRT" and b"Assertion" in failure.stderr:
        return "assert"
    assert failure.why.startswith("SIG"), failure.why
    return "signal"


async def hashes_of(failure: Failure, times: int) -> list[tuple[Result, tuple[str, int]]]:
    """Replays: each with the hash of the machine's traps and that of all accesses."""
    seen: list[tuple[str, int]] = []

    def look(session: Session, result: Result) -> None:
        machine = session.engine.machine
        seen.append((machine.trace_hash, int(machine.area.race.hash)))

    results = await replay(failure, times=times, inspect=look)
    return list(zip(results, seen, strict=True))


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
async def test_wrong_one_is_found_replayed_and_shrunk(
    program: Program, directory: Path, tmp_path: Path
) -> None:
    target = target_of(program, directory, fixed=False)
    found = [failure async for failure in explore(target, Options(schedules=BUDGET, seed=SEED))]
    assert len(found) == 1, f"not found in {BUDGET} schedules"
    assert kind_of(found[0]) in program.failures
    assert found[0].preemptions <= 4
    assert len(found[0].schedule.switches) <= 4 + program.threads

    path = found[0].save(str(tmp_path))
    failure = Failure.load(path)
    assert failure == dataclasses.replace(found[0], path=path)
    replays = await hashes_of(failure, REPLAYS)
    for result, _ in replays:
        assert (result.failure, result.stdout, result.stderr, result.status) == (
            failure.why, failure.stdout, failure.stderr, failure.status,
        )  # fmt: skip
        assert result.switches == dict(failure.schedule.switches)
        assert result.preemptions == failure.preemptions
    assert len({hashes for _, hashes in replays}) == 1


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
async def test_right_one_never_fails(program: Program, directory: Path) -> None:
    target = target_of(program, directory, fixed=True)
    options = Options(schedules=SURVIVES, seed=SEED, shrink=False)
    assert [failure.why async for failure in explore(target, options)] == []


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
async def test_right_one_is_never_accused_of_a_race(program: Program, directory: Path) -> None:
    target = target_of(program, directory, fixed=True)
    options = Options(
        schedules=SURVIVES_UNACCUSED, seed=SEED, shrink=False, checks=Checks(fail_on_race=True)
    )
    assert [failure.why async for failure in explore(target, options)] == []


def test_every_pair_of_ways_to_build_occurs() -> None:
    for fixed in (False, True):
        ways = [way_of(program, fixed=fixed) for program in PROGRAMS if program.can_be_static]
        for one in range(3):
            for other in range(one):
                pairs = {(way[other], way[one]) for way in ways}
                assert len(pairs) == len({a for a, _ in pairs}) * len({b for _, b in pairs})
