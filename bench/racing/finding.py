"""Schedules and seconds to the first failure, of each wrong example, strategy and seed.

A search ends with the first failure, after a number of schedules, after some seconds,
or when a systematic strategy has made every schedule it promises.  One that has found
nothing counts as longer than any that has: with more than half of them the median says
"more than the cap" (cap + 1).  Mean, least and most are of those that found it, and
`missed` says how many did not; `s` is the median of all searches' seconds; `each` has the
schedules by seed, null where nothing was found.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from racing.examples import Program, target
from racing.ledger import Cell, Table
from uvm_async.bench.host import on_one_cpu
from uvm_async.race.engine import Target
from uvm_async.race.session import Session

__all__ = ["STRATEGIES", "finding"]

STRATEGIES = ("random", "pct", "pos", "surw", "rff", "delay", "preemption", "mix")
SIZE = "size"
SIZING = 50
"""Executions from which the size of a program is taken."""


@dataclass(frozen=True, slots=True)
class Search:
    """How one search ended."""

    schedules: int
    seconds: float
    found: bool
    covered: bool = False
    """The strategy had nothing more to try."""


async def first_failure(what: Target, strategy: str, seed: int, cap: int, cap_s: float) -> Search:
    """Search until it fails, or a cap is reached."""
    start = time.perf_counter()
    async with Session(what, strategy=strategy, seed=seed, share_loop=False) as session:
        while session.executions < cap and time.perf_counter() - start < cap_s:
            result = await session.next()
            if result.failure:
                return Search(session.executions, time.perf_counter() - start, True)
            if session.finished:
                break
        return Search(
            session.executions, time.perf_counter() - start, False, covered=session.finished
        )


def in_figures(searches: list[Search], cap: int) -> Cell:
    """What is kept of a cell's searches, by seed."""
    found = [search.schedules for search in searches if search.found]
    return {
        "schedules": statistics.median([*found, *[cap + 1] * (len(searches) - len(found))]),
        "mean": round(statistics.fmean(found), 2) if found else None,
        "min": min(found, default=None),
        "max": max(found, default=None),
        "s": round(statistics.median(search.seconds for search in searches), 3),
        "missed": len(searches) - len(found),
        "covered": sum(search.covered for search in searches),
        "out_of_time": sum(
            not search.found and not search.covered and search.schedules < cap
            for search in searches
        ),
        "each": [search.schedules if search.found else None for search in searches],
    }


async def size(what: Target) -> Cell:
    """Tasks, choice points and shared words, under random choices."""
    async with Session(what, strategy="random", share_loop=False) as session:
        steps = [(await session.next()).steps for _ in range(SIZING)]
        return {
            "threads": session.profile.tasks,
            "steps": statistics.median(steps),
            "words": session.words,
        }


def finding(
    directory: Path, strategies: tuple[str, ...], *, seeds: int, schedules: int, seconds: float
) -> Table:
    """`schedules` and `seconds` are the caps of a search."""

    async def measure(program: Program, column: str) -> Cell:
        what = target(program, directory, fixed=False)
        with on_one_cpu(None):
            if column == SIZE:
                return await size(what)
            searches = [
                await first_failure(what, column, seed, schedules, seconds) for seed in range(seeds)
            ]
        return in_figures(searches, schedules)

    return Table(
        (SIZE, *strategies),
        {"seeds": seeds, "schedules": schedules, "seconds": seconds},
        measure,
        tell,
    )


def tell(cell: Cell) -> str:
    """For the line on the terminal."""
    if "threads" in cell:
        return "{threads} threads, {steps:g} choice points, {words} words".format(**cell)
    return "median {schedules:g}, mean {mean}, {min} to {max}, missed {missed}, {s} s".format(
        **cell
    )
