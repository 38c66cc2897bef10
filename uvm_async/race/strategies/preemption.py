"""Preemption-bounded search: every schedule with few preemptions.

Musuvathi and Qadeer, "Iterative Context Bounding for Systematic Testing of
Multithreaded Programs", PLDI 2007.

A switch away from a task that could have gone on costs one; a switch where the
running task sleeps, ends or spins is free, to whomever.  Most known bugs need at
most two preemptions.

Guarantee: it ends, and has then made every schedule with at most `bound`
preemptions, there being on the order of (k*n)^bound * n! of them (k points, n tasks).
"""

from __future__ import annotations

from typing import ClassVar

from uvm_async.race.strategies.base import strategy
from uvm_async.race.strategies.bounded import BoundedSearch

__all__ = ["PreemptionBounded"]


@strategy("preemption")
class PreemptionBounded(BoundedSearch):
    """Systematic, by number of preemptions."""

    unit: ClassVar[tuple[str, str]] = ("preemption", "preemptions")

    def __init__(self, seed: int, *, bound: int = 2, patience: int = 10_000) -> None:
        super().__init__(seed, bound=bound, patience=patience)

    def costs(self, order: tuple[int, ...], goes_on: bool) -> tuple[int, ...]:
        return (0,) + (int(goes_on),) * (len(order) - 1)
