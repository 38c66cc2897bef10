"""From the start of a program to its end: in a warm machine, and with the machine's own start."""

from __future__ import annotations

import subprocess
import sys
from subprocess import DEVNULL, PIPE
from time import perf_counter_ns

from uvm_async.bench.contest import Bound, Contestant, Result
from uvm_async.bench.figures import Plan
from uvm_async.errors import MachineError

PYTHON = ("/usr/bin/python3", "-c", "print(1)")
HOST_OF_PYTHON = 4.5
TIMEOUT = 120.0
IMPORTS = "import uvloop, uvm_async.cli.run, uvm_async.machine; uvm_async.machine.load_all()"


def in_machine(plan: Plan, *argv: str) -> Contestant:
    """A program in the warm machine, right after another run of it."""

    async def once() -> float:
        start = perf_counter_ns()
        done = await plan.machine.run(argv, timeout=TIMEOUT)
        if done.returncode:
            raise MachineError(f"{argv[0]} ended with {done.returncode} in the machine")
        return float(perf_counter_ns() - start)

    async def take() -> list[float]:
        await once()
        return [await once()]

    return Contestant("guest", take)


def on_host(name: str, *argv: str) -> Contestant:
    """A program on the host, right after another run of it. The loop stands still meanwhile:
    nothing of ours is in the way."""

    def once() -> float:
        start = perf_counter_ns()
        subprocess.run(argv, stdin=DEVNULL, stdout=PIPE, check=True, timeout=TIMEOUT)
        return float(perf_counter_ns() - start)

    async def take() -> list[float]:
        once()
        return [once()]

    return Contestant(name, take)


async def measure(plan: Plan) -> list[Result]:
    """Python's start, and `uvm run -- busybox true` with what of it are imports."""
    rounds, plan.rounds = plan.rounds, max(plan.rounds, plan.count(15))
    python = await plan.compete(
        "python",
        "python3 -c 'print(1)', warm machine",
        [in_machine(plan, *PYTHON), on_host("host", *PYTHON)],
        Bound("host", HOST_OF_PYTHON),
    )
    command = [sys.executable, "-m", "uvm_async.cli.main", "run", "--", "busybox", "true"]
    run = await plan.compete(
        "uvm run",
        "uvm run -- busybox true, start to end",
        [
            on_host("uvm run", *command),
            on_host("imports", sys.executable, "-c", IMPORTS),
            on_host("interpreter", sys.executable, "-c", "pass"),
            on_host("host", "busybox", "true"),
        ],
    )
    whole = run.samples["uvm run"].p50
    ours = run.samples["imports"].p50 - run.samples["interpreter"].p50
    run.notes["share of imports"] = round(ours / whole, 3)
    plan.rounds = rounds
    return [python, run]
