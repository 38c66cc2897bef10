"""Shootdowns: taking a right away from Tlbs that may hold it.

Linux: arch/x86/mm/tlb.c.  When the kernel takes a right from the page tables, each
stub of that mm drops the range before it next runs guest code.  A sibling that
runs right now is kicked and acknowledges, or traps, which counts as much; until
then the caller's result is withheld (`sync`) and frames that came free stay in
limbo: whoever still holds them in a Tlb could write to them.

A frame leaves limbo when every acknowledgement outstanding *in the machine* at
the time it came free has arrived: another mm's pending shootdown may cover it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from uvm_async._host import lib
from uvm_async.sched.state import TaskState
from uvm_async.sched.wait import WaitQueue, wait_for
from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.arch.stub import StubFamily
    from uvm_async.kernel.task import Task
    from uvm_async.mm.frames import Frames
    from uvm_async.mm.mm import Mm

__all__ = ["Shootdowns"]


class Shootdowns(Entity):
    """The machine's outstanding acknowledgements, and frames that wait for them."""

    TRANSIENT: ClassVar[frozenset[str]] = frozenset({"family"})

    def __init__(self, frames: Frames) -> None:
        self.frames = frames
        self.family: StubFamily | None = None
        self.pending: dict[Task, int] = {}
        """Running tasks that have not acknowledged yet, with the generation they owe."""
        self.generation = 0
        self.since_ns = 0
        """When `pending` last became non-empty (the host's monotonic time)."""
        self.queue = WaitQueue()
        self.limbo: list[tuple[int, list[int]]] = []
        """(generation, pfns): free once nobody owes that generation or an older one."""

    def owe(self, mm: Mm, current: Task | None, ranges: Iterable[tuple[int, int]]) -> None:
        """Every stub of `mm` drops the byte ranges (addr, length) before it runs guest code."""
        ranges = list(ranges)
        for task in mm.tasks:
            stub = task.stub
            if stub is None:
                continue
            for addr, length in ranges:
                lib.uvm_stub_shootdown(stub.mailbox, addr, length)
            if task is not current and task.state is TaskState.RUNNING:
                if not self.pending:
                    self.since_ns = time.monotonic_ns()
                if task not in self.pending:
                    self.generation += 1
                    self.pending[task] = self.generation
                assert self.family is not None
                self.family.kick(stub, preempt=False, want_ack=True)

    def release(self, pfns: list[int]) -> None:
        """Frames whose count fell to zero as entries were cleared: free, when it is safe."""
        if not pfns:
            return
        if self.pending:
            self.generation += 1
            self.limbo.append((self.generation, pfns))
        else:
            self._free(pfns)

    def _free(self, pfns: list[int]) -> None:
        lib.uvm_frames_release(self.frames.pm, pfns, len(pfns))

    def acknowledged(self, task: Task) -> None:
        """`task` has done what was listed, or has trapped, or is dead."""
        if self.pending.pop(task, None) is None:
            return
        oldest = min(self.pending.values(), default=self.generation + 1)
        while self.limbo and self.limbo[0][0] < oldest:
            self._free(self.limbo.pop(0)[1])
        self.queue.wake_up()

    async def sync(self) -> None:
        """Sleep (uninterruptibly) until all that is owed now has been acknowledged."""
        if not self.pending:
            return
        bound = self.generation
        while any(generation <= bound for generation in self.pending.values()):
            await wait_for(self.queue)
