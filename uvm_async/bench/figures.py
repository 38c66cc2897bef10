"""The figures of `uvm bench`: what is measured, beside what, and how good it wants to be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from uvm_async.bench.contest import Bound, Contestant, Result, compete
from uvm_async.bench.phases import null_call_phases
from uvm_async.errors import MachineError

if TYPE_CHECKING:
    from uvm_async.bench.build import Programs
    from uvm_async.bench.host import Ticks
    from uvm_async.machine import Machine

__all__ = ["BENCHES", "Plan", "micro_figure"]

Progress = Callable[[str], None]
ROUND_TIMEOUT: Final = 300.0
FLOOR_OF_CALL: Final = 1.6
FLOOR_OF_SWITCH: Final = 2.0
HOST_OF_FORK: Final = 4.0
HOST_OF_FAULT: Final = 3.5
GROWTH: Final = 1.3
RING_SAMPLES: Final = 100_000
"""Samples of a ring, divided by its tasks: a sample is a whole turn."""


@dataclass(slots=True)
class Plan:
    """A warm machine, the programs, and how much to measure."""

    machine: Machine
    programs: Programs
    ticks: Ticks
    rounds: int
    scale: float
    """Factor on every sample count."""
    tasks: int
    working_set: int
    """Bytes that each task of a ring touches at each turn."""
    progress: Progress

    def count(self, count: int) -> int:
        """Samples in a round."""
        return max(2, int(count * self.scale))

    def guest(self, *args: object) -> Contestant:
        """`micro` in the machine."""
        argv = [self.programs.micro, *map(str, args)]

        async def take() -> list[float]:
            done = await self.machine.run(argv, timeout=ROUND_TIMEOUT)
            if done.returncode:
                raise MachineError(f"micro {args[0]} ended with {done.returncode} in the machine")
            return self.ticks.durations(done.stdout)

        return Contestant("guest", take)

    def host(self, *args: object) -> Contestant:
        """`micro` on the host."""
        return Contestant("host", lambda: self._outside([self.programs.micro, *map(str, args)]))

    def floor(self, name: str, *args: object) -> Contestant:
        """`floor`."""
        return Contestant(name, lambda: self._outside([self.programs.floor, *map(str, args)]))

    async def _outside(self, argv: list[str]) -> list[float]:
        process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
        output, _ = await asyncio.wait_for(process.communicate(), ROUND_TIMEOUT)
        if process.returncode:
            raise MachineError(f"{' '.join(argv[1:])} ended with {process.returncode} on the host")
        return self.ticks.durations(output)

    async def compete(
        self, name: str, what: str, contestants: list[Contestant], bound: Bound | None = None
    ) -> Result:
        """One contest."""
        self.progress(what)
        self.ticks.update()
        return await compete(name, what, contestants, rounds=self.rounds, bound=bound)


async def micro_figure(
    plan: Plan, name: str, what: str, count: int, *args: object, most: float | None = None
) -> Result:
    """An operation of micro.c in the machine, beside the host's own."""
    argv = (name, plan.count(count), *args)
    bound = Bound("host", most) if most is not None else None
    return await plan.compete(name, what, [plan.guest(*argv), plan.host(*argv)], bound)


async def bench_syscall(plan: Plan) -> list[Result]:
    """A null call."""
    count = plan.count(20_000)
    transport = plan.machine.transport
    result = await plan.compete(
        "null",
        "null call",
        [
            plan.guest("null", count),
            plan.floor("floor", "call", transport, count),
            plan.host("null", count),
        ],
        Bound("floor", FLOOR_OF_CALL),
    )
    result.notes["phases"] = await null_call_phases(
        plan.machine, plan.ticks, plan.guest("null", count)
    )
    return [result]


async def _ring(plan: Plan, tasks: int) -> Result:
    transport = plan.machine.transport
    count = max(60, plan.count(RING_SAMPLES) // (10 * tasks))
    contestants = [
        plan.guest("ring", count, tasks, plan.working_set),
        plan.floor("raw ring", "ring", transport, count, tasks, plan.working_set),
        plan.host("ring", count, tasks, plan.working_set),
    ]
    bound = None
    if tasks == 2:
        contestants.insert(1, plan.floor("floor", "hop", transport, count))
        bound = Bound("floor", FLOOR_OF_SWITCH)
    what = f"switch by sched_yield, one way, {tasks} tasks"
    return await plan.compete(f"ring {tasks}", what, contestants, bound)


async def bench_switch(plan: Plan) -> list[Result]:
    """Giving way among tasks, and how it grows with their number; a byte through pipes."""
    few = await _ring(plan, 2)
    results = [few]
    if plan.tasks > 2:
        many = await _ring(plan, plan.tasks)
        many.notes["growth"] = growth(few, many)
        results.append(many)
    results.append(await micro_figure(plan, "pipe", "pipe round trip", 4_000))
    return results


def growth(few: Result, many: Result) -> dict[str, Any]:
    """From few to many tasks, beside the same of a ring without a kernel.

    Many tasks hardly fit a cache, and what they cost differs from round to round.  What disturbs
    a round disturbs both rings in it: the bound counts as met, or missed, when it is in every
    round by itself, and else is left open.
    """
    ours = many.samples["guest"].p50 / few.samples["guest"].p50
    raw = many.samples["raw ring"].p50 / few.samples["raw ring"].p50
    start = few.samples["guest"].p50 / few.samples["raw ring"].p50
    pairs = zip(many.samples["guest"].rounds, many.samples["raw ring"].rounds, strict=True)
    by_round = sorted(guest / ring / start for guest, ring in pairs)
    met = True if by_round[-1] <= GROWTH else None
    return {
        "ours": round(ours, 3),
        "raw": round(raw, 3),
        "ratio": round(ours / raw, 3),
        "by round": [round(ratio, 3) for ratio in by_round],
        "most": GROWTH,
        "met": False if by_round[0] > GROWTH else met,
    }


async def bench_fork(plan: Plan) -> list[Result]:
    """Making processes and threads."""
    return [
        await micro_figure(plan, "fork", "fork, exit, wait", 400, most=HOST_OF_FORK),
        await micro_figure(plan, "exec", "fork, exec, wait", 40),
        await micro_figure(plan, "vexec", "vfork, exec, wait", 40),
        await micro_figure(plan, "thread", "thread create, join", 400),
    ]


async def bench_fault(plan: Plan) -> list[Result]:
    """Memory."""
    pages = max(1, plan.working_set // 4096) if plan.working_set else 1024
    return [
        await micro_figure(
            plan,
            "fault",
            f"anonymous page, touched in order ({pages})",
            40,
            pages,
            most=HOST_OF_FAULT,
        ),
        await micro_figure(plan, "mmap", "mmap, munmap (16 pages)", 2_000),
        await micro_figure(plan, "touch", "mmap, touch a page, munmap", 2_000),
    ]


BENCHES: Final[dict[str, Callable[[Plan], Awaitable[list[Result]]]]] = {
    "switch": bench_switch,
    "syscall": bench_syscall,
    "fork": bench_fork,
    "fault": bench_fault,
}
