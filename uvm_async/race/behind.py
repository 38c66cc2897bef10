"""Tasks that go on only when no other can: those that spin, and those that compute without end.

A task *spins* when it makes accesses that it has made before and finds what it found before.
As long as no shared memory changes it can do nothing else, so to let it run, were others
able to, would explore nothing: it stands behind them until something has changed.  With a
strategy that is not fair, two spinning tasks could otherwise give way to each other for
ever, while whoever could end their waiting is never chosen.

A task *computes* when it has used the processor for long and neither called the kernel nor touched
shared memory.  It may do so for ever (on a real machine others would go on beside it), so
it stands behind them until it does either.

If all that can run spin, again and again with the same registers, no time is left to pass
and nothing changes, they spin in vain: a livelock.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final
from zlib import crc32

from uvm_async.arch import registers as r

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task
    from uvm_async.race.area import RaceArea

__all__ = ["Behind"]

VAIN_ROUNDS: Final = 50
FRAME_BYTES: Final = 1024


class Behind:
    """Of one execution. Plain state: it is put back with everything else."""

    def __init__(self) -> None:
        self._spun: dict[Task, None] = {}
        """Who has spun since memory last changed."""
        self._changes = 0
        """Changes of shared memory (`struct uvm_race`) up to then."""
        self._stands: dict[Task, int] = {}
        """What a spinning task stood there with (a hash of registers and the top of its stack): a
        loop that counts will end."""
        self._vain = 0
        """Questions of spinning tasks in a row between which nothing has changed."""
        self._computing: dict[Task, None] = {}
        self._yielded: dict[Task, int] = {}
        """Changes up to when it called sched_yield,"""
        self._gave_way: dict[Task, int] = {}
        """or when another was chosen at a choice point of its."""

    def spins(self, area: RaceArea, task: Task) -> None:
        """`task` makes the same accesses again, and finds the same."""
        stub = task.stub
        assert stub is not None
        area.rested(stub.slot)
        self._look(area)
        self._spun[task] = None
        u64 = task.kernel.physmem.u64
        frame = task.mm.peek(u64[stub.regs + r.RSP] - FRAME_BYTES // 4, FRAME_BYTES)
        state = crc32(frame, crc32(bytes(u64[stub.regs : stub.regs + r.EFLAGS])))
        if self._stands.get(task) != state:
            self._stands[task] = state
            self._vain = 0
        self._vain += 1

    def yields(self, area: RaceArea, task: Task) -> None:
        """`task` calls sched_yield. If it has done so before and nothing has changed, it spins."""
        changes = int(area.race.changes)
        if self._yielded.get(task) == changes:
            self._look(area)
            self._spun[task] = None
        self._yielded[task] = changes

    def gives_way(self, area: RaceArea, task: Task) -> None:
        """Another goes on though `task` could."""
        self._gave_way[task] = int(area.race.changes)

    def finds_the_same(self, area: RaceArea, task: Task) -> bool:
        """`task` goes on: has nothing changed since it gave way? Then what it repeats it still
        does."""
        return self._gave_way.pop(task, -1) == int(area.race.changes)

    def computes(self, task: Task) -> None:
        """`task` has computed for long."""
        self._computing[task] = None

    def traps(self, task: Task) -> None:
        """`task` calls the kernel, or touches shared memory."""
        self._computing.pop(task, None)

    def is_computing(self, task: Task) -> bool:
        """Has it been computing up to here?"""
        return task in self._computing

    def any(self, area: RaceArea) -> bool:
        """Is there anybody who may have to stand behind?"""
        if self._spun:
            self._look(area)
        return bool(self._spun or self._computing)

    def leaves(self, tasks: Iterable[Task]) -> list[Task]:
        """Who of `tasks` may go on: those not behind; if all are, whoever does not compute, or else
        all."""
        able = [task for task in tasks if task not in self._computing]
        if not able:
            return list(tasks)
        return [task for task in able if task not in self._spun] or able

    def in_vain(self, tasks: Iterable[Task]) -> bool:
        """All of `tasks`, whoever can run, spin. Have they done so for long enough?"""
        able = [task for task in tasks if task not in self._computing]
        if any(task not in self._spun for task in able):
            self._vain = 0
        return self._vain >= VAIN_ROUNDS * (len(able) + 1)

    def time_passes(self) -> None:
        """Which may change something."""
        self._vain = 0
        self._spun.clear()

    def _look(self, area: RaceArea) -> None:
        changes = int(area.race.changes)
        if changes != self._changes:
            self._changes = changes
            self._spun.clear()
            self._vain = 0
