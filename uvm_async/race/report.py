"""The report in a terminal: a column per thread, time downward, one line per step.

Where the terminal is too narrow for columns of words, each thread has a lane of one mark, and the
words stand beside.  Without a terminal, or under NO_COLOR, the same as plain text.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import IO, Final

from rich.cells import set_cell_size
from rich.console import Console
from rich.text import Text

from uvm_async.race.happens_before import Race
from uvm_async.race.sources import Sources
from uvm_async.race.story import Actor, Line, Story, tell
from uvm_async.race.trace import Trace

__all__ = ["print_report", "render_report"]

NARROWEST, WIDEST = 40, 240
CELL_NARROWEST, CELL_WIDEST = 22, 44
SOURCE_NARROWEST = 22
ROWS: Final = 100
"""So many steps are shown; of a longer execution, what matters most."""
LISTED_RACES: Final = 12
LANES_WIDEST: Final = 40
ASCII: Final = str.maketrans({"→": ">", "←": "<", "│": "|", "●": "*", "─": "-", "⋮": ":", "…": "~"})
RACING, SOFT, DIM, HEAD = "bold red", "yellow", "dim", "bold"
THREADS: Final = ("cyan", "magenta", "green", "blue", "yellow")


def print_report(
    trace: Trace,
    sources: Sources | None = None,
    races: Sequence[Race] | None = None,
    *,
    file: IO[str] | None = None,
    width: int | None = None,
) -> None:
    """Write the report of a failing execution, in colour where there is a terminal to show it."""
    file = file or sys.stdout
    width = width or shutil.get_terminal_size((100, 24)).columns
    console = Console(file=file, width=_clamp(width), highlight=False, soft_wrap=True)
    encoding = getattr(file, "encoding", None) or "utf-8"
    plain = not encoding.lower().replace("-", "").startswith("utf")
    _print(console, tell(trace, sources, races), trace, ascii_only=plain)


def render_report(
    trace: Trace,
    sources: Sources | None = None,
    races: Sequence[Race] | None = None,
    *,
    width: int = 100,
    color: bool = False,
    ascii_only: bool = False,
) -> str:
    """The report as text; with ANSI escapes if `color`."""
    file = StringIO()
    console = Console(
        file=file,
        width=_clamp(width),
        highlight=False,
        soft_wrap=True,
        force_terminal=color,
        no_color=not color,
        color_system="standard" if color else None,
    )
    _print(console, tell(trace, sources, races), trace, ascii_only=ascii_only)
    return file.getvalue()


def _clamp(width: int) -> int:
    return min(max(width, NARROWEST), WIDEST)


def _print(console: Console, story: Story, trace: Trace, *, ascii_only: bool) -> None:
    for text in _report(story, trace, console.width):
        if ascii_only:
            plain = text.plain.translate(ASCII).encode("ascii", "replace").decode("ascii")
            text = Text(plain, spans=text.spans)
        text.rstrip()
        console.print(text, no_wrap=True, overflow="ignore", crop=False)


def _report(story: Story, trace: Trace, width: int) -> Iterator[Text]:
    yield Text(_cut(story.headline, width), RACING if trace.failure else HEAD)
    for detail in story.details:
        yield from _wrapped(detail, width, "  ")
    if story.waits:
        yield Text()
        yield Text("Who waits for what", HEAD)
        for wait in story.waits:
            yield from _wrapped(wait.text, width, "  ", RACING if wait.task in story.cycle else "")
        if story.cycle:
            ring = [*story.cycle, story.cycle[0]]
            yield from _wrapped(
                "ring: " + " → ".join(f"thread {task}" for task in ring), width, "  ", RACING
            )
    if story.lines:
        yield Text()
        yield from _timeline(story, trace, width)
    if story.races:
        yield Text()
        yield Text("Accesses that nothing orders", HEAD)
        ordered = sorted(story.races, key=lambda pair: not pair[0].accuses)
        for race, text in ordered[:LISTED_RACES]:
            mark, style = ("! ", RACING) if race.accuses else ("? ", SOFT)
            yield from _wrapped(mark + text, width, "  ", style)
        if len(ordered) > LISTED_RACES:
            yield Text(f"  … and {len(ordered) - LISTED_RACES} more", DIM)
    if trace.replay:
        yield Text()
        yield Text.assemble(("again: ", DIM), trace.replay)


# -- the timeline ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where things stand in a line."""

    actors: Sequence[Actor]
    number: int
    cell: int
    """Width of a thread's column; 0: lanes."""
    action: int
    """Width of the words beside the lanes."""
    source: int
    named: bool
    """Too many threads even for lanes: each line begins with its thread's number."""

    @classmethod
    def fit(cls, story: Story, width: int) -> _Layout:
        shown = [actor for actor in story.actors if actor.steps and not actor.idle]
        actors = shown or [actor for actor in story.actors if actor.steps]
        number = max(len(str(len(story.lines))), 4) + 1
        room = width - number
        cell = (room - SOURCE_NARROWEST) // len(actors) - 1
        shown_lines = [line for line in story.lines if line.task in {a.number for a in actors}]
        wanted = sorted(len(_words(line, story)) + 2 for line in shown_lines)
        # One line in twenty may be cut.
        usual = max(wanted[len(wanted) * 19 // 20], CELL_NARROWEST)
        if cell >= min(usual, CELL_WIDEST):
            cell = min(cell, max(wanted[-1], CELL_NARROWEST), CELL_WIDEST)
            return cls(actors, number, cell, 0, room - (cell + 1) * len(actors), False)
        named = 2 * len(actors) > min(LANES_WIDEST, room // 3)
        room -= 5 if named else 2 * len(actors)
        action = max(room * 6 // 11, 20)
        return cls(actors, number, 0, action, room - action - 1, named)


def _timeline(story: Story, trace: Trace, width: int) -> Iterator[Text]:
    layout = _Layout.fit(story, width)
    yield from _heading(layout, width)
    hidden = [actor for actor in story.actors if actor not in layout.actors]
    columns = {actor.number: at for at, actor in enumerate(layout.actors)}
    failing = len(story.lines) - 1 if trace.failing_step is None else trace.failing_step
    for item in _shown(story, set(columns)):
        if isinstance(item, tuple):
            yield _gap(item, layout, story)
            continue
        line = story.lines[item]
        if line.switch and line.before in columns:
            words = f" switch: thread {line.before} → thread {line.task} "
            lead = " " * (layout.number - 1) + "──" + words
            yield Text(_cut(lead + "─" * max(min(width, 100) - len(lead), 0), width), DIM)
        yield _row(line, columns[line.task], layout, story)
        if item == failing and trace.failure:
            yield Text(_cut(" " * layout.number + f"! {trace.failure}", width), RACING)
    legend = "← n: reads what step n of another thread wrote"
    if any(line.racing for line in story.lines):
        legend += "   ! races"
    if any(line.unordered for line in story.lines):
        legend += "   ? unordered, maybe atomic"
    yield from _wrapped(legend, width, "", DIM)
    if hidden:
        names = _ranges([actor.number for actor in hidden])
        yield from _wrapped(f"not shown, nothing depends on them: threads {names}", width, "", DIM)


def _heading(layout: _Layout, width: int) -> Iterator[Text]:
    text = Text(_fill("step", layout.number), HEAD)
    if layout.cell:
        for at, actor in enumerate(layout.actors):
            text.append(_fill(actor.title, layout.cell) + "│", _color(at))
        text.append(_cut(" source", layout.source), HEAD)
        yield text
        return
    for at, actor in enumerate(layout.actors):
        yield Text(
            _cut(" " * layout.number + f"{actor.number:>3}: {actor.title}", width), _color(at)
        )
    if layout.named:
        text.append("thr  ", HEAD)
    else:
        for at, actor in enumerate(layout.actors):
            text.append(f"{actor.number % 100:<2}", _color(at))
    text.append(_fill("what it does", layout.action) + " source", HEAD)
    yield text


def _row(line: Line, column: int, layout: _Layout, story: Story) -> Text:
    style = RACING if line.racing else SOFT if line.unordered else ""
    text = Text(f"{line.step:>{layout.number - 1}} ", DIM)
    words = ("! " if line.racing else "? " if line.unordered else "  ") + _words(line, story)
    if layout.cell:
        for at in range(len(layout.actors)):
            text.append(_fill(words if at == column else "", layout.cell), style)
            text.append("│", _color(at))
        text.append(" ")
    else:
        if layout.named:
            text.append(f"{line.task:>3}  ", _color(column))
        else:
            for at in range(len(layout.actors)):
                text.append("● " if at == column else "│ ", _color(at))
        text.append(_fill(words, layout.action) + " ", style)
    place = line.place
    where = place.where if place.ip else ""
    room = layout.source - 1
    text.append(_cut(where, room), "" if place.line else DIM)
    if place.text and len(where) + 4 < room:
        text.append(_cut(f"  {place.text}", room - len(where)), style or DIM)
    return text


def _words(line: Line, story: Story) -> str:
    words = line.action
    if line.origin is not None and story.lines[line.origin].task != line.task:
        words += f" ← {line.origin}"
    return words


def _gap(gap: tuple[int, int], layout: _Layout, story: Story) -> Text:
    first, last = gap
    tasks = sorted({line.task for line in story.lines[first : last + 1]})
    who = f"thread{'' if len(tasks) == 1 else 's'} {', '.join(map(str, tasks[:8]))}"
    if len(tasks) > 8:
        who += ", …"
    return Text(" " * (layout.number - 2) + f"⋮ {last - first + 1} steps of {who}", DIM)


def _shown(story: Story, tasks: set[int]) -> Iterator[int | tuple[int, int]]:
    """Steps to show, and between them (first, last) of what is left out."""
    lines = [line for line in story.lines if line.task in tasks]
    least = 0
    while least < 3 and sum(line.weight >= least for line in lines) > ROWS:
        least += 1
    chosen = [line.step for line in lines if line.weight >= least][-ROWS:]
    expected = 0
    for step in [*chosen, len(story.lines)]:
        skipped = [at for at in range(expected, step) if story.lines[at].task in tasks]
        if len(skipped) == 1:
            yield skipped[0]
        elif skipped:
            yield skipped[0], skipped[-1]
        if step < len(story.lines):
            yield step
        expected = step + 1


# -- text ------------------------------------------------------------------------------------


def _ranges(numbers: Sequence[int]) -> str:
    """ "1-3, 7" """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def _color(at: int) -> str:
    return THREADS[at % len(THREADS)]


def _cut(text: str, width: int) -> str:
    if len(text) <= width:
        return text
    return text[: max(width - 1, 0)] + "…" if width > 0 else ""


def _fill(text: str, width: int) -> str:
    return set_cell_size(_cut(text, width), width)


def _wrapped(text: str, width: int, indent: str, style: str = "") -> Iterator[Text]:
    """Words in lines of at most `width`, the second and later indented further."""
    line = indent
    for word in text.split(" "):
        while len(indent) + 4 + len(word) > width:
            if line.strip():
                yield Text(line.rstrip(), style)
            yield Text(indent + "    " + word[: width - len(indent) - 4], style)
            word, line = word[width - len(indent) - 4 :], indent + "    "
        if len(line) + len(word) > width:
            yield Text(line.rstrip(), style)
            line = indent + "    "
        line += word + " "
    yield Text(line.rstrip(), style)
