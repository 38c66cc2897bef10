"""Fair by virtual runtime.

Linux: kernel/sched/fair.c, before EEVDF.  Each task's virtual runtime grows as it
runs, slower the higher its weight; who has least runs next.  A sleeper comes back
with at most half a latency period of credit.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final

from uvm_async.sched.policies.base import Policy, policy

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

__all__ = ["Fair"]

LATENCY_NS: Final = 24_000_000
WAKEUP_GRANULARITY_NS: Final = 1_000_000
NICE_0_WEIGHT: Final = 1024


def weight(nice: int) -> float:
    """A nice level is a factor of 1.25 (sched(7))."""
    return float(NICE_0_WEIGHT / 1.25**nice)


@policy("fair")
class Fair(Policy):
    """The default."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.heap: list[tuple[int, int, Task]] = []
        self.min_vruntime_ns = 0
        self.sequence = 0

    def enqueue(self, task: Task, *, woken: bool, preempted: bool) -> None:
        if woken:
            task.vruntime_ns = max(task.vruntime_ns, self.min_vruntime_ns - LATENCY_NS // 2)
        elif not task.vruntime_ns:
            task.vruntime_ns = self.min_vruntime_ns
        self.sequence += 1
        heapq.heappush(self.heap, (task.vruntime_ns, self.sequence, task))

    def pick_next(self) -> Task | None:
        if not self.heap:
            return None
        vruntime_ns, _, task = heapq.heappop(self.heap)
        self.min_vruntime_ns = max(self.min_vruntime_ns, vruntime_ns)
        return task

    def __len__(self) -> int:
        return len(self.heap)

    def ran(self, task: Task, delta_ns: int) -> None:
        if task.nice:
            delta_ns = int(delta_ns * NICE_0_WEIGHT / weight(task.nice))
        task.vruntime_ns += delta_ns

    def tick(self, task: Task) -> bool:
        return bool(self.heap) and self.heap[0][0] < task.vruntime_ns

    def wakeup_preempt(self, running: Task, woken: Task) -> bool:
        return woken.vruntime_ns + WAKEUP_GRANULARITY_NS < running.vruntime_ns
