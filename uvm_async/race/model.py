"""What race exploration speaks of: events, points, schedules, results.

A controlled execution is a sequence of *choice points*.  At each, every runnable
task stands before its next *event* (a call of the kernel, or an access to
memory that two tasks touch and one writes), and somebody chooses which task
goes on.  The choices, written down, are a `Schedule`; with one schedule (and
the same binary) an execution is the same, always.

Tasks are numbered in order of their birth in an execution: 0 is the program's
main thread.  Plain data only: everything here can be pickled and put into JSON.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Event", "Kind", "Point", "Profile", "Result", "Schedule"]

GRAIN_BYTES = 8
"""Accesses that touch the same 8 aligned bytes touch the same object."""


class Kind(enum.IntEnum):
    """What an event does."""

    READ = 1
    WRITE = 2
    UPDATE = 3
    """One indivisible read and write (a locked instruction)."""
    CALL = 4
    """Entry of a system call."""
    RETURN = 5
    """Return from a system call."""
    START = 6
    """The first step of a new task."""


@dataclass(slots=True, unsafe_hash=True)
class Event:
    """What a task does, or is about to do, at one choice point. Never changed; not frozen, since
    that would make it four times as slow to make."""

    task: int
    kind: Kind
    addr: int = 0
    """Guest-virtual address of the access; of the futex word for futex calls; else 0."""
    size: int = 0
    """Bytes accessed."""
    ip: int = 0
    """Address of the instruction."""
    call: str = ""
    """Name of the system call, for CALL and RETURN."""
    locked: bool = False
    value: int = 0
    """What stood at `addr` just before, up to 8 bytes little-endian."""
    by_kernel: bool = False
    """An access that a call makes for the task; `ip` is the call's. It happens with its call, at
    whose choice point the order of the two is chosen."""

    @property
    def is_access(self) -> bool:
        """An access to memory, not a call."""
        return self.kind <= Kind.UPDATE

    @property
    def reads(self) -> bool:
        """Does it take a value from memory?"""
        return self.kind in (Kind.READ, Kind.UPDATE)

    @property
    def writes(self) -> bool:
        """May it change memory?"""
        return self.kind in (Kind.WRITE, Kind.UPDATE)

    @property
    def objects(self) -> range:
        """Numbers of the 8-byte words it touches."""
        return range(
            self.addr // GRAIN_BYTES, (self.addr + max(self.size, 1) - 1) // GRAIN_BYTES + 1
        )

    def conflicts(self, other: Event) -> bool:
        """Would the order of the two matter? Calls of the kernel count as touching everything
        that another call touches."""
        if self.task == other.task:
            return False
        if not self.is_access or not other.is_access:
            return not self.is_access and not other.is_access
        if not (self.writes or other.writes):
            return False
        mine, theirs = self.objects, other.objects
        return mine.start < theirs.stop and theirs.start < mine.stop


@dataclass(slots=True)
class Point:
    """A choice point, as a strategy sees it."""

    step: int
    """Choice points of this execution before this one."""
    current: int | None
    """The task that has run up to here and could go on; None if it sleeps, has ended, or spins."""
    enabled: tuple[int, ...]
    """Tasks that can run, ascending. Never empty."""
    pending: Mapping[int, Event]
    """What each enabled task does next."""
    executed: Sequence[Event]
    """What has happened since the strategy was last asked, in order. To be looked at while the
    execution lasts."""
    last: int = 0
    """The task that has run up to here, whether or not it can go on."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Choices, written down: at choice point `step`, run `task`.

    Between, whoever runs goes on; if it cannot, the enabled task with the next higher number
    (cyclically) does. `watched` are the words (addr // 8) that were choice points.
    """

    switches: Mapping[int, int]
    """step -> task"""
    watched: tuple[int, ...] = ()
    granularity: str = "conflict"

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "switches": [[step, task] for step, task in sorted(self.switches.items())],
            "watched": list(self.watched),
            "granularity": self.granularity,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Schedule:
        """The inverse. Raises KeyError, TypeError, ValueError."""
        return cls(
            {int(step): int(task) for step, task in data["switches"]},
            tuple(int(word) for word in data["watched"]),
            str(data["granularity"]),
        )


@dataclass(slots=True)
class Profile:
    """What earlier executions have shown of the program."""

    executions: int = 0
    steps: int = 0
    """Choice points of the longest execution so far."""
    events: dict[int, int] = field(default_factory=dict)
    """task -> the most events it has had in one execution"""
    tasks: int = 1
    """The most tasks there have been."""


@dataclass(slots=True)
class Result:
    """How one execution ended."""

    failure: str = ""
    """Empty, or why it counts as one: "SIGABRT", "exit status 1", "deadlock", ..."""
    status: int = 0
    """Wait status of the program, as os.waitstatus_to_exitcode takes it."""
    steps: int = 0
    switches: dict[int, int] = field(default_factory=dict)
    """All switches as they were made: step -> task."""
    preemptions: int = 0
    """Switches away from a task that could have gone on."""
    events: list[Event] = field(default_factory=list)
    """All events, in order, if they were recorded."""
    stdout: bytes = b""
    stderr: bytes = b""
    detail: str = ""
    """More than a line: who waits for what, a traceback of a predicate."""
    new_interleaving: bool = True
    """No earlier execution of this exploration had the same order of conflicting events."""
    reads_from: frozenset[tuple[int, int]] = frozenset()
    """(ip of the writer or 0 for what stood there at the start, ip of the reader)."""
