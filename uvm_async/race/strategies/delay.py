"""Delay-bounded search: every schedule that is few delays away from a plain scheduler.

Emmi, Qadeer, Rakamaric, "Delay-Bounded Scheduling", POPL 2011.

The plain scheduler here runs a task for as long as it can, then the next by
number.  To delay is to pass over the task whose turn it is; whoever is the j-th in
turn costs j delays, also where the running task cannot go on.  So choices at
blocking points are not free, as they are under a bound of preemptions: the number of
schedules does not grow with the number of tasks to the power of such points, and
programs of many tasks stay within reach.

Guarantee: it ends, and has then made every schedule with at most `bound`
delays, at most on the order of k^bound (k points).
"""

from __future__ import annotations

from typing import ClassVar

from uvm_async.race.strategies.base import strategy
from uvm_async.race.strategies.bounded import BoundedSearch

__all__ = ["DelayBounded"]


@strategy("delay")
class DelayBounded(BoundedSearch):
    """Systematic, by number of delays."""

    unit: ClassVar[tuple[str, str]] = ("delay", "delays")

    def __init__(self, seed: int, *, bound: int = 3, patience: int = 10_000) -> None:
        super().__init__(seed, bound=bound, patience=patience)

    def costs(self, order: tuple[int, ...], goes_on: bool) -> tuple[int, ...]:
        return tuple(range(len(order)))
