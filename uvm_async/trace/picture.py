"""A picture of the switches: who had which vCPU, as SVG without any library.

Above, a row for each vCPU, coloured by task; below, a row for each task, so that
one sees them take turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final

from uvm_async.kernel.observer import Observer

if TYPE_CHECKING:
    from uvm_async.kernel.kernel import Kernel
    from uvm_async.kernel.task import Task
    from uvm_async.sched.core import VCpu

__all__ = ["Slice", "Switches", "draw"]

COLOURS: Final = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bb9966",
                  "#447755", "#884488", "#aa6633")  # fmt: skip
WIDTH, MARGIN, LABEL, ROW, GAP = 1200, 20, 150, 26, 8
TICKS: Final = 8
MAX_TASKS: Final = 24
"""Rows below; the picture shows those that ran longest."""


@dataclass(slots=True)
class Slice:
    """A task on a vCPU, from `since_ns` to `until_ns`."""

    vcpu: int
    pid: int
    name: str
    since_ns: int
    until_ns: int


class Switches(Observer):
    """Remembers who ran where while `recording`."""

    def __init__(self) -> None:
        self.slices: list[Slice] = []
        self.recording = False
        self._kernel: Kernel | None = None
        self._current: dict[int, Slice] = {}

    def attach(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def switch(self, vcpu: VCpu, task: Task) -> None:
        self.leave(vcpu, task)
        if self.recording and self._kernel is not None:
            now = self._kernel.clock.monotonic_ns()
            name = task.comm.decode(errors="replace")
            self._current[vcpu.index] = Slice(vcpu.index, task.pid, name, now, now)

    def leave(self, vcpu: VCpu, task: Task) -> None:
        current = self._current.pop(vcpu.index, None)
        if current is not None and self._kernel is not None:
            current.until_ns = self._kernel.clock.monotonic_ns()
            current.name = (
                task.comm.decode(errors="replace") if task.pid == current.pid else current.name
            )
            self.slices.append(current)


def draw(slices: list[Slice], title: str) -> str:
    """The SVG text."""
    begin = min((s.since_ns for s in slices), default=0)
    end = max((s.until_ns for s in slices), default=1)
    scale = (WIDTH - LABEL - 2 * MARGIN) / max(end - begin, 1)
    tasks = _longest(slices)
    colours = {pid: COLOURS[i % len(COLOURS)] for i, pid in enumerate(tasks)}
    vcpus = sorted({s.vcpu for s in slices})
    top = 70
    task_top = top + len(vcpus) * (ROW + GAP) + 30
    height = task_top + len(tasks) * (ROW + GAP) + 50
    rows = {("vcpu", v): top + i * (ROW + GAP) for i, v in enumerate(vcpus)}
    rows |= {("task", pid): task_top + i * (ROW + GAP) for i, pid in enumerate(tasks)}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{MARGIN}" y="34" font-size="18">{escape(title)}</text>',
        f'<text x="{MARGIN}" y="54" fill="#666">{len(slices)} turns of {len(tasks)} tasks '
        f"on {len(vcpus)} vCPUs in {(end - begin) / 1e6:.1f} ms</text>",
    ]
    for (kind, key), y in rows.items():
        label = f"vCPU {key}" if kind == "vcpu" else f"{tasks[key]} [{key}]"
        parts.append(f'<text x="{MARGIN}" y="{y + 17}">{escape(label)}</text>')
        parts.append(
            f'<rect x="{LABEL}" y="{y}" width="{WIDTH - LABEL - MARGIN}" height="{ROW}" '
            f'fill="#f4f4f4"/>'
        )
    for piece in slices:
        x = LABEL + (piece.since_ns - begin) * scale
        width = max((piece.until_ns - piece.since_ns) * scale, 0.4)
        colour = colours.get(piece.pid, "#bbbbbb")
        for place in (("vcpu", piece.vcpu), ("task", piece.pid)):
            if place in rows:
                parts.append(
                    f'<rect x="{x:.2f}" y="{rows[place]}" width="{width:.2f}" height="{ROW}" '
                    f'fill="{colour}"><title>{escape(piece.name)} [{piece.pid}], '
                    f"{(piece.until_ns - piece.since_ns) / 1e6:.3f} ms on vCPU {piece.vcpu}"
                    f"</title></rect>"
                )
    for tick in range(TICKS + 1):
        x = LABEL + (WIDTH - LABEL - 2 * MARGIN) * tick / TICKS
        parts.append(
            f'<line x1="{x:.1f}" y1="{top - 4}" x2="{x:.1f}" y2="{height - 36}" stroke="#ccc" '
            f'stroke-width="0.5"/><text x="{x:.1f}" y="{height - 18}" text-anchor="middle" '
            f'fill="#666">{(end - begin) / 1e6 * tick / TICKS:.1f} ms</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _longest(slices: list[Slice]) -> dict[int, str]:
    """Thread id to name of those that ran longest, in order of appearance."""
    ran: dict[int, int] = {}
    names: dict[int, str] = {}
    for piece in slices:
        ran[piece.pid] = ran.get(piece.pid, 0) + piece.until_ns - piece.since_ns
        names[piece.pid] = piece.name
    chosen = set(sorted(ran, key=lambda pid: -ran[pid])[:MAX_TASKS])
    return {pid: names[pid] for pid in ran if pid in chosen}
