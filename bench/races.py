"""Figures of race exploration, kept as JSON.

    python bench/races.py [--json FILE] [--rounds N] [--part access|rate|finding]... [--seeds N]

access   a watched access without a switch, beside a bare fault (SIGSEGV in and out, C)
rate     executions a second on one core, small static pthread programs, whole kernel
finding  schedules and seconds to the first failure, for each example program and strategy,
         medians of --seeds seeds; beside running it on the host again and again

Stub and loop are kept on one CPU.  Takes minutes; `finding` with 20 seeds an hour or two.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "tests" / "race")]

import programs  # noqa: E402

from uvm_async.bench.host import facts  # noqa: E402
from uvm_async.race.engine import Target  # noqa: E402
from uvm_async.race.session import Session  # noqa: E402

STRATEGIES = ("random", "pct", "pos", "surw", "rff", "delay", "preemption", "mix")
CAP = 1_000
"""Schedules after which a search is given up."""
STRESS_RUNS = 200
ACCESSES = 100_000
FAULTS = 200_000


class Forever:
    """Whoever runs goes on, unasked."""

    def choose(self, point: Any) -> int:
        """Nobody is made to give way."""
        return int(point.current if point.current is not None else point.enabled[0])

    def lease(self) -> int:
        """For as long as it likes."""
        return 1 << 30


def compiled(name: str, directory: Path) -> str:
    """A program of guests/, static."""
    out = directory / name
    source = HERE / "guests" / f"{name}.c"
    subprocess.run(["gcc", "-O1", "-static", "-pthread", "-o", out, source], check=True)
    return str(out)


async def timed(session: Session, mode: str = "listed") -> tuple[float, int]:
    """Seconds of one execution, and accesses that were watched in it."""
    start = time.perf_counter()
    await session.engine.execute(Forever(), mode=mode)
    return time.perf_counter() - start, int(session.engine.machine.area.race.watched)


async def access(directory: Path, rounds: int, seeds: int) -> dict[str, Any]:
    """A watched access beside the bare fault, interleaved."""
    bare = compiled("bare_fault", directory)
    program = compiled("watched", directory)
    ours: list[float] = []
    floor: list[float] = []
    async with (
        Session(Target((program, "2", str(ACCESSES))), strategy="random") as many,
        Session(Target((program, "2", "1")), strategy="random") as few,
    ):
        for session in (many, few):
            for _ in range(2):
                await timed(session, "all")
                session.engine.learn()
            session.engine.machine.area.relist()
        for _ in range(rounds):
            done = subprocess.run([bare, str(FAULTS)], capture_output=True, check=True)
            floor.append(float(done.stdout))
            long_s, accesses = await timed(many)
            short_s, least = await timed(few)
            ours.append((long_s - short_s) * 1e9 / (accesses - least))
    ratio = statistics.median(a / b for a, b in zip(ours, floor, strict=True))
    return {
        "watched_access_ns": round(statistics.median(ours), 1),
        "bare_fault_ns": round(statistics.median(floor), 1),
        "ratio": round(ratio, 3),
        "wants": 1.15,
    }


async def rate(directory: Path, rounds: int, seeds: int) -> dict[str, Any]:
    """Executions a second."""
    program = compiled("watched", directory)
    cases = {
        "syscall": (("3", "3"), "syscall", "random:switch=0.1", 500),
        "1000 accesses": (("2", "146"), "conflict", "random:switch=0.02", 150),
    }
    found: dict[str, Any] = {}
    for name, (words, granularity, strategy, wants) in cases.items():
        async with Session(
            Target((program, *words)),
            strategy=strategy,
            granularity=granularity,
            share_loop=False,
        ) as session:
            for _ in range(20):
                await session.next()
            rates = []
            for _ in range(rounds):
                start = time.perf_counter()
                for _ in range(100):
                    await session.next()
                rates.append(100 / (time.perf_counter() - start))
            machine = session.engine.machine
            found[name] = {
                "executions_per_s": round(statistics.median(rates)),
                "best": round(max(rates)),
                "calls": machine.kernel.sched.traps,
                "watched_accesses": int(machine.area.race.watched),
                "wants": wants,
            }
    return found


async def first_failure(program: str, strategy: str, seed: int) -> tuple[int | None, float]:
    """Schedules and seconds until it fails; None: not within CAP."""
    start = time.perf_counter()
    async with Session(
        Target((program,)), strategy=strategy, seed=seed, share_loop=False
    ) as session:
        for _ in range(CAP):
            result = await session.next()
            if result.failure:
                return session.executions, time.perf_counter() - start
            if session.finished:
                break
    return None, time.perf_counter() - start


def stress(program: str) -> dict[str, Any]:
    """Run it on the host, as it is."""
    failures = 0
    start = time.perf_counter()
    for _ in range(STRESS_RUNS):
        try:
            done = subprocess.run([program], capture_output=True, timeout=2, check=False)
            failures += done.returncode != 0
        except subprocess.TimeoutExpired:
            failures += 1
        if time.perf_counter() - start > 20:
            break
    return {"failures": failures, "runs": STRESS_RUNS, "s": round(time.perf_counter() - start, 2)}


async def finding(directory: Path, rounds: int, seeds: int) -> dict[str, Any]:
    """Schedules to the first failure."""
    found: dict[str, Any] = {}
    for program in programs.all_programs():
        built = str(programs.build(program, fixed=False, directory=directory))
        row: dict[str, Any] = {"stress": stress(built)}
        for strategy in STRATEGIES:
            outcomes = [await first_failure(built, strategy, seed) for seed in range(seeds)]
            counts = sorted(n if n is not None else CAP + 1 for n, _ in outcomes)
            row[strategy] = {
                "schedules": statistics.median(counts),
                "s": round(statistics.median(s for _, s in outcomes), 3),
                "missed": sum(n is None for n, _ in outcomes),
            }
        found[program.name] = row
        line = " ".join(f"{s}={row[s]['schedules']:g}" for s in STRATEGIES)
        print(f"{program.name:24} {line}", file=sys.stderr, flush=True)
    return found


PARTS: dict[str, Callable[[Path, int, int], Awaitable[dict[str, Any]]]] = {
    "access": access,
    "rate": rate,
    "finding": finding,
}


async def run(parts: list[str], rounds: int, seeds: int) -> dict[str, Any]:
    """All parts asked for."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as directory:
        for part in parts:
            results[part] = await PARTS[part](Path(directory), rounds, seeds)
            print(part, json.dumps(results[part], indent=1), flush=True)
    return results


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description="Figures of race exploration.")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--part", action="append", choices=sorted(PARTS))
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        results = runner.run(run(options.part or list(PARTS), options.rounds, options.seeds))
    if options.json is not None:
        options.json.write_text(json.dumps({"host": facts(), **results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
