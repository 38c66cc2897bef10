"""Every figure, in one run, kept as JSON.

    python bench/run.py [--json FILE] [--scale X] [--rounds N] [--only NAME]...

The parts of `uvm bench` (uvm_async/bench), on uvloop and, for the null call, on the
standard loop; and what stands in this directory: the start of programs, computing,
disks, memory per task, and the delay of the embedder's loop.  Minutes; best on a
machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).parent))

import computing
import disks
import footprint
import loops
import starting

from uvm_async.bench import report
from uvm_async.bench.build import Programs
from uvm_async.bench.contest import Result
from uvm_async.bench.figures import BENCHES, Plan
from uvm_async.bench.host import Ticks, facts, on_one_cpu
from uvm_async.machine import Machine

MANY_TASKS = 1000


@dataclass(frozen=True, slots=True)
class Part:
    """Some figures, and the machine and loop that they want."""

    measure: Callable[[Plan], Awaitable[list[Result]]]
    machine: dict[str, Any] = field(default_factory=dict)
    loop: str = "uvloop"
    suffix: str = ""
    """Added to the figures' names, where the same ones are measured twice."""


PARTS: dict[str, Part] = {
    "syscall": Part(BENCHES["syscall"]),
    "syscall-asyncio": Part(BENCHES["syscall"], loop="asyncio", suffix="asyncio"),
    "syscall-signal": Part(BENCHES["syscall"], {"transport": "signal"}, suffix="signal"),
    "switch": Part(BENCHES["switch"], {"policy": "rr", "memory": "1G"}),
    "fork": Part(BENCHES["fork"]),
    "fault": Part(BENCHES["fault"]),
    "start": Part(starting.measure),
    "computing": Part(computing.measure),
    "loop": Part(loops.measure),
    "footprint": Part(footprint.measure),
    "disk": Part(disks.measure, {"memory": disks.GUEST_MEMORY}),
}
RUNNERS: dict[str, Callable[[Any], list[Result]]] = {"uvloop": uvloop.run, "asyncio": asyncio.run}


async def measure(part: Part, args: argparse.Namespace) -> list[Result]:
    """One part, in a machine of its own."""
    async with AsyncExitStack() as stack:
        options = part.machine
        if part.measure is disks.measure:
            options = {**options, "disks": [stack.enter_context(disks.backing_file())]}
        machine = await stack.enter_async_context(Machine(**options))
        plan = Plan(
            machine,
            args.programs,
            args.ticks,
            args.rounds,
            args.scale,
            args.tasks,
            0,
            lambda what: print(f"... {what}", file=sys.stderr, flush=True),
        )
        results = await part.measure(plan)
    for result in results if part.suffix else ():
        result.name += f" {part.suffix}"
        result.what += f", {part.suffix}"
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tasks", type=int, default=MANY_TASKS)
    parser.add_argument("--cpu", type=int)
    parser.add_argument("--only", action="append", choices=sorted(PARTS))
    args = parser.parse_args()
    options = {k: v for k, v in vars(args).items() if k != "json"}
    results: list[Result] = []
    with Programs() as programs, on_one_cpu(args.cpu):
        host = facts()
        args.programs, args.ticks = programs, Ticks(programs.floor)
        for name, part in PARTS.items():
            if not args.only or name in args.only:
                results += RUNNERS[part.loop](measure(part, args))
    print(report.text(results))
    if args.json:
        Path(args.json).write_text(report.as_document(host, options, results))


if __name__ == "__main__":
    main()
