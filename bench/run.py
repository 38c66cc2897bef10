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

Part = Callable[[Plan], Awaitable[list[Result]]]

PARTS: dict[str, tuple[Part, dict[str, Any]]] = {
    "syscall": (BENCHES["syscall"], {}),
    "syscall-signal": (BENCHES["syscall"], {"transport": "signal"}),
    "switch": (BENCHES["switch"], {"policy": "rr", "memory": "1G"}),
    "fork": (BENCHES["fork"], {}),
    "fault": (BENCHES["fault"], {}),
    "start": (starting.measure, {}),
    "computing": (computing.measure, {}),
    "loop": (loops.measure, {}),
    "footprint": (footprint.measure, {}),
    "disk": (disks.measure, {"memory": disks.GUEST_MEMORY}),
}
"""By name: what measures it, and in what machine."""
ON_ASYNCIO = "syscall"


async def measure(part: Part, options: dict[str, Any], args: argparse.Namespace) -> list[Result]:
    """One part, in a machine of its own."""
    async with AsyncExitStack() as stack:
        if part is disks.measure:
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
        return await part(plan)


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
        for name, (part, machine_options) in PARTS.items():
            if args.only and name not in args.only:
                continue
            results += uvloop.run(measure(part, machine_options, args))
            if name == ON_ASYNCIO:
                results += _renamed(asyncio.run(measure(part, machine_options, args)), "asyncio")
            if name == "syscall-signal":
                _renamed(results[-1:], "signal")
    print(report.text(results))
    if args.json:
        Path(args.json).write_text(report.as_document(host, options, results))


def _renamed(results: list[Result], how: str) -> list[Result]:
    for result in results:
        result.name += f" {how}"
        result.what += f", {how}"
    return results


if __name__ == "__main__":
    main()
