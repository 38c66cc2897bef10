"""PCT: random priorities, lowered at d-1 random moments.

Burckhardt, Kothari, Musuvathi, Nagarakatte, "A Randomized Scheduler with
Probabilistic Guarantees of Finding Bugs", ASPLOS 2010.

Each task has a random priority; always the highest enabled one runs.  d-1
change points are drawn uniformly from the steps of an execution; whoever is
about to make the i-th one falls to priority i, below all that never fell.

Guarantee: a bug of depth d (d ordering constraints suffice to produce it) is
found by one execution with probability at least 1/(n * k^(d-1)), n tasks and k
steps.  n plays no part in the code; k is the longest execution so far, so the
guarantee holds as far as the profile is right.

Strict priorities starve: a task that polls for something which only a lower one
can do would run for ever.  So whoever passes more choice points in a row than
the longest execution had in all (and 1,000) falls to the bottom.

A lease lasts to the next change point: until then the highest stays the highest.
"""

from __future__ import annotations

import random

from uvm_async.errors import UsageError
from uvm_async.race.model import Point, Profile
from uvm_async.race.strategies.base import FOREVER, Strategy, strategy

__all__ = ["Pct"]

UNKNOWN_STEPS = 100
"""Assumed length of an execution before one has been seen."""
PATIENCE = 1000
"""Least number of choice points in a row after which a task counts as polling."""


@strategy("pct")
class Pct(Strategy):
    """Probabilistic concurrency testing of a given depth."""

    def __init__(self, seed: int, *, depth: int = 3) -> None:
        super().__init__(seed)
        if depth < 1:
            raise UsageError(f"strategy pct: depth is 1 or more, not {depth}")
        self.depth = depth
        self._rng = random.Random(f"{seed}-pct-{depth}")
        self._drawn: list[float] = []
        """First priority of each task, by number: 0 to 1."""
        self._fallen: dict[int, float] = {}
        """Priorities below 0."""
        self._changes: list[tuple[int, int]] = []
        """(step, priority to fall to), the next one last."""
        self._bottom = 0
        self._patience = PATIENCE
        self._chosen = -1
        self._since = 0
        """The step since which the chosen task has run without a break."""
        self._step = 0

    def begin(self, profile: Profile) -> None:
        steps = profile.steps or UNKNOWN_STEPS
        self._changes = sorted(
            ((self._rng.randrange(steps), i - self.depth) for i in range(1, self.depth)),
            reverse=True,
        )
        self._drawn.clear()
        self._fallen.clear()
        self._bottom = -self.depth
        self._patience = max(PATIENCE, steps)
        self._chosen, self._since = -1, 0

    def choose(self, point: Point) -> int:
        self._step = point.step
        task = self._highest(point.enabled)
        while self._changes and self._changes[-1][0] <= point.step:
            self._fallen[task] = self._changes.pop()[1]
            task = self._highest(point.enabled)
        if task == self._chosen and point.step - self._since >= self._patience:
            self._fallen[task] = self._bottom
            self._bottom -= 1
            self._since = point.step
            task = self._highest(point.enabled)
        if task != self._chosen:
            self._chosen, self._since = task, point.step
        return task

    def lease(self) -> int:
        tired = self._since + self._patience
        change = self._changes[-1][0] if self._changes else FOREVER
        return min(tired, change) - self._step - 1

    def _highest(self, enabled: tuple[int, ...]) -> int:
        return max(enabled, key=self._priority)

    def _priority(self, task: int) -> float:
        # Drawn in order of number, not of appearance: the same whenever the strategy is asked.
        while len(self._drawn) <= task:
            self._drawn.append(self._rng.random())
        return self._fallen.get(task, self._drawn[task])
