"""Clocks: real, or virtual and advanced by the kernel.

Linux: kernel/time/timekeeping.c.  All times are integers in nanoseconds.
Monotonic time starts at 0 when the machine boots and does not count the time a
machine was frozen.

A virtual clock creeps forward a little at every trap (or a program that polls
the time would spin for ever) and jumps to the next timer when nothing can run.
"""

from __future__ import annotations

import time
from typing import Protocol

from uvm_async.state import Entity

__all__ = ["Clock", "RealClock", "VirtualClock"]

VIRTUAL_EPOCH_NS = 1_700_000_000 * 10**9
"""Where virtual real time starts: 2023-11-14 22:13:20 UTC."""
CREEP_NS = 1_000


class Clock(Protocol):
    """What the kernel asks of time."""

    virtual: bool

    def monotonic_ns(self) -> int:
        """Nanoseconds since boot."""

    def realtime_ns(self) -> int:
        """Nanoseconds since the epoch."""

    def on_trap(self) -> None:
        """A task has entered the kernel."""


class RealClock(Entity):
    """The host's time."""

    virtual = False

    def __init__(self) -> None:
        self._boot_ns = time.monotonic_ns()
        self._settime_ns = 0
        self._frozen_at_ns = 0

    def monotonic_ns(self) -> int:
        return time.monotonic_ns() - self._boot_ns

    def realtime_ns(self) -> int:
        return time.time_ns() + self._settime_ns

    def host_deadline_ns(self, deadline_ns: int) -> int:
        """The host's CLOCK_MONOTONIC at a monotonic time of ours."""
        return deadline_ns + self._boot_ns

    def on_trap(self) -> None:
        """Real time needs no pushing."""

    def freeze(self) -> None:
        """Note where monotonic time stands."""
        self._frozen_at_ns = self.monotonic_ns()

    def thaw(self) -> None:
        """Go on from there, on whatever host this is."""
        self._boot_ns = time.monotonic_ns() - self._frozen_at_ns


class VirtualClock(Entity):
    """Time as a function of what the machine has done."""

    virtual = True

    def __init__(self) -> None:
        self._now_ns = 0

    def monotonic_ns(self) -> int:
        return self._now_ns

    def realtime_ns(self) -> int:
        return VIRTUAL_EPOCH_NS + self._now_ns

    def on_trap(self) -> None:
        self._now_ns += CREEP_NS

    def advance_to(self, deadline_ns: int) -> None:
        """Jump: nothing can run before `deadline_ns`."""
        self._now_ns = max(self._now_ns, deadline_ns)

    def freeze(self) -> None:
        """Virtual time stands still by itself."""

    def thaw(self) -> None:
        """And goes on by itself."""
