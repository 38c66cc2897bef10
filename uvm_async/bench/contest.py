"""Contestants measured in turn, round by round, so that what disturbs one disturbs all.

The first contestant is the one that the figure is about, and runs twice in each
round, under two names: what differs between the two differs by chance (the A/A
band).  The order turns around from round to round.  A figure that its own double
or its own rounds contradict is called unsteady and not printed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from uvm_async.bench.samples import Samples

__all__ = ["AGAIN", "Bound", "Contestant", "Result", "compete"]

AGAIN: Final = "again"
"""Name of the first contestant's double."""
STEADY: Final = 0.15
"""Most by which the double, or the middle half of the rounds, may differ."""

Take = Callable[[], Awaitable[Sequence[float]]]


@dataclass(frozen=True, slots=True)
class Contestant:
    """Somebody who can be measured: `take` runs one round and answers durations in ns."""

    name: str
    take: Take


@dataclass(frozen=True, slots=True)
class Bound:
    """The figure wants to be at most `most` times contestant `of`."""

    of: str
    most: float


@dataclass(slots=True)
class Result:
    """What a contest has found."""

    name: str
    what: str
    """The operation, in words."""
    samples: dict[str, Samples]
    """By contestant, the subject first."""
    bound: Bound | None = None
    unit: str = "ns"
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def subject(self) -> str:
        """The contestant that the figure is about."""
        return next(iter(self.samples))

    @property
    def band(self) -> float:
        """How far the subject and its double lie apart."""
        one, other = self.samples[self.subject].p50, self.samples[AGAIN].p50
        return abs(one - other) / max(1.0, min(one, other))

    def steady(self, name: str) -> bool:
        """May contestant `name`'s figure be believed?"""
        if name in (self.subject, AGAIN) and self.band > STEADY:
            return False
        return self.samples[name].spread() <= STEADY

    def ratio(self, to: str) -> float:
        """Subject's median over another's."""
        return self.samples[self.subject].p50 / max(1.0, self.samples[to].p50)

    @property
    def met(self) -> bool | None:
        """Is the bound met? None where there is none, or no steady figures."""
        if self.bound is None or not (self.steady(self.subject) and self.steady(self.bound.of)):
            return None
        return self.ratio(self.bound.of) <= self.bound.most

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "what": self.what,
            "unit": self.unit,
            "contestants": {
                name: {**s.as_json(), "steady": self.steady(name)}
                for name, s in self.samples.items()
            },
            "band": round(self.band, 4),
            "spread": round(self.samples[self.subject].spread(), 4),
            "ratios": {
                name: round(self.ratio(name), 3)
                for name in self.samples
                if name not in (self.subject, AGAIN)
            },
            "bound": {"of": self.bound.of, "most": self.bound.most} if self.bound else None,
            "met": self.met,
            "notes": self.notes,
        }


async def compete(
    name: str,
    what: str,
    contestants: list[Contestant],
    *,
    rounds: int,
    bound: Bound | None = None,
) -> Result:
    """Measure all of them `rounds` times, after one round that warms up and does not count."""
    subject = contestants[0]
    order = [subject, *contestants[1:], Contestant(AGAIN, subject.take)]
    samples = {c.name: Samples() for c in order}
    for contestant in contestants:
        await contestant.take()
    for index in range(rounds):
        for contestant in order if index % 2 == 0 else reversed(order):
            samples[contestant.name].add(await contestant.take())
    return Result(name, what, samples, bound)
