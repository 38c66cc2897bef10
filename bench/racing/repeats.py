"""Each wrong example fails again and again in the same way, trace hash for trace hash.

Two promises.  A failing schedule, found and made short as the command does and read back
from its file, gives the same failure in each of so many replays, and one hash of traps
and accesses.  And so many sessions of their own, with one seed, make the same executions.
"""

from __future__ import annotations

import time
from pathlib import Path

from racing.examples import Program, target
from racing.ledger import Cell, Table
from uvm_async.race.engine import Target
from uvm_async.race.explore import Options, explore, replay
from uvm_async.race.failure import Failure
from uvm_async.race.model import Result
from uvm_async.race.session import Session

__all__ = ["repeats"]

SCHEDULES = 2_000
"""Within which the default strategy finds a failure of each."""
FIRST = 15
"""Executions of each session: some of them come after profiling, which takes twelve at most."""

Hashes = tuple[str, int]
"""Of the machine's traps; of all accesses."""


def hashes(session: Session) -> Hashes:
    """Of the execution that has just ended."""
    machine = session.engine.machine
    return machine.trace_hash, int(machine.area.race.hash)


async def found(what: Target, seed: int, directory: Path) -> Failure | None:
    """The first failure, short, from its file."""
    options = Options(schedules=SCHEDULES, seed=seed, share_loop=False)
    async for failure in explore(what, options):
        return Failure.load(failure.save(str(directory)))
    return None


async def replayed(failure: Failure, runs: int) -> tuple[int, set[Hashes]]:
    """In how many of `runs` replays it is the same failure; the hashes that there were."""
    seen: set[Hashes] = set()

    def look(session: Session, result: Result) -> None:
        seen.add(hashes(session))

    wanted = (
        failure.why, failure.status, failure.stdout, failure.stderr,
        dict(failure.schedule.switches), failure.preemptions,
    )  # fmt: skip
    results = await replay(failure, times=runs, inspect=look)
    same = sum(
        wanted == (r.failure, r.status, r.stdout, r.stderr, r.switches, r.preemptions)
        for r in results
    )
    return same, seen


async def begun(what: Target, seed: int) -> tuple[Hashes, ...]:
    """The first executions of a session."""
    async with Session(what, seed=seed, share_loop=False) as session:
        seen = []
        for _ in range(FIRST):
            await session.next()
            seen.append(hashes(session))
        return tuple(seen)


def repeats(directory: Path, *, runs: int, seed: int = 1) -> Table:
    """`runs` replays, and `runs` sessions."""

    async def measure(program: Program, column: str) -> Cell:
        what = target(program, directory, fixed=False)
        start = time.monotonic()
        failure = await found(what, seed, directory)
        if failure is None:
            return {"found_at": None, "ok": False}
        same, traces = await replayed(failure, runs)
        sessions = {await begun(what, seed) for _ in range(runs)}
        return {
            "found_at": failure.execution,
            "failure": failure.why,
            "preemptions": failure.preemptions,
            "switches": len(failure.schedule.switches),
            "replays": runs,
            "same_failure": same,
            "trace_hashes": len(traces),
            "sessions": runs,
            "session_hashes": len(sessions),
            "s": round(time.monotonic() - start, 1),
            "ok": same == runs and len(traces) == 1 and len(sessions) == 1,
        }

    return Table(("repeats",), {"runs": runs, "seed": seed}, measure, tell)


def tell(cell: Cell) -> str:
    """For the line on the terminal."""
    if cell["found_at"] is None:
        return f"NOT FOUND in {SCHEDULES} schedules"
    return ("holds" if cell["ok"] else "DIFFERS") + (
        ": {failure} {same_failure} of {replays} times, {trace_hashes} trace; "
        "{session_hashes} in {sessions} sessions; {s} s"
    ).format(**cell)
