"""Results as text, as JSON, and beside those of another run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from uvm_async.bench.contest import AGAIN, Result
from uvm_async.errors import UsageError

__all__ = ["as_document", "compared", "load", "text"]

FORMAT: Final = 1
COLUMNS: Final = ("p50", "p90", "p99", "p99.9", "max")
WIDTH: Final = 11
UNSTEADY: Final = "unsteady"


def _value(value: float, unit: str) -> str:
    return _time(value) if unit == "ns" else f"{value:.0f} {unit}"


def _time(ns: float) -> str:
    for limit, unit, digits in ((1e4, "ns", 0), (1e7, "us", 2), (1e10, "ms", 2)):
        if ns < limit:
            scale = {"ns": 1, "us": 1e3, "ms": 1e6}[unit]
            return f"{ns / scale:.{digits}f} {unit}"
    return f"{ns / 1e9:.2f} s"


def text(results: Iterable[Result]) -> str:
    """A table for each figure."""
    return "\n\n".join(_table(result) for result in results)


def _table(result: Result) -> str:
    lines = [result.what]
    lines.append(" " * 12 + "".join(f"{c:>{WIDTH}}" for c in COLUMNS) + f"{'ratio':>9}")
    for name, samples in result.samples.items():
        if name == AGAIN:
            continue
        data = samples.as_json()
        if result.steady(name):
            row = "".join(f"{_value(data[c], result.unit):>{WIDTH}}" for c in COLUMNS)
            known = name != result.subject and result.steady(result.subject)
            row += f"{result.ratio(name):>8.2f}x" if known else ""
        else:
            row = f"{UNSTEADY:>{WIDTH}}"
        lines.append(f"  {name:<10}{row}")
    lines.append(
        f"  A/A band {result.band:.1%}, rounds {len(result.samples[result.subject].rounds)}"
    )
    if result.bound is not None:
        verdict = {True: "met", False: "MISSED", None: UNSTEADY}[result.met]
        lines.append(f"  wants at most {result.bound.most:g} x {result.bound.of}: {verdict}")
    lines += _notes(result.notes)
    return "\n".join(lines)


def _notes(notes: dict[str, Any]) -> list[str]:
    lines = []
    if notes.get("phases"):
        phases = ", ".join(f"{name} {_time(ns)}" for name, ns in notes["phases"].items())
        lines.append(f"  phases (watched): {phases}")
    if "growth" in notes:
        g = notes["growth"]
        verdict = {True: "met", False: "MISSED", None: UNSTEADY}[g["met"]]
        least, most = g["by round"][0], g["by round"][-1]
        lines.append(
            f"  growth {g['ours']:.2f}, of a raw ring {g['raw']:.2f}: {g['ratio']:.2f}, "
            f"by rounds {least:.2f} to {most:.2f} (wants at most {g['most']:g}: {verdict})"
        )
    for name in notes.keys() - {"phases", "growth"}:
        lines.append(f"  {name}: {notes[name]}")
    return lines


def as_document(facts: dict[str, Any], options: dict[str, Any], results: Iterable[Result]) -> str:
    """The whole run as JSON. Times in ns."""
    document = {
        "format": FORMAT,
        "host": facts,
        "options": options,
        "figures": {result.name: result.as_json() for result in results},
    }
    return json.dumps(document, indent=1) + "\n"


def load(path: str) -> dict[str, Any]:
    """A run that was kept. Raises UsageError."""
    try:
        with open(path) as stream:
            document = json.load(stream)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"{path} is no JSON") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise UsageError(f"{path} does not hold the results of uvm bench")
    return document


def compared(before: dict[str, Any], results: Iterable[Result]) -> str:
    """Each figure beside the other run's: what changed beyond the bands of both."""
    lines = ["against the other run"]
    for result in results:
        old = before["figures"].get(result.name)
        if old is None:
            lines.append(f"  {result.what}: not there")
            continue
        subject = result.subject
        then = old["contestants"].get(subject)
        if then is None or not then["steady"] or not result.steady(subject):
            lines.append(f"  {result.what}: {UNSTEADY}")
            continue
        now = result.samples[subject].p50
        change = now / max(1, then["p50"]) - 1
        noise = max(result.band, old["band"], result.samples[subject].spread(), old["spread"])
        verdict = "the same" if abs(change) <= noise else "slower" if change > 0 else "faster"
        lines.append(
            f"  {result.what}: {_value(then['p50'], result.unit)} -> {_value(now, result.unit)} "
            f"({change:+.1%}, noise {noise:.1%}): {verdict}"
        )
    return "\n".join(lines)
