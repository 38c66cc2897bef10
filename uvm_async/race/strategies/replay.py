"""Replay: what a schedule says, and nothing else.

At a listed step the listed task runs; between, whoever runs goes on, and if it
cannot, the enabled task with the next higher number (cyclically) does: what
`Schedule` promises.

Guarantee: with the same program the execution is the one that was recorded.
Where it is not, `diverged` says at which step and how; the execution goes on
as if the switch that could not be made had not been listed, which is what
shrinking wants.

A lease lasts to the next listed switch.
"""

from __future__ import annotations

from typing import ClassVar

from uvm_async.race.model import Point, Profile, Result, Schedule
from uvm_async.race.strategies.base import FOREVER, Strategy, successor

__all__ = ["Replay"]


class Replay(Strategy):
    """Follow a schedule. Not random: the seed is ignored."""

    name: ClassVar[str] = "replay"

    def __init__(self, schedule: Schedule, seed: int = 0) -> None:
        super().__init__(seed)
        self.schedule = schedule
        self.diverged = ""
        """Empty, or where the last execution first left the schedule: one line."""
        self._switches = sorted(schedule.switches.items())
        self._next = 0
        self._step = 0

    def begin(self, profile: Profile) -> None:
        self.diverged = ""
        self._next, self._step = 0, 0

    def choose(self, point: Point) -> int:
        self._step = point.step
        return self._listed(point)

    def lease(self) -> int:
        if self._next == len(self._switches):
            return FOREVER
        return self._switches[self._next][0] - self._step - 1

    def end(self, result: Result) -> None:
        if self._next < len(self._switches):
            step, task = self._switches[self._next]
            self._flag(f"the execution ended before step {step}, where task {task} was to run")

    def _listed(self, point: Point) -> int:
        wanted: int | None = None
        while self._next < len(self._switches) and self._switches[self._next][0] <= point.step:
            step, wanted = self._switches[self._next]
            self._next += 1
            if step < point.step:
                self._flag(f"step {step}, where task {wanted} was to run, was no choice point")
                wanted = None
        if wanted is not None:
            if wanted in point.enabled:
                return wanted
            enabled = ", ".join(map(str, point.enabled))
            self._flag(f"step {point.step}: task {wanted} cannot run (enabled: {enabled})")
        if point.current is not None and point.current in point.enabled:
            return point.current
        return successor(point.enabled, point.last)

    def _flag(self, what: str) -> None:
        self.diverged = self.diverged or what
