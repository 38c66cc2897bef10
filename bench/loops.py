"""How late the embedder's loop runs while a guest computes on its CPU."""

from __future__ import annotations

import asyncio
from time import perf_counter_ns

from uvm_async.bench.contest import Contestant, Result
from uvm_async.bench.figures import Plan

PERIOD_S = 0.001
SLEEPS = 500


async def _delays(count: int) -> list[float]:
    delays = []
    for _ in range(count):
        start = perf_counter_ns()
        await asyncio.sleep(PERIOD_S)
        delays.append(max(0.0, perf_counter_ns() - start - PERIOD_S * 1e9))
    return delays


async def measure(plan: Plan) -> list[Result]:
    """Sleeps of a millisecond: by how much they are late."""
    count = plan.count(SLEEPS)

    async def computing() -> list[float]:
        spinner = await plan.machine.create_subprocess_exec(plan.programs.micro, "spin")
        try:
            return await _delays(count)
        finally:
            spinner.kill()
            await spinner.wait()

    return [
        await plan.compete(
            "loop delay",
            "delay of the embedder's loop, a guest computing",
            [Contestant("computing", computing), Contestant("idle", lambda: _delays(count))],
        )
    ]
