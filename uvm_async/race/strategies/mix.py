"""The default: several strategies, each getting the more executions the more it pays.

No strategy is best on all programs, and which one is cannot be known beforehand;
how much each still finds can be seen.  Each execution is given to one of the
strategies (*arms*), by discounted UCB: Garivier and Moulines, "On Upper-Confidence
Bound Policies for Switching Bandit Problems", ALT 2011, after Auer, Cesa-Bianchi
and Fischer, "Finite-time Analysis of the Multiarmed Bandit Problem", 2002.

What an execution pays: 1 for a failure of a kind not seen before; else half a
point for an order of conflicting events not seen before, and half for a
reads-from pair not seen before.  Both dry up, hence the discount: an arm is
judged by what it gave lately (half of the weight is on the last 35 executions
or so), and one that gives no more falls back until the others have dried up too.

First each arm has one execution, in the order in which they are listed.  Then
the one with the highest (mean pay + a bonus for having been tried little) has
the next; ties go to the earlier.  No dice are thrown here, so all is a function of the seed.

Guarantee: every arm is tried again and again, so whatever one of them finds with
a probability above zero is found in the end.  If all pay the same, each gets
the same share: at worst it is as many times slower than the best arm as there are arms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from uvm_async.errors import UsageError
from uvm_async.race.model import Point, Profile, Result
from uvm_async.race.strategies.base import Strategy, make_strategy, strategy

__all__ = ["DEFAULT_ARMS", "Mix"]

DEFAULT_ARMS = "rff+pos+random+pct:depth=2+surw+pct:depth=3+pct:depth=5"
DISCOUNT = 0.98
BONUS = 0.25
"""Weight of the bonus. Pay is at most 1, and mostly far less."""
MAX_PAIRS = 65_536
"""Reads-from pairs that are remembered; later ones pay nothing."""
MAX_FAILURES = 1024


@dataclass(slots=True)
class _Arm:
    spelling: str
    strategy: Strategy
    tries: float = 0.0
    """Executions, discounted."""
    paid: float = 0.0
    """Pay, discounted."""
    executions: int = 0


@strategy("mix")
class Mix(Strategy):
    """Divides its executions among other strategies by what pays."""

    uses_events = True

    def __init__(self, seed: int, *, of: str = DEFAULT_ARMS) -> None:
        super().__init__(seed)
        spellings = of.split("+")
        if any(each.partition(":")[0] == "mix" for each in spellings):
            raise UsageError("strategy mix: it cannot be an arm of itself")
        self._arms = [_Arm(each, make_strategy(each, seed)) for each in spellings]
        self._arm = self._arms[0]
        self._pairs: set[tuple[int, int]] = set()
        self._failures: set[str] = set()

    @property
    def shares(self) -> dict[str, int]:
        """How many executions each arm has had."""
        return {arm.spelling: arm.executions for arm in self._arms}

    def begin(self, profile: Profile) -> None:
        self._arm = self._best()
        self._arm.strategy.begin(profile)

    def choose(self, point: Point) -> int:
        return self._arm.strategy.choose(point)

    def lease(self) -> int:
        return self._arm.strategy.lease()

    def end(self, result: Result) -> None:
        self._arm.strategy.end(result)
        pay = self._pay(result)
        for arm in self._arms:
            arm.tries *= DISCOUNT
            arm.paid *= DISCOUNT
        self._arm.tries += 1
        self._arm.paid += pay
        self._arm.executions += 1
        self.finished = any(arm.strategy.finished for arm in self._arms)

    def claim(self) -> str:
        return next((arm.strategy.claim() for arm in self._arms if arm.strategy.finished), "")

    def _best(self) -> _Arm:
        for arm in self._arms:
            if arm.executions == 0:
                return arm
        log = math.log(max(sum(arm.tries for arm in self._arms), 1.0))
        return max(
            self._arms,
            key=lambda arm: arm.paid / arm.tries + BONUS * math.sqrt(log / arm.tries),
        )

    def _pay(self, result: Result) -> float:
        pairs = self._pairs
        known = len(pairs)
        if known < MAX_PAIRS:
            pairs |= result.reads_from
        if result.failure and result.failure not in self._failures:
            if len(self._failures) < MAX_FAILURES:
                self._failures.add(result.failure)
            return 1.0
        return 0.5 * result.new_interleaving + 0.5 * (len(pairs) > known)
