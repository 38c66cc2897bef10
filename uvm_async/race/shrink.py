"""Making a failing schedule as short as it can be.

A schedule is looked at as *segments*: task 1 passes four choice points, task 0
two, task 1 nine ...  Two segments of one task that others separate can be put
together (the later one earlier, or the earlier one later), which takes context
switches away; what still fails the same way is kept, until no switch can be
taken away.  Because segments count a task's own points, what is left of the
schedule means the same after a piece has moved.

After Jalbert and Sen, "A trace simplification technique for effective debugging
of concurrent programs" (FSE 2010).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from uvm_async.race.model import Point, Profile, Result, Schedule
from uvm_async.race.strategies import Strategy

__all__ = ["Segments", "Shrunk", "shrink"]

Segment = tuple[int, int]
"""(task, choice points that it passes)"""
Run = Callable[[Strategy], Awaitable[Result]]


class Segments(Strategy):
    """Follows segments as far as it can, and writes down what really ran."""

    name = "segments"

    def __init__(self, segments: list[Segment]) -> None:
        super().__init__(0)
        self.segments = segments
        self.ran: list[Segment] = []
        self.forced: set[int] = set()
        """Segments of `ran` that would not have begun by themselves."""
        self._at = 0
        self._left = 0

    def begin(self, profile: Profile) -> None:
        self.ran = []
        self.forced = set()
        self._at = 0
        self._left = self.segments[0][1] if self.segments else 0

    def choose(self, point: Point) -> int:
        default = _default(point)
        task = self._wanted(point, default)
        if self.ran and self.ran[-1][0] == task:
            self.ran[-1] = (task, self.ran[-1][1] + 1)
        else:
            self.ran.append((task, 1))
        if task != default:
            self.forced.add(len(self.ran) - 1)
        return task

    def _wanted(self, point: Point, default: int) -> int:
        segments = self.segments
        while self._at < len(segments):
            task = segments[self._at][0]
            if self._left > 0 and task in point.enabled:
                self._left -= 1
                return task
            self._at += 1
            if self._at < len(segments):
                self._left = segments[self._at][1]
        return default


def _default(point: Point) -> int:
    """Who runs if nothing is said: see `Schedule`."""
    if point.current is not None:
        return point.current
    return next((task for task in point.enabled if task > point.last), point.enabled[0])


class _Recorder(Strategy):
    """Another strategy's choices, as segments."""

    def __init__(self, inner: Strategy) -> None:
        super().__init__(0)
        self.inner = inner
        self.ran: list[Segment] = []

    def begin(self, profile: Profile) -> None:
        self.ran = []
        self.inner.begin(profile)

    def choose(self, point: Point) -> int:
        task = self.inner.choose(point)
        self.inner.lease()  # not honoured: every point is to be seen
        if self.ran and self.ran[-1][0] == task:
            self.ran[-1] = (task, self.ran[-1][1] + 1)
        else:
            self.ran.append((task, 1))
        return task

    def end(self, result: Result) -> None:
        self.inner.end(result)


@dataclass(slots=True)
class Shrunk:
    """The outcome."""

    schedule: Schedule
    result: Result
    tried: int
    """Executions that it took."""
    repeatable: bool = True
    """The schedule gave the same failure a second time."""


async def shrink(
    schedule: Schedule, result: Result, run: Run, replayer: Strategy, *, budget: int = 2_000
) -> Shrunk:
    """Shorten `schedule`, which gave `result`. `run` executes under a strategy, `replayer` follows
    the schedule; at most `budget` executions."""
    recorder = _Recorder(replayer)
    recorder.begin(Profile())
    best_result = await run(recorder)
    tried = 1
    if best_result.failure != result.failure:
        return Shrunk(schedule, result, tried, repeatable=False)
    best = recorder.ran
    forced = set(range(len(best)))
    cost = _cost(best_result)

    async def attempt(candidate: list[Segment]) -> bool:
        nonlocal best, best_result, cost, forced, tried
        if tried >= budget:
            return False
        tried += 1
        follower = Segments(candidate)
        follower.begin(Profile())
        outcome = await run(follower)
        if outcome.failure != result.failure or _cost(outcome) >= cost:
            return False
        best, best_result, cost = follower.ran, outcome, _cost(outcome)
        forced = follower.forced
        return True

    # What comes late in a long schedule seldom matters (least of all in a livelock): how little of
    # its beginning will do?
    kept = 1
    while kept < len(best) and not await attempt(best[:kept]):
        kept *= 2
    changed = True
    while changed and tried < budget:
        changed = False
        at = 0
        while at < len(best) and tried < budget:
            if forced.isdisjoint((at, at + 1, at + 2)):
                at += 1  # no switch here is one that has to be written down
            elif await _take_away(best, at, attempt):
                changed = True
            else:
                at += 1
    shorter = Schedule(dict(best_result.switches), schedule.watched, schedule.granularity)
    return Shrunk(shorter, best_result, tried)


async def _take_away(
    segments: list[Segment], at: int, attempt: Callable[[list[Segment]], Awaitable[bool]]
) -> bool:
    """Try what takes away the switch after segment `at`."""
    task, count = segments[at]
    later = next((i for i in range(at + 1, len(segments)) if segments[i][0] == task), None)
    if later is not None:
        between = segments[at + 1 : later]
        joined = (task, count + segments[later][1])
        for candidate in (
            [*segments[:at], joined, *between, *segments[later + 1 :]],
            [*segments[:at], *between, joined, *segments[later + 1 :]],
        ):
            if await attempt(_merged(candidate)):
                return True
    if at + 1 < len(segments):  # let the next one go first
        swapped = [*segments[:at], segments[at + 1], segments[at], *segments[at + 2 :]]
        if await attempt(_merged(swapped)):
            return True
    return await attempt(_merged([*segments[:at], *segments[at + 1 :]]))


def _merged(segments: list[Segment]) -> list[Segment]:
    """Neighbours of one task are one segment."""
    result: list[Segment] = []
    for task, count in segments:
        if result and result[-1][0] == task:
            result[-1] = (task, result[-1][1] + count)
        else:
            result.append((task, count))
    return result


def _cost(result: Result) -> tuple[int, int]:
    """Preemptions count first, then all switches that had to be written down."""
    return result.preemptions, len(result.switches)
