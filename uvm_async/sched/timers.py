"""Kernel timers: things to do at a monotonic time.

Linux: kernel/time/hrtimer.c.  A timer's target is an Entity with a method
`timer_expired(timer)`; nothing here is a callback, so a pending timer is state.

Order of expiry is (deadline, order of arming), hence deterministic.
"""

from __future__ import annotations

import heapq
from typing import Protocol

from uvm_async.state import Entity

__all__ = ["Timer", "Timers"]


class TimerTarget(Protocol):
    """Whoever wants to know."""

    def timer_expired(self, timer: Timer) -> None:
        """`timer` (armed by you) has expired. Atomic."""


class Timer(Entity):
    """One pending expiry."""

    __slots__ = ("armed", "deadline_ns", "kind", "sequence", "target")

    def __init__(self, deadline_ns: int, sequence: int, target: TimerTarget, kind: str) -> None:
        self.deadline_ns = deadline_ns
        self.sequence = sequence
        self.target = target
        self.kind = kind
        self.armed = True

    def __lt__(self, other: Timer) -> bool:
        return (self.deadline_ns, self.sequence) < (other.deadline_ns, other.sequence)

    def cancel(self) -> None:
        """It will not expire."""
        self.armed = False


class Timers(Entity):
    """All pending timers of a machine."""

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._sequence = 0

    def arm(self, deadline_ns: int, target: TimerTarget, kind: str = "") -> Timer:
        """Expire `target` at `deadline_ns` (monotonic)."""
        self._sequence += 1
        timer = Timer(deadline_ns, self._sequence, target, kind)
        heapq.heappush(self._heap, timer)
        return timer

    def next_deadline_ns(self) -> int | None:
        """When the next one is due."""
        while self._heap and not self._heap[0].armed:
            heapq.heappop(self._heap)
        return self._heap[0].deadline_ns if self._heap else None

    def expire(self, now_ns: int) -> int:
        """Run all that are due; answers how many were."""
        count = 0
        while (deadline := self.next_deadline_ns()) is not None and deadline <= now_ns:
            timer = heapq.heappop(self._heap)
            timer.armed = False
            timer.target.timer_expired(timer)
            count += 1
        return count
