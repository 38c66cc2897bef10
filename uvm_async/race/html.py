"""The report as one HTML file that needs nothing else: no network, no other file.

The page is `report.html` beside this module, with the story put into it as JSON; what it shows is
drawn by its own script.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from uvm_async.race.happens_before import Race
from uvm_async.race.sources import Place, Sources
from uvm_async.race.story import Story, tell
from uvm_async.race.trace import Trace

__all__ = ["render_html"]

EXCERPT_LINES = 5
"""Lines of source shown on either side."""


def render_html(
    trace: Trace, sources: Sources | None = None, races: Sequence[Race] | None = None
) -> str:
    """The page, ready to be written in UTF-8."""
    sources = sources or Sources(trace.maps)
    story = tell(trace, sources, races)
    page = files(__package__).joinpath("report.html").read_text("utf-8")
    data = json.dumps(_data(trace, story, sources), ensure_ascii=True, separators=(",", ":"))
    # Nothing in the data may end the script that it stands in.
    data = data.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return page.replace("{{story}}", data)


def _data(trace: Trace, story: Story, sources: Sources) -> dict[str, Any]:
    places = _Places(sources)
    return {
        "headline": story.headline,
        "failed": bool(trace.failure),
        "failure": trace.failure,
        "failing": trace.failing_step if trace.failing_step is not None else len(story.lines) - 1,
        "details": story.details,
        "argv": trace.argv,
        "replay": trace.replay,
        "stdout": trace.stdout.decode("utf-8", "replace"),
        "stderr": trace.stderr.decode("utf-8", "replace"),
        "threads": [
            {
                "number": actor.number,
                "title": actor.title,
                "end": actor.end,
                "steps": actor.steps,
                "idle": actor.idle,
            }
            for actor in story.actors
        ],
        "steps": [
            [
                line.task,
                line.kind,
                line.action,
                places.number(line.place),
                line.origin,
                line.racing,
                line.unordered,
                line.woken_by,
                line.weight,
                f"{line.addr:#x}" if line.addr else "",
            ]
            for line in story.lines
        ],
        "races": [
            {
                "text": text,
                "first": race.first_step,
                "second": race.second_step,
                "accuses": race.accuses,
            }
            for race, text in story.races
        ],
        "waits": [
            {
                "task": wait.task,
                "owner": wait.owner,
                "lock": wait.lock,
                "text": wait.text,
                "place": places.number(wait.place),
            }
            for wait in story.waits
        ],
        "cycle": story.cycle,
        "places": places.found,
        "excerpts": places.excerpts,
    }


class _Places:
    """Each place and each excerpt of source once, by number."""

    def __init__(self, sources: Sources) -> None:
        self.found: list[dict[str, Any]] = []
        self.excerpts: list[list[tuple[int, str]]] = []
        self._sources = sources
        self._numbers: dict[int, int] = {}
        self._lines: dict[tuple[str, int], int] = {}

    def number(self, place: Place) -> int | None:
        if not place.ip:
            return None
        known = self._numbers.get(place.ip)
        if known is None:
            known = self._numbers[place.ip] = len(self.found)
            self.found.append(
                {
                    "where": place.where,
                    "text": place.text,
                    "file": place.file,
                    "line": place.line,
                    "function": place.function,
                    "ip": f"{place.ip:#x}",
                    "binary": place.binary,
                    "excerpt": self._excerpt(place),
                }
            )
        return known

    def _excerpt(self, place: Place) -> int | None:
        key = (place.file, place.line)
        if key not in self._lines:
            lines = self._sources.excerpt(*key, EXCERPT_LINES)
            if not lines:
                return None
            self._lines[key] = len(self.excerpts)
            self.excerpts.append(lines)
        return self._lines[key]
