"""The default: several strategies, each getting the more executions the more it pays.

No strategy is best on all programs, and which one is cannot be known beforehand;
how much each still finds can be seen.  Each execution is given to one of the
strategies (*arms*).  An arm's share is in proportion to

    weight x (FLOOR + pay)

What an execution pays: 1 for a failure of a kind not seen before; else half a
point for a set of reads-from pairs not seen before, and half for a
pair not seen before.  Both dry up, so an arm is judged by what it gave
lately (a mean in which an execution counts half of one 35 later), and one that gives
no more falls back until the others have dried up too.  Until it has had an
execution an arm is taken to pay in full.

Weights are what is known beforehand: reads-from constraints lead where many tasks
write what one reads, the uniform walk where a few words are touched many times, POS
between them; priorities (PCT) and the plain walk find what those
miss, and are seldom first (docs/figures.md has the measurement).

Executions are dealt out by smooth weighted round robin: each arm's credit grows
by its share, the one with the highest runs and pays one for it.  No dice are thrown,
so all is a function of the seed.  A bandit that plays its favourite and explores by a
bonus (discounted UCB) was tried and lost: what an execution pays says little of which
arm will find the failure, so to follow it closely costs more than it brings.

Guarantee: an arm of weight w among arms of total weight W has at least the share
w FLOOR / (W (FLOOR + 1)), so what it finds with a probability above zero is found in
the end, at worst so many times later than by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from uvm_async.errors import UsageError
from uvm_async.race.model import Point, Profile, Result
from uvm_async.race.strategies.base import Strategy, make_strategy, strategy

__all__ = ["DEFAULT_ARMS", "Mix"]

DEFAULT_ARMS = "3*rff+3*surw+2*pos+random+pct:depth=3"
FLOOR = 0.25
FORGET = 0.98
"""An execution's weight in the mean, for each that its arm has had since."""
MAX_PAIRS = 65_536
"""Reads-from pairs (and sets of them) that are remembered; later pairs pay nothing."""
MAX_FAILURES = 1024


@dataclass(slots=True)
class _Arm:
    spelling: str
    strategy: Strategy
    weight: int
    credit: float = 0.0
    tries: float = 0.0
    """Executions, those long ago counting less."""
    paid: float = 0.0
    """Pay, likewise."""
    executions: int = 0

    @property
    def due(self) -> float:
        """What it is due of the next execution, beside the others."""
        return self.weight * (FLOOR + (self.paid / self.tries if self.tries else 1.0))


def _arm(spelling: str, seed: int) -> _Arm:
    weight, star, name = spelling.partition("*")
    if not star:
        weight, name = "1", spelling
    if name.partition(":")[0] == "mix":
        raise UsageError("strategy mix: it cannot be an arm of itself")
    if not weight.isdecimal() or not int(weight):
        raise UsageError(f"strategy mix: {spelling!r} begins with no weight above 0")
    return _Arm(name, make_strategy(name, seed), int(weight))


@strategy("mix")
class Mix(Strategy):
    """Divides its executions among other strategies by what pays."""

    uses_events = True

    def __init__(self, seed: int, *, of: str = DEFAULT_ARMS) -> None:
        super().__init__(seed)
        self._arms = [_arm(each, seed) for each in of.split("+")]
        self._arm = self._arms[0]
        self._pairs: set[tuple[int, int]] = set()
        self._sets: set[int] = set()
        self._failures: set[str] = set()

    @property
    def shares(self) -> dict[str, int]:
        """How many executions each arm has had."""
        return {arm.spelling: arm.executions for arm in self._arms}

    def begin(self, profile: Profile) -> None:
        self._arm = self._deal()
        self._arm.strategy.begin(profile)

    def choose(self, point: Point) -> int:
        return self._arm.strategy.choose(point)

    def lease(self) -> int:
        return self._arm.strategy.lease()

    def end(self, result: Result) -> None:
        arm = self._arm
        arm.strategy.end(result)
        arm.tries = FORGET * arm.tries + 1
        arm.paid = FORGET * arm.paid + self._pay(result)
        arm.executions += 1
        self.finished = any(arm.strategy.finished for arm in self._arms)

    def claim(self) -> str:
        return next((arm.strategy.claim() for arm in self._arms if arm.strategy.finished), "")

    def _deal(self) -> _Arm:
        """Whose turn it is."""
        dues = [arm.due for arm in self._arms]
        total = sum(dues)
        for arm, due in zip(self._arms, dues, strict=True):
            arm.credit += due / total
        best = max(self._arms, key=lambda arm: arm.credit)
        best.credit -= 1
        return best

    def _pay(self, result: Result) -> float:
        pairs = self._pairs
        known = len(pairs)
        if known < MAX_PAIRS:
            pairs |= result.reads_from
        if result.failure and result.failure not in self._failures:
            if len(self._failures) < MAX_FAILURES:
                self._failures.add(result.failure)
            return 1.0
        kind = hash(result.reads_from)
        new = kind not in self._sets
        if new and len(self._sets) < MAX_PAIRS:
            self._sets.add(kind)
        return 0.5 * new + 0.5 * (len(pairs) > known)
