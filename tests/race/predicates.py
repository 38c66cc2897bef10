"""Predicates and a strategy of a user's own, as tests of the command name them."""

from __future__ import annotations

from uvm_async.race.engine import Engine
from uvm_async.race.model import Point, Result
from uvm_async.race.strategies import Strategy


def never_prints_woken(engine: Engine, result: Result) -> str | None:
    """Complains of an output."""
    return "it was woken" if b"woken" in result.stdout else None


class Highest(Strategy):
    """Always the task with the highest number."""

    def choose(self, point: Point) -> int:
        return point.enabled[-1]
