"""What a watched access costs, and an execution.  The stub and the loop share one CPU."""

from __future__ import annotations

import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

from racing.examples import ENVIRONMENT
from uvm_async.bench.host import on_one_cpu
from uvm_async.race.engine import Limits, Target
from uvm_async.race.session import Session

__all__ = ["access", "rate"]

GUESTS = Path(__file__).parents[1] / "guests"
ACCESSES = 100_000
FAULTS = 200_000
WARM_UP = 20
EXECUTIONS = 100
ENDLESS = Limits(steps=1 << 40)
"""Nobody has to give way for having run for long."""
CASES = {
    "syscall": (("3", "3"), "syscall", "random:switch=0.1", 500),
    "1000 accesses": (("2", "146"), "conflict", "random:switch=0.02", 150),
}
"""Arguments of watched.c, granularity, strategy, executions a second that are wanted."""


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
    source = GUESTS / f"{name}.c"
    subprocess.run(["gcc", "-O1", "-static", "-pthread", "-o", out, source], check=True)
    return str(out)


def target(*words: str) -> Target:
    """In an environment that is the same everywhere."""
    return Target(words, ENVIRONMENT)


async def timed(session: Session, mode: str = "listed") -> tuple[float, int]:
    """Seconds of one execution, and accesses that were watched in it."""
    start = time.perf_counter()
    await session.engine.execute(Forever(), mode=mode)
    return time.perf_counter() - start, int(session.engine.machine.area.race.watched)


async def access(directory: Path, rounds: int) -> dict[str, Any]:
    """A watched access beside the bare fault, interleaved."""
    bare = compiled("bare_fault", directory)
    program = compiled("watched", directory)
    ours: list[float] = []
    floor: list[float] = []
    with on_one_cpu(None):
        async with (
            Session(target(program, "2", str(ACCESSES)), strategy="random", limits=ENDLESS) as many,
            Session(target(program, "2", "1"), strategy="random", limits=ENDLESS) as few,
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


async def rate(directory: Path, rounds: int) -> dict[str, Any]:
    """Executions a second."""
    program = compiled("watched", directory)
    found: dict[str, Any] = {}
    for name, (words, granularity, strategy, wants) in CASES.items():
        with on_one_cpu(None):
            async with Session(
                target(program, *words), strategy=strategy, granularity=granularity,
                share_loop=False,
            ) as session:  # fmt: skip
                for _ in range(WARM_UP):
                    await session.next()
                rates = [await _executions_per_s(session) for _ in range(rounds)]
                machine = session.engine.machine
                found[name] = {
                    "executions_per_s": round(statistics.median(rates)),
                    "best": round(max(rates)),
                    "traps": machine.kernel.sched.traps - session.engine.traps_before,
                    "watched_accesses": int(machine.area.race.watched),
                    "wants": wants,
                }
    return found


async def _executions_per_s(session: Session) -> float:
    start = time.perf_counter()
    for _ in range(EXECUTIONS):
        await session.next()
    return EXECUTIONS / (time.perf_counter() - start)
