"""Seeded random choice at every trap: the policy of a controlled machine.

With a virtual clock, a run is a function of its inputs and this seed.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from uvm_async.sched.policies.base import Policy, policy

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

__all__ = ["RandomWalk"]

SWITCH_ONE_IN: Final = 4


@policy("random")
class RandomWalk(Policy):
    """Any runnable task may be next; whoever traps gives way one time in four."""

    controlled = True

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.runnable: list[Task] = []
        self.random = random.Random(seed)

    def enqueue(self, task: Task, *, woken: bool, preempted: bool) -> None:
        self.runnable.append(task)

    def pick_next(self) -> Task | None:
        if not self.runnable:
            return None
        if len(self.runnable) == 1:
            return self.runnable.pop()
        return self.runnable.pop(self.random.randrange(len(self.runnable)))

    def __len__(self) -> int:
        return len(self.runnable)

    def choice_point(self, task: Task) -> bool:
        return bool(self.runnable) and self.random.randrange(SWITCH_ONE_IN) == 0
