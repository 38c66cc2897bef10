"""Strategies that follow a schedule after it was changed, and write down what came of it.

A `Schedule` names the steps at which another task goes on.  Without one of its
switches every later step is another one.  What is left of a changed schedule
means the same where it is told by how far tasks have come:

- a *position* is a task and the number of events it has had; `AtPositions`
  switches when the task that has run up to here stands at one;
- an *order* is a list of tasks, each with the number of events up to which it
  goes on; `InOrder` runs them one after the other.

`AtSteps` takes steps as they are.  None of them leases: every choice point is seen.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from uvm_async.race.model import Event, Kind, Point, Profile
from uvm_async.race.strategies import Strategy
from uvm_async.race.strategies.base import successor

__all__ = [
    "UNTIL_IT_CANNOT",
    "AtPositions",
    "AtSteps",
    "Choice",
    "Follower",
    "InOrder",
    "Position",
    "Segment",
    "words_of",
]

Position = tuple[int, int]
"""A task, and how many events it has had."""
Segment = tuple[int, float]
"""A task, and how many events it has had when it gives way."""
UNTIL_IT_CANNOT = math.inf


@dataclass(slots=True)
class Choice:
    """What happened at a choice point."""

    step: int
    position: Position
    """Of the task that has run up to here."""
    enabled: tuple[int, ...]
    default: int
    """Who runs if nothing is said (see `Schedule`)."""
    chosen: int
    waits: Event | None
    """What the task that has run up to here does next; None if it could not go on."""

    @property
    def forced(self) -> bool:
        """It has to be written down."""
        return self.chosen != self.default


class Follower(Strategy):
    """Base: whom `wanted` names if that one can run, else the default."""

    def __init__(self) -> None:
        super().__init__(0)
        self._forget()

    def _forget(self) -> None:
        self.choices: list[Choice] = []
        self.order: list[Segment] = []
        """Who ran, one after the other."""
        self.touched: dict[int, dict[int, bool]] = {}
        """word -> who has touched it -> has it written? Without what followed the last choice."""
        self.passed: dict[int, int] = {}
        """task -> events it has had"""
        self._histories: dict[int, int] = {}

    @property
    def key(self) -> Hashable:
        """Equal for followers that choose alike."""
        raise NotImplementedError

    def wanted(self, point: Point, position: Position) -> int | None:
        """Who should run here; None: no matter."""
        raise NotImplementedError

    def begin(self, profile: Profile) -> None:
        self._forget()

    def choose(self, point: Point) -> int:
        for event in point.executed:
            self._note(event)
        position = (point.last, self.passed.get(point.last, 0))
        if point.current is None:
            waits, default = None, successor(point.enabled, point.last)
        else:
            waits, default = point.pending[point.current], point.current
        wanted = self.wanted(point, position)
        task = wanted if wanted is not None and wanted in point.enabled else default
        self.choices.append(Choice(point.step, position, point.enabled, default, task, waits))
        self._runs(task)
        return task

    @property
    def forced(self) -> list[Choice]:
        """The choices that have to be written down."""
        return [choice for choice in self.choices if choice.forced]

    @property
    def positions(self) -> dict[Position, int]:
        """The same as positions, each with who ran instead."""
        return {choice.position: choice.chosen for choice in self.forced}

    @property
    def history(self) -> int:
        """Different if some word was touched by others, or in another order."""
        return hash(frozenset(self._histories.items()))

    def _note(self, event: Event) -> None:
        task = event.task
        self.passed[task] = self.passed.get(task, 0) + 1
        if event.kind is Kind.START:
            return
        writes = event.writes or not event.is_access
        for word in words_of(event):
            tasks = self.touched.setdefault(word, {})
            tasks[task] = tasks.get(task, False) or writes
            before = self._histories.get(word, 0)
            self._histories[word] = hash((before, task, int(event.kind)))

    def _runs(self, task: int) -> None:
        order = self.order
        if order and order[-1][0] == task:
            return
        if order:
            before = order[-1][0]
            order[-1] = (before, self.passed.get(before, 0))
        order.append((task, UNTIL_IT_CANNOT))


def words_of(event: Event) -> Iterable[int]:
    """The words that it touches; calls that name none share one."""
    return event.objects if event.addr else (0,)


class AtSteps(Follower):
    """The switches of a `Schedule`, as far as they can be made."""

    def __init__(self, switches: Mapping[int, int]) -> None:
        super().__init__()
        self.switches = dict(switches)

    @property
    def key(self) -> Hashable:
        return "steps", tuple(self.switches.items())

    def wanted(self, point: Point, position: Position) -> int | None:
        return self.switches.get(point.step)


class AtPositions(Follower):
    """Switches that are made when a task stands where it stood."""

    def __init__(self, switches: Iterable[tuple[Position, int]]) -> None:
        super().__init__()
        self.switches = dict(switches)

    @property
    def key(self) -> Hashable:
        return "positions", tuple(self.switches.items())

    def wanted(self, point: Point, position: Position) -> int | None:
        return self.switches.get(position)


class InOrder(Follower):
    """Segments, one after the other; whose turn it is when it cannot run has lost it."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        super().__init__()
        self.segments = segments
        self._at = 0

    @property
    def key(self) -> Hashable:
        return "order", tuple(self.segments)

    def begin(self, profile: Profile) -> None:
        super().begin(profile)
        self._at = 0

    def wanted(self, point: Point, position: Position) -> int | None:
        while self._at < len(self.segments):
            task, upto = self.segments[self._at]
            if task in point.enabled and self.passed.get(task, 0) < upto:
                return task
            self._at += 1
        return None
