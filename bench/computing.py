"""A guest that computes and never calls: nothing of the machine should be felt."""

from __future__ import annotations

from uvm_async.bench.contest import Result
from uvm_async.bench.figures import Plan, micro_figure

MILLIONS = 60
"""Rounds of arithmetic, in millions: about a tenth of a second."""
IDLE_HOST = 0.99


async def measure(plan: Plan) -> list[Result]:
    """Alone; and two that share the vCPU, preempted at a tick of 100 Hz."""
    millions = plan.count(MILLIONS)
    alone = await micro_figure(
        plan, "compute", "computing, one task", 10, millions, most=1 / IDLE_HOST
    )
    both = await micro_figure(
        plan, "compute2", "computing, two tasks under the tick", 10, millions, most=1 / IDLE_HOST
    )
    return [alone, both]
