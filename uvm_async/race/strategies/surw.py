"""SURW, selectively uniform random walk: chances by what is left to do.

Zhao, Wolff, Mathur, Roychoudhury, "Selectively Uniform Concurrency Testing",
ASPLOS 2025.

A walk that picks each task with a probability in proportion to the events it
has left makes all interleavings equally likely (the number of ways to complete
an interleaving is a multinomial coefficient).  All events are too many for that to help, so a
few are called *interesting*, and only their interleaving is made uniform:

- before an interesting event happens, the task to make the next one is drawn (the
  *intended* task), in proportion to the interesting events that each has left, those
  of children not yet born counted with the parent;
- other tasks that come to an interesting event wait there until the intended
  task has made its own; if it cannot, because it sleeps, another is drawn;
- among all other events, the one with the highest random priority goes, a
  priority being drawn anew for each event.

Guarantee: uniform over the interleavings of interesting events if the estimates
are right, no blocking depends on the order, and which events there are does not
either.  No schedule is ruled out.  Here the estimates are the most that a task
was seen to do in earlier executions (in the first: the profile's), which real
programs only approach.

Which events are interesting the algorithm leaves to its user.  Here they are
those on a shared object that is drawn at random for each execution (`objects`
of them; 0 means all events: the plain uniform walk).  An object is a word that
two tasks touch and one writes, with the futex calls on it, or the kernel, for
all other calls.  The first execution, with nothing to draw from, is the plain
walk.
"""

from __future__ import annotations

import random

from uvm_async.errors import UsageError
from uvm_async.race.model import GRAIN_BYTES, Event, Kind, Point, Profile, Result
from uvm_async.race.strategies.base import FOREVER, Strategy, strategy
from uvm_async.race.strategies.pos import EventPriorities

__all__ = ["Surw"]

MAX_OBJECTS = 4096
"""Objects that are remembered; further ones are never drawn."""
_KERNEL = -1
_EVERYTHING = -2


def _objects(event: Event) -> tuple[int, ...]:
    """The objects that `event` is on; `_EVERYTHING` is always the first."""
    if event.is_access:
        return (_EVERYTHING, *event.objects)
    if event.kind == Kind.CALL:
        return (_EVERYTHING, event.addr // GRAIN_BYTES if event.addr else _KERNEL)
    return (_EVERYTHING,)


@strategy("surw")
class Surw(Strategy):
    """Selectively uniform random walk."""

    uses_events = True

    def __init__(self, seed: int, *, objects: int = 1) -> None:
        super().__init__(seed)
        if objects < 0:
            raise UsageError(f"strategy surw: objects is 0 or more, not {objects}")
        self.objects = objects
        self._rng = random.Random(f"{seed}-surw-{objects}")
        self._priorities = EventPriorities(self._rng)
        self._most: dict[int, dict[int, int]] = {_EVERYTHING: {}}
        """object -> task -> the most events of the task on it in one execution"""
        self._written: dict[int, bool] = {}
        """object -> whether anybody wrote it"""
        self._parents: dict[int, int] = {}
        """task -> who created it, when last seen"""
        self._now: dict[int, dict[int, int]] = {}
        """Like `_most`, of this execution."""
        self._interesting: list[int] = [_EVERYTHING]
        self._left: dict[int, int] = {}
        """task -> interesting events left, with those of children yet to be born"""
        self._families: dict[int, int] = {}
        """task -> interesting events in all, with those of its children"""
        self._born: set[int] = set()
        self._intended: int | None = None
        self._waiting: set[int] = set()
        self._chosen: int | None = None
        self._told = 0
        """Events that have been counted."""
        self._alone = False

    # -- the protocol ------------------------------------------------------------------------

    def begin(self, profile: Profile) -> None:
        for task, events in profile.events.items():
            known = self._most[_EVERYTHING]
            known[task] = max(known.get(task, 0), events)
        self._interesting = self._draw_objects()
        self._families = self._estimate()
        self._left = {}
        self._now = {}
        self._born = set()
        self._waiting = set()
        self._intended = self._chosen = None
        self._told = 0
        self._priorities.clear()

    def choose(self, point: Point) -> int:
        self._told += len(point.executed)
        for event in point.executed:
            self._count(event)
        for task in point.enabled:
            if task not in self._born:
                self._bear(task)
        self._priorities.update(point, conflicts=False)
        self._alone = len(point.enabled) == 1
        self._chosen = point.enabled[0] if self._alone else self._walk(point)
        return self._chosen

    def lease(self) -> int:
        return FOREVER if self._alone else 0

    def end(self, result: Result) -> None:
        for event in result.events[self._told :]:
            self._count(event)
        for number, by_task in self._now.items():
            known = self._most.get(number)
            if known is None:
                if len(self._most) >= MAX_OBJECTS:
                    continue
                known = self._most[number] = {}
            for task, events in by_task.items():
                known[task] = max(known.get(task, 0), events)

    # -- the walk ----------------------------------------------------------------------------

    def _walk(self, point: Point) -> int:
        while True:
            free = [task for task in point.enabled if task not in self._waiting]
            if not free:  # the intended task cannot go on: draw another
                self._waiting.clear()
                self._intended = None
                continue
            task = self._priorities.highest(free)
            if not self._is_interesting(point.pending.get(task)):
                return task
            if self._intended is None:
                self._intended = self._intend(point)
            if task == self._intended:
                return task
            self._waiting.add(task)

    def _intend(self, point: Point) -> int:
        """Draw who makes the next interesting event, in proportion to what each has left."""
        weights = [
            max(self._left.get(task, 0), int(self._is_interesting(point.pending.get(task))))
            for task in point.enabled
        ]
        at = self._rng.randrange(sum(weights))
        for task, weight in zip(point.enabled, weights, strict=True):
            at -= weight
            if at < 0:
                return task
        raise AssertionError("a draw beyond the sum of the weights")

    def _is_interesting(self, event: Event | None) -> bool:
        return event is not None and any(o in self._interesting for o in _objects(event))

    def _count(self, event: Event) -> None:
        """`event` has happened."""
        for number in _objects(event):
            by_task = self._now.get(number)
            if by_task is None:
                if len(self._now) >= MAX_OBJECTS:
                    continue
                by_task = self._now[number] = {}
            by_task[event.task] = by_task.get(event.task, 0) + 1
            if len(self._written) < MAX_OBJECTS or number in self._written:
                writes = event.writes or not event.is_access
                self._written[number] = self._written.get(number, False) or writes
        if self._is_interesting(event):
            self._left[event.task] = max(self._left.get(event.task, 0) - 1, 0)
            self._intended = None
            self._waiting.clear()

    def _bear(self, task: int) -> None:
        """`task` is seen for the first time: its share leaves its parent's."""
        self._born.add(task)
        share = self._left[task] = self._families.get(task, 0)
        parent = self._chosen
        if parent is None:
            return
        self._parents[task] = parent
        before = self._left.get(parent, 0)
        self._left[parent] = max(before - share, 0)
        if self._intended == parent and self._rng.random() * max(before, 1) < share:
            self._intended = task

    # -- estimates ---------------------------------------------------------------------------

    def _draw_objects(self) -> list[int]:
        shared = [
            number
            for number, by_task in self._most.items()
            if number != _EVERYTHING and len(by_task) > 1 and self._written.get(number, False)
        ]
        if not shared or self.objects == 0:
            return [_EVERYTHING]
        return self._rng.sample(shared, min(self.objects, len(shared)))

    def _estimate(self) -> dict[int, int]:
        """Interesting events of each task and its descendants. Children have higher numbers."""
        sums: dict[int, int] = {}
        for number in self._interesting:
            for task, events in self._most[number].items():
                sums[task] = sums.get(task, 0) + events
        for task in sorted(self._parents, reverse=True):
            parent = self._parents[task]
            if parent < task:
                sums[parent] = sums.get(parent, 0) + sums.get(task, 0)
        return sums
