"""Round robin and FIFO with priorities.

Linux: kernel/sched/rt.c (SCHED_RR, SCHED_FIFO); sched(7).
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from uvm_async.sched.policies.base import Policy, policy

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

__all__ = ["Fifo", "RoundRobin"]


@policy("rr")
class RoundRobin(Policy):
    """Each in turn, for one tick."""


@policy("fifo")
class Fifo(Policy):
    """The highest priority (lowest nice value) first; a task runs until it sleeps or a higher one
    wakes."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.heap: list[tuple[int, int, Task]] = []
        self.sequence = 0

    def enqueue(self, task: Task, *, woken: bool, preempted: bool) -> None:
        self.sequence += 1
        # One that was made to give way goes before its equals (sched(7)).
        order = -self.sequence if preempted else self.sequence
        heapq.heappush(self.heap, (task.nice, order, task))

    def pick_next(self) -> Task | None:
        return heapq.heappop(self.heap)[2] if self.heap else None

    def __len__(self) -> int:
        return len(self.heap)

    def tick(self, task: Task) -> bool:
        return bool(self.heap) and self.heap[0][0] < task.nice

    def wakeup_preempt(self, running: Task, woken: Task) -> bool:
        return woken.nice < running.nice
