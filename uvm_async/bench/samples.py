"""What the samples of a contestant say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from uvm_async.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["PERCENTILES", "Samples", "median"]

PERCENTILES: Final = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}
LONGEST_NS: Final = 600 * 10**9
DIGITS: Final = 3


def median(values: Iterable[float]) -> float:
    """The middle one (the upper of two)."""
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def _histogram() -> Any:
    try:
        from hdrh.histogram import HdrHistogram
    except ImportError:
        raise UsageError(
            "measuring needs the package hdrhistogram: pip install 'uvm_async[bench]'"
        ) from None
    return HdrHistogram(1, LONGEST_NS, DIGITS)


class Samples:
    """Durations in ns, in one histogram over all rounds; each round's median beside it."""

    def __init__(self) -> None:
        self.histogram = _histogram()
        self.rounds: list[float] = []
        """Median of each round, ns."""
        self.count = 0
        self.total_ns = 0.0

    def add(self, durations_ns: Iterable[float]) -> None:
        """One round."""
        durations = list(durations_ns)
        for duration in durations:
            self.histogram.record_value(max(1, round(duration)))
        self.rounds.append(median(durations))
        self.count += len(durations)
        self.total_ns += sum(durations)

    @property
    def p50(self) -> float:
        """Median over all rounds, ns."""
        return float(self.histogram.get_value_at_percentile(50.0))

    def spread(self) -> float:
        """How far the middle half of the rounds' medians lies apart, as a share of the median."""
        ordered = sorted(self.rounds)
        quarter = len(ordered) // 4
        return (ordered[-1 - quarter] - ordered[quarter]) / max(1.0, median(ordered))

    def as_json(self) -> dict[str, Any]:
        """Plain data, times in ns."""
        result: dict[str, Any] = {
            name: self.histogram.get_value_at_percentile(p) for name, p in PERCENTILES.items()
        }
        result["max"] = self.histogram.get_max_value()
        result["mean"] = round(self.total_ns / max(1, self.count), 1)
        result["count"] = self.count
        result["rounds"] = [round(m, 1) for m in self.rounds]
        result["histogram"] = self.histogram.encode().decode("ascii")
        return result
