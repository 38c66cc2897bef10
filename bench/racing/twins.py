"""Each right twin under many schedules of the default strategy: none may fail."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from racing.examples import Program, target
from racing.ledger import Cell, Table
from uvm_async.race.explore import Options, Progress, explore
from uvm_async.race.failure import Failure

__all__ = ["twins"]


def twins(
    directory: Path, *, schedules: int, seconds: float | None, jobs: int, seed: int = 1
) -> Table:
    """`schedules` each, less where `seconds` end it, in `jobs` processes."""

    async def measure(program: Program, column: str) -> Cell:
        what = target(program, directory, fixed=True)
        options = Options(schedules=schedules, seconds=seconds, seed=seed, jobs=jobs)
        progress = Progress()
        start = time.monotonic()
        failures = [failure async for failure in explore(what, options, progress)]
        for failure in failures:
            show(program, failure, directory)
        return {
            "schedules": progress.schedules,
            "interleavings": progress.interleavings,
            "s": round(time.monotonic() - start, 1),
            "failures": [failure.why for failure in failures],
            "ok": not failures,
        }

    # How many there were stands in each cell; a limit of time may be another for a slow program.
    return Table(("twin",), {"schedules": schedules, "seed": seed}, measure, tell)


def show(program: Program, failure: Failure, directory: Path) -> None:
    """A right program that fails: all there is to know, since somebody has to look into it."""
    print(
        f"{program.name}, the right one, fails: {failure.why} {failure.detail}\n"
        f"  schedule {failure.execution}, shortened to switches {dict(failure.schedule.switches)}\n"
        f"  standard error: {failure.stderr.decode(errors='replace').strip()}\n"
        f"  replay file (with --keep it stays): {failure.save(str(directory))}",
        file=sys.stderr,
    )


def tell(cell: Cell) -> str:
    """For the line on the terminal."""
    how = "FAILS" if cell["failures"] else "holds"
    return how + ": {schedules} schedules, {interleavings} interleavings, {s} s".format(**cell)
