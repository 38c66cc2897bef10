"""POS, partial order sampling: random priorities on events, not on tasks.

Yuan, Yang, Gu, "Partial Order Aware Concurrency Sampling", CAV 2018.

Each pending event has a random priority, and the highest goes.  Then the task
that moved gets a fresh one for its next event, and so does every event that
conflicts with the one just executed.  The second is the point: among events that
race with one another every order is as likely as if they had been shuffled,
instead of a loser being pushed back by each later event that wins against it.

Guarantee: every partial order of an execution (Mazurkiewicz trace) has a
probability above zero, with a lower bound that its authors show to be
exponentially better than the random walk's.  It needs no estimate of the length
and has no parameter.

One thing is added: the end of a whole process (exit_group, mostly of a main thread that waits for
nobody) rarely goes first while others could go on.

No leases: the next event of the running task, hence its priority, is not known
before it stands there.  Only a task that is alone goes on unasked.
"""

from __future__ import annotations

import random
from typing import Final

from uvm_async.race.model import Point, Profile
from uvm_async.race.strategies.base import FOREVER, Strategy, strategy

__all__ = ["EventPriorities", "Pos"]


END: Final = 0.02
"""What the end of a whole process weighs beside other events: it conflicts with whatever its tasks
would still have done, and early on it cuts short rather than reorders."""


class EventPriorities:
    """A random number from 0 to 1 for each pending event, kept for as long as it pends."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._scores: dict[int, float] = {}

    def clear(self) -> None:
        """A new execution starts."""
        self._scores.clear()

    def update(self, point: Point, *, conflicts: bool) -> None:
        """Forget what has been executed, with `conflicts` also what conflicts; draw what lacks."""
        for event in point.executed:
            self._scores.pop(event.task, None)
        for task in list(self._scores):
            pending = point.pending.get(task)
            if task not in point.enabled or (
                conflicts
                and pending is not None
                and any(event.conflicts(pending) for event in point.executed)
            ):
                del self._scores[task]
        if len(point.enabled) == 1:  # no need of one, and a lease would not draw it
            return
        for task in point.enabled:
            if task not in self._scores:
                score = self._rng.random()
                ends = point.pending[task].call == "exit_group"
                self._scores[task] = score * END if ends else score

    def __getitem__(self, task: int) -> float:
        """Of the event before which the enabled `task` stands."""
        return self._scores[task]

    def highest(self, tasks: tuple[int, ...] | list[int]) -> int:
        """Whose pending event has the highest number; for a task that is alone, none is needed."""
        return max(tasks, key=self._scores.__getitem__) if len(tasks) > 1 else tasks[0]


@strategy("pos")
class Pos(Strategy):
    """Partial order sampling."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._priorities = EventPriorities(random.Random(f"{seed}-pos"))
        self._alone = False

    def begin(self, profile: Profile) -> None:
        self._priorities.clear()

    def choose(self, point: Point) -> int:
        self._priorities.update(point, conflicts=True)
        self._alone = len(point.enabled) == 1
        return self._priorities.highest(point.enabled)

    def lease(self) -> int:
        return FOREVER if self._alone else 0
