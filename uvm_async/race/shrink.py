"""Making a failing schedule as short as it can be.

Short is what has few preemptions, then what has few switches that must be written
down.  What fails in the same way and is shorter takes the place of what there was.
Tried are, in this order:

1. how little of the schedule's beginning will do: what comes late in a long one
   seldom matters, least of all in a livelock;
2. where there are many tasks, to leave out the turns of half of them, of a quarter, and
   so on: they have theirs at the end, or all at once;
3. to leave out many switches in a row, then half as many, and so on to single ones
   (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE
   Transactions on Software Engineering, 2002);
4. a few of the shortest schedules there are (race/context_bounding.py).  If there are
   no more of them, that is the end: nothing shorter fails;
5. one switch made elsewhere: only when the running task cannot go on, or before the
   one before it, or to another task (compare Jalbert and Sen, "A trace simplification
   technique for effective debugging of concurrent programs", FSE 2010); a task brought
   forward; two tasks in each other's places;
6. to leave out two switches; to leave out one, with the others at the same steps;
7. more of the shortest schedules.

Whenever something shorter was found it begins again at single switches.  So in the end
none can be taken away, unless the budget is spent.

All of that is a function of program and schedule, as long as time does not run out:
what the search (4 and 7) may run is limited so that it seldom does.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Hashable, Iterator, Set
from dataclasses import dataclass
from typing import Final

from uvm_async.race.context_bounding import Cost, Frontier
from uvm_async.race.following import (
    UNTIL_IT_CANNOT,
    AtPositions,
    AtSteps,
    Follower,
    InOrder,
    Segment,
)
from uvm_async.race.model import Profile, Result, Schedule
from uvm_async.race.strategies import Strategy

__all__ = ["SHRINK_S", "Shrunk", "shrink"]

Run = Callable[[Schedule, Strategy], Awaitable[tuple[Result, Schedule]]]
"""Executes under a strategy, with the watched words of a schedule; answers also the schedule that
gives this result: its words are more if a task has spun on one."""

SEARCH: Final = 300
"""Schedules that the search runs,"""
SEARCH_POINTS: Final = 75_000
"""choice points that it passes, where an execution counts as"""
POINTS_OF_ONE: Final = 200
"""so many more, which is what the start of one takes."""
FIRST_SHARE: Final = 1 / 3
"""What of that comes before anything is moved."""
SHRINK_S: Final = 60.0
"""All of it, but for the execution under way;"""
EXTRA_SHARE: Final = 1 / 6
"""of which so much for the search, and for what changes two things at once."""
MANY: Final = 12
"""Two of no more things than that are tried together."""
FEW: Final = 12
"""So many tasks are left to the single switches."""
TAIL: Final = 12
"""Segments after the last switch that count."""


@dataclass(slots=True)
class Shrunk:
    """The outcome."""

    schedule: Schedule
    result: Result
    tried: int
    """Executions that it took."""
    repeatable: bool = True
    """The schedule gave the same failure a second time."""
    shortest: bool = False
    """All shorter schedules were tried."""


async def shrink(
    schedule: Schedule,
    result: Result,
    run: Run,
    *,
    budget: int = 2_000,
    seconds: float = SHRINK_S,
    shorter: Callable[[Shrunk], None] | None = None,
) -> Shrunk:
    """Shorten `schedule`, which gave `result`, in at most `budget` executions and `seconds`.
    `shorter` is told what is found on the way, each shorter than the one before."""
    shrinker = _Shrinker(schedule, result, run, budget, seconds, shorter)
    if not await shrinker.begin():
        return Shrunk(schedule, result, shrinker.tried, repeatable=False)
    await shrinker.shrink()
    return shrinker.shrunk()


class _Shrinker:
    def __init__(
        self,
        schedule: Schedule,
        result: Result,
        run: Run,
        budget: int,
        seconds: float,
        shorter: Callable[[Shrunk], None] | None,
    ) -> None:
        self.tried = 0
        self._why = result.failure
        self._run = run
        self._budget = budget
        self._shorter = shorter
        self._schedule = schedule
        self._result = result
        self._best: Follower = AtSteps(schedule.switches)
        self._seen: set[Hashable] = set()
        self._frontier = Frontier()
        self._exhausted = False
        self._searched = 0
        self._points = 0
        self._deadline = time.monotonic() + seconds
        self._extra_s = seconds * EXTRA_SHARE
        self._later_s = self._extra_s * (1 - FIRST_SHARE)

    def shrunk(self) -> Shrunk:
        """As far as it has come."""
        return Shrunk(self._schedule, self._result, self.tried, shortest=self._exhausted)

    async def begin(self) -> bool:
        """Does it fail again?"""
        follower = AtSteps(self._schedule.switches)
        result, schedule = await self._execute(follower)
        if result.failure != self._why:
            return False
        self._take(follower, result, schedule)
        return True

    async def shrink(self) -> None:
        await self._beginning()
        await self._tasks()
        await self._chunks()
        shorter = True
        while shorter:
            shorter = await self._singles() or await self._search(FIRST_SHARE)
            if not shorter and not self._exhausted:
                shorter = (
                    await self._moves(_moved, self._attempt)
                    or await self._moves(_brought_forward, self._attempt_extra)
                    or await self._exchanges()
                    or await self._pairs()
                    or await self._steps()
                    or await self._search(1)
                )

    # -- one execution

    @property
    def _cost(self) -> Cost:
        return _cost(self._result)

    @property
    def _spent(self) -> bool:
        return self.tried >= self._budget or time.monotonic() >= self._deadline

    async def _execute(self, follower: Follower) -> tuple[Result, Schedule]:
        self.tried += 1
        follower.begin(Profile())
        return await self._run(self._schedule, follower)

    async def _attempt(self, follower: Follower) -> bool:
        """Is it shorter, and fails as it should?"""
        key = follower.key
        if key in self._seen or self._spent:
            return False
        self._seen.add(key)
        return self._accept(follower, *await self._execute(follower))

    async def _attempt_extra(self, follower: Follower) -> bool:
        if self._extra_s <= 0:
            return False
        with self._extra():
            return await self._attempt(follower)

    @contextlib.contextmanager
    def _extra(self) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self._extra_s -= time.monotonic() - started

    def _accept(self, follower: Follower, result: Result, schedule: Schedule) -> bool:
        if result.failure != self._why or _cost(result) >= self._cost:
            return False
        self._take(follower, result, schedule)
        return True

    def _take(self, follower: Follower, result: Result, schedule: Schedule) -> None:
        if schedule.watched != self._schedule.watched:  # steps and positions are others
            self._frontier = Frontier()
            self._seen.clear()
        self._best, self._result, self._schedule = follower, result, schedule
        self._frontier.suspect(follower)
        if self._shorter is not None:
            self._shorter(self.shrunk())

    # -- what is tried

    async def _beginning(self) -> None:
        switches = list(self._best.positions.items())
        kept = 0
        while kept < len(switches) and not await self._attempt(AtPositions(switches[:kept])):
            kept = max(1, kept * 2)

    async def _tasks(self) -> None:
        """Without the turns of many tasks, then of half as many, and so on: each has its turn at
        the end, if there is one, or all at once where it had its first."""
        size = len(self._who()) // 2
        while size and len(self._who()) > FEW:
            at = 0
            while at < len(tasks := self._who()):
                gone = frozenset(tasks[at : at + size])
                order = self._best.order
                if not (
                    await self._attempt(InOrder([turn for turn in order if turn[0] not in gone]))
                    or await self._attempt(InOrder(_at_once(order, gone)))
                ):
                    at += size
            size //= 2

    def _who(self) -> list[int]:
        return sorted({task for task, _ in self._best.order})

    async def _chunks(self) -> None:
        size = len(self._best.positions) // 2
        while size > 1:
            await self._without(size)
            size = min(size, len(self._best.positions)) // 2

    async def _singles(self) -> bool:
        shorter = False
        while await self._without(1):
            shorter = True
        return shorter

    async def _without(self, size: int) -> bool:
        """Without so many switches in a row, anywhere."""
        at, shorter = 0, False
        while at < len(switches := list(self._best.positions.items())):
            if await self._attempt(AtPositions(switches[:at] + switches[at + size :])):
                shorter = True
            else:
                at += size
        return shorter

    async def _exchanges(self) -> bool:
        """Two tasks in each other's places: of many that do the same, let it be the ones whose turn
        it is anyway. Perhaps one switch less is needed then."""
        forced = self._best.forced
        if len(forced) > MANY:
            return False
        for one, other in dict.fromkeys((choice.default, choice.chosen) for choice in forced):
            place = {one: other, other: one}
            switches = [
                ((place.get(task, task), events), place.get(to, to))
                for (task, events), to in self._best.positions.items()
            ]
            for without in range(-1, len(switches)):
                left = [switch for at, switch in enumerate(switches) if at != without]
                if await self._attempt_extra(AtPositions(left)):
                    return True
        return False

    async def _moves(
        self,
        moved: Callable[[list[Segment], int], Iterator[list[Segment]]],
        attempt: Callable[[Follower], Awaitable[bool]],
    ) -> bool:
        """Other orders, for as long as they are shorter."""
        at, shorter = 0, False
        while at < len(order := _until_last_switch(self._best)):
            if _forced_segments(self._best).isdisjoint((at, at + 1, at + 2)):
                at += 1
                continue
            for segments in moved(order, at):
                if await attempt(InOrder(segments)):
                    shorter = True
                    break
            else:
                at += 1
        return shorter

    async def _pairs(self) -> bool:
        switches = list(self._best.positions.items())
        if len(switches) > MANY:
            return False
        for apart in range(1, len(switches)):
            for one in range(len(switches) - apart):
                gone = one, one + apart
                left = [switch for at, switch in enumerate(switches) if at not in gone]
                if await self._attempt_extra(AtPositions(left)):
                    return True
        return False

    async def _steps(self) -> bool:
        """Without one switch, the others where they were."""
        switches = self._schedule.switches
        for step in switches:
            left = {at: task for at, task in switches.items() if at != step}
            if await self._attempt(AtSteps(left)):
                return True
        return False

    async def _search(self, share: float) -> bool:
        """The shortest schedules, up to that share of what there may be."""
        seconds_left = 0 if share == 1 else self._later_s
        while (
            self._searched < SEARCH * share
            and self._points < SEARCH_POINTS * share
            and self._extra_s > seconds_left
            and not self._spent
        ):
            candidate = self._frontier.next(self._cost)
            if candidate is None:
                self._exhausted = self._frontier.complete
                return False
            follower = AtSteps({switch.step: switch.task for switch in candidate.switches})
            with self._extra():
                result, schedule = await self._execute(follower)
            self._searched += 1
            self._points += POINTS_OF_ONE + result.steps
            if self._accept(follower, result, schedule):
                return True
            if schedule.watched == self._schedule.watched:
                self._frontier.grow(candidate, follower, self._cost)
            else:
                self._frontier.complete = False
        return False


def _until_last_switch(follower: Follower) -> list[Segment]:
    """Its order up to a little after the last switch that is forced."""
    last = max(_forced_segments(follower), default=-1)
    return follower.order[: last + 1 + TAIL]


def _at_once(order: list[Segment], tasks: Set[int]) -> list[Segment]:
    """The same, but that `tasks` have all their turns in the first one."""
    turns: list[Segment] = []
    had: set[int] = set()
    for task, upto in order:
        if task not in tasks:
            turns.append((task, upto))
        elif task not in had:
            turns.append((task, UNTIL_IT_CANNOT))
            had.add(task)
    return turns


def _forced_segments(follower: Follower) -> set[int]:
    """Which segments of its order would not have begun by themselves."""
    forced: set[int] = set()
    at, runs = -1, -1
    for choice in follower.choices:
        if choice.chosen != runs:
            at, runs = at + 1, choice.chosen
        if choice.forced:
            forced.add(at)
    return forced


def _moved(order: list[Segment], at: int) -> Iterator[list[Segment]]:
    """Other orders, in which the switch to segment `at`, or from it, is made elsewhere or not."""
    task, _ = order[at]
    before, after = order[:at], order[at + 1 :]
    later = next((i for i, (other, _) in enumerate(after) if other == task), None)
    if later is not None:  # what it does then, already now
        yield [*before, after[later], *after[:later], *after[later + 1 :]]
    yield [*before, *after]  # what it does now, only then
    if after:
        yield [*before, (task, UNTIL_IT_CANNOT), *after]
        yield [*before, after[0], order[at], *after[1:]]
    if before:
        for other in sorted({task for task, _ in order} - {task, before[-1][0]}):
            yield [*before, (other, UNTIL_IT_CANNOT), *after]


def _brought_forward(order: list[Segment], at: int) -> Iterator[list[Segment]]:
    """Other orders, in which one that comes later comes before segment `at`."""
    task, _ = order[at]
    before, after = order[:at], order[at + 1 :]
    for i in range(1, min(len(after), MANY)):
        rest = [*after[:i], *after[i + 1 :]]
        yield [*before, after[i], order[at], *rest]
        yield [*before, after[i], (task, UNTIL_IT_CANNOT), *rest]


def _cost(result: Result) -> Cost:
    return result.preemptions, len(result.switches)
