"""Random walk: at each choice point, anybody.

The folklore baseline; Thomson, Donaldson and Betts, "Concurrency Testing Using
Schedule Bounding: an Empirical Study", PPoPP 2014, found it no worse than
bounded search on most of their programs.

Guarantee: every schedule has a probability above zero; of one with k choices
among n tasks, at least n^-k.  It is far from uniform over schedules: a short task is
mostly done before a long one is half through.

By default the walk is *uniform*: each enabled task is as likely as the next,
whoever ran before.  That is the walk the literature compares with, needs no
parameter, and is right when there are few choice points.  With `switch=p` the
running task goes on with probability 1-p and one of the others follows with p:
where choice points are many and bugs need few preemptions, a small p keeps the
tasks from being ground into one another.

Leases are exact: the number of choice points that the same task passes is
geometric, so it is drawn beforehand, and forgotten (the walk has no memory)
when the set of enabled tasks has changed meanwhile.
"""

from __future__ import annotations

import random

from uvm_async.errors import UsageError
from uvm_async.race.model import Point, Profile
from uvm_async.race.strategies.base import FOREVER, Strategy, strategy

__all__ = ["RandomWalk"]


@strategy("random")
class RandomWalk(Strategy):
    """Random walk, uniform or with a given probability of a switch."""

    def __init__(self, seed: int, *, switch: float | None = None) -> None:
        super().__init__(seed)
        if switch is not None and not 0 < switch <= 1:
            raise UsageError(f"strategy random: switch is a probability above 0, not {switch}")
        self.switch = switch
        self._rng = random.Random(f"{seed}-random-{switch}")
        self._enabled: tuple[int, ...] = ()
        self._chosen = -1
        self._due = -1
        """The step at which the chosen task must give way, if nothing changes before."""
        self._lease = 0

    def begin(self, profile: Profile) -> None:
        self._enabled, self._chosen = (), -1

    def choose(self, point: Point) -> int:
        unchanged = point.current == self._chosen and point.enabled == self._enabled
        if not (unchanged and point.step < self._due):
            self._enabled = point.enabled
            self._chosen = self._pick(point, over=unchanged)
            self._due = point.step + self._stays(len(point.enabled)) + 1
        self._lease = self._due - point.step - 1
        return self._chosen

    def lease(self) -> int:
        return self._lease

    def _pick(self, point: Point, *, over: bool) -> int:
        """Who goes on. `over`: the dice have already said that it is not the same task."""
        enabled, current = point.enabled, point.current
        if len(enabled) == 1:
            return enabled[0]
        if current is None or current not in enabled:
            return self._rng.choice(enabled)
        if not over:
            if self.switch is None:
                return self._rng.choice(enabled)
            if self._rng.random() >= self.switch:
                return current
        return self._rng.choice([task for task in enabled if task != current])

    def _stays(self, choices: int) -> int:
        """How often in a row the walk would choose the same task again."""
        if choices == 1:
            return FOREVER
        stay = 1 / choices if self.switch is None else 1 - self.switch
        count = 0
        while count < FOREVER and self._rng.random() < stay:
            count += 1
        return count
