"""Which schedules are there with few switches, the fewest first?

Every schedule is the default one (see `Schedule`) with some switches made.  The
search begins with none; each schedule that has been run gives those with one
switch more, at each later choice point to each other task.  So every schedule
below a bound is reached once, and when none is left there is none.

After Musuvathi and Qadeer, "Iterative Context Bounding for Systematic Testing of
Multithreaded Programs" (PLDI 2007), who go through the schedules with no
preemption first, then those with one, and so on.  Since few of them can be run
here, the next is the one that weighs least: a switch weighs one, a preemption two,
and each of these one more:

- a preemption before an access to what no other task touches, or not the one that
  runs instead: the order of the two does not matter;
- a switch that has to do with none of the words before whose accesses the failing
  schedule preempts;
- an execution in which all came in an order that was there before.

That an execution repeats itself is taken for granted.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from uvm_async.race.following import Choice, Follower, words_of
from uvm_async.race.model import Event

__all__ = ["Candidate", "Cost", "Frontier", "Switch"]

Cost = tuple[int, int]
"""Preemptions, and all switches that have to be written down."""

MAX_POINTS: Final = 2_000
"""Choice points of one execution at which another task is tried."""
MAX_WAITING: Final = 20_000


class Switch(NamedTuple):
    """One of a candidate's."""

    step: int
    task: int
    words: tuple[int, ...] | None
    """Which the task that could have gone on was about to touch; None if none could."""


@dataclass(frozen=True, slots=True, order=True)
class Candidate:
    """A schedule that is to be run. Ordered: the least is the next."""

    weight: int
    """With all doubts,"""
    own: int
    """and minus what its switches alone weigh: of two that weigh the same, the one less in doubt
    is less."""
    number: int
    cost: Cost
    sure: int
    """Weight without the doubts that depend on who is suspected."""
    switches: tuple[Switch, ...]


class Frontier:
    """Schedules that are to be run."""

    def __init__(self) -> None:
        self.complete = True
        """Nothing was left out."""
        self._waiting = [Candidate(0, 0, 0, (0, 0), 0, ())]
        """A heap."""
        self._numbers = 0
        self._histories: set[int] = set()
        self._touched: dict[int, dict[int, bool]] = {}
        self._suspects: set[int] = set()

    def suspect(self, failing: Follower) -> None:
        """It fails as it should: where does it preempt?"""
        suspects = {
            word
            for choice in failing.forced
            if choice.waits is not None
            for word in words_of(choice.waits)
        }
        if suspects != self._suspects:
            self._suspects = suspects
            self._waiting = [
                replace(one, weight=one.sure + self._astray(one.switches)) for one in self._waiting
            ]
            heapq.heapify(self._waiting)

    def next(self, bound: Cost) -> Candidate | None:
        """The next that costs less than `bound`."""
        while self._waiting:
            candidate = heapq.heappop(self._waiting)
            if candidate.cost < bound:
                return candidate
        return None

    def grow(self, candidate: Candidate, ran: Follower, bound: Cost) -> None:
        """`candidate` was run, which is written down in `ran`: what has one switch more?"""
        self._learn(ran)
        history = ran.history
        sure = candidate.sure + (history in self._histories)
        self._histories.add(history)
        last = candidate.switches[-1].step if candidate.switches else -1
        later = [choice for choice in ran.choices if choice.step > last]
        self.complete = self.complete and len(later) <= MAX_POINTS
        for choice in later[:MAX_POINTS]:
            self._branch(candidate, sure, choice, bound)
        if len(self._waiting) > MAX_WAITING:
            self._waiting = heapq.nsmallest(MAX_WAITING // 2, self._waiting)
            self.complete = False

    def _branch(self, candidate: Candidate, sure: int, choice: Choice, bound: Cost) -> None:
        waits = choice.waits
        preempts = waits is not None
        cost = candidate.cost[0] + preempts, candidate.cost[1] + 1
        if cost >= bound:
            return
        words = None if waits is None else tuple(words_of(waits))
        others: set[int] = set() if waits is None else self._others(waits)
        for task in choice.enabled:
            if task == choice.default:
                continue
            self._numbers += 1
            doubt = 0 if waits is None or task in others else 1 if others else 2
            surely = sure + 1 + preempts + doubt
            switches = (*candidate.switches, Switch(choice.step, task, words))
            weight = surely + self._astray(switches)
            heapq.heappush(
                self._waiting, Candidate(weight, -sum(cost), self._numbers, cost, surely, switches)
            )

    def _learn(self, ran: Follower) -> None:
        for word, tasks in ran.touched.items():
            known = self._touched.setdefault(word, {})
            for task, writes in tasks.items():
                known[task] = known.get(task, False) or writes

    def _others(self, waits: Event) -> set[int]:
        """Tasks for which it matters whether they come before this event."""
        quiet = waits.is_access and not waits.writes
        others = {
            task
            for word in words_of(waits)
            for task, writes in self._touched.get(word, {}).items()
            if writes or not quiet
        }
        return others - {waits.task}

    def _astray(self, switches: tuple[Switch, ...]) -> int:
        """How many of them have nothing to do with a suspect?"""
        suspects = self._suspects
        return sum(
            suspects.isdisjoint(words)
            if words is not None
            else not any(task in self._touched.get(word, ()) for word in suspects)
            for _, task, words in switches
        )
