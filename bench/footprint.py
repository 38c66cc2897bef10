"""What a task costs the host in memory: a blank stub.

Its own: private pages, page tables, kernel stack.  The fall of MemAvailable counts
the host kernel's other records too, and whatever else happened at the time.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from uvm_async.bench.contest import AGAIN, Result
from uvm_async.bench.figures import Plan
from uvm_async.bench.samples import Samples

STUBS = 200
SETTLE_S = 0.2
KERNEL_STACK_KIB = 16


def _available_kib() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable"):
            return int(line.split()[1])
    return 0


def _own_kib(pid: int) -> int:
    """Private pages, page tables and kernel stack of a process."""
    total = KERNEL_STACK_KIB
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_"):
            total += int(line.split()[1])
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmPTE"):
            total += int(line.split()[1])
    return total


async def measure(plan: Plan) -> list[Result]:
    """Each stub's own, and what the host has less of for each."""
    plan.progress("host memory per blank stub")
    family = plan.machine.kernel.family
    count = plan.count(STUBS)
    before, known = _available_kib(), dict(family.stubs)
    family.grow(count)
    while len(family.stubs) < len(known) + count:
        await asyncio.sleep(0.01)
    await asyncio.sleep(SETTLE_S)
    fresh = [stub for slot, stub in family.stubs.items() if slot not in known]
    whole = (before - _available_kib()) / len(fresh)
    own = Samples()
    own.add(float(_own_kib(stub.pid)) for stub in fresh)
    again = Samples()
    again.add(float(_own_kib(stub.pid)) for stub in fresh)
    result = Result(
        "footprint", "host memory per blank stub", {"stub": own, AGAIN: again}, unit="KiB"
    )
    result.notes["fall of MemAvailable per stub, KiB"] = round(whole, 1)
    return [result]
