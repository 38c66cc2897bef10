"""Where a null call spends its time.

The guest says in two spare registers when its call began and when the one before
ended (programs/micro.c); here the way through the kernel is stamped at a few doors,
by standing in front of them: nothing in the kernel knows that it is watched, and
nothing is paid for it when it is not.  The stamps cost some hundred nanoseconds of
their own, so the phases add up to more than an unwatched call.

    trap      guest's call to the loop's callback: SIGSYS, signal, wake-up, loop
    read      the notification read
    dispatch  to the handler: scheduler, table, decoding
    handler   the handler itself
    return    to waking the stub: result, scheduler
    resume    from there to the guest's next instruction
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final

from uvm_async.arch import notify
from uvm_async.arch import registers as r
from uvm_async.bench.samples import median
from uvm_async.syscalls.numbers import X86_64

if TYPE_CHECKING:
    from uvm_async.bench.contest import Contestant
    from uvm_async.bench.host import Ticks
    from uvm_async.machine import Machine

__all__ = ["PHASES", "null_call_phases"]

PHASES: Final = ("trap", "read", "dispatch", "handler", "return", "resume")
READ: Final = "uvm_notify_drain"


class _Stamps:
    """The call under way, and those that are complete."""

    def __init__(self) -> None:
        self.read_from = self.read_to = self.handler_from = self.handler_to = self.resumed = 0
        self.began = 0
        self.pending: tuple[int, ...] = ()
        self.calls: list[tuple[int, ...]] = []

    def read(self, reader: Any) -> Any:
        def stamped(*args: Any) -> Any:
            self.read_from = monotonic_ns()
            result = reader(*args)
            self.read_to = monotonic_ns()
            return result

        return stamped

    def resume(self, resume: Any) -> Any:
        def stamped(*args: Any) -> Any:
            if self.handler_to:
                self.pending = (
                    self.began, self.read_from, self.read_to, self.handler_from,
                    self.handler_to, monotonic_ns(),
                )  # fmt: skip
                self.handler_to = 0
            return resume(*args)

        return stamped

    def handler(self, invoke: Any) -> Any:
        def stamped(task: Any, u64: Any, regs: int) -> Any:
            self.handler_from = monotonic_ns()
            if self.pending:
                self.calls.append((*self.pending, u64[regs + r.R8]))
            self.pending = ()
            self.began = u64[regs + r.R9]
            result = invoke(task, u64, regs)
            self.handler_to = monotonic_ns()
            return result

        return stamped


class _Watched:
    """Stands for the C library: reading notifications is stamped, the rest is as it is."""

    def __init__(self, lib: Any, stamps: _Stamps) -> None:
        self._lib = lib
        setattr(self, READ, stamps.read(getattr(lib, READ)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lib, name)


@contextlib.contextmanager
def _watching(machine: Machine, stamps: _Stamps) -> Iterator[None]:
    entry = machine.kernel.calls[X86_64["getppid"]]
    sched = machine.kernel.sched
    door: Any = notify
    invoke, resume, lib = entry.invoke, sched._resume_stub, door.lib
    try:
        entry.invoke = stamps.handler(invoke)
        sched._resume_stub = stamps.resume(resume)
        door.lib = _Watched(lib, stamps)
        yield
    finally:
        entry.invoke = invoke
        sched._resume_stub = resume
        door.lib = lib


async def null_call_phases(
    machine: Machine, ticks: Ticks, contestant: Contestant
) -> dict[str, float]:
    """Median ns of each phase, and of the whole as watched."""
    stamps = _Stamps()
    with _watching(machine, stamps):
        await contestant.take()
    ticks.update()
    rows = []
    for began, read_from, read_to, handler_from, handler_to, resumed, ended in stamps.calls[1:]:
        start, end = ticks.monotonic_ns(began), ticks.monotonic_ns(ended)
        points = (start, read_from, read_to, handler_from, handler_to, resumed, end)
        rows.append([b - a for a, b in itertools.pairwise(points)] + [end - start])
    if not rows:
        return {}
    names = (*PHASES, "whole")
    return {name: round(median(row[i] for row in rows), 1) for i, name in enumerate(names)}
