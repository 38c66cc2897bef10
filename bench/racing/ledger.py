"""What has been measured, as JSON that measuring can go on with.

    {"host": {...},
     PART: {"settings": {...}, NOTE: ..., "programs": {PROGRAM: {COLUMN: cell}}}}

A part that goes over the example programs is a `Table`: columns, and a function that
measures one cell.  `Ledger.fill` measures the cells that are not there yet and writes
the file after each, so whoever ends it loses one cell.  A cell `{"error": ...}` is one
that could not be measured; it is tried again.  Cells of other settings, or of another
host, are never mixed with new ones: that is refused.

Several processes may fill one file, each some programs or columns: the file is read and
written under a lock on its folder, and replaced in one step.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from racing.examples import Program
from uvm_async.bench.host import facts
from uvm_async.errors import UsageError

__all__ = ["Cell", "Ledger", "Table", "laid_out"]

Cell = dict[str, Any]
SAME_HOST = ("cpu", "cpus", "python")
"""Facts of the host that two runs in one file have in common."""


@dataclass(frozen=True, slots=True)
class Table:
    """A part that goes over programs."""

    columns: tuple[str, ...]
    settings: dict[str, Any]
    """What makes cells comparable."""
    measure: Callable[[Program, str], Awaitable[Cell]]
    """A cell, of a program and a column. `"ok": False` in it is bad news."""
    tell: Callable[[Cell], str]
    """A cell in a few words."""
    notes: dict[str, Any] = field(default_factory=dict)
    summary: Callable[[dict[str, dict[str, Cell]]], dict[str, Any]] | None = None
    """Further notes, of all that is in the table."""


class Ledger:
    """The file; with None for a path, the same in memory only."""

    def __init__(self, path: Path | None, *, resume: bool = False) -> None:
        """`resume`: keep what is in it. Raises UsageError if that is of another host."""
        self.path = path
        self.content: dict[str, Any] = {}
        if path is not None and not resume:
            path.unlink(missing_ok=True)
        host = facts()
        with self._changing():
            before = self.content.get("host", host)
            differing = [fact for fact in SAME_HOST if before[fact] != host[fact]]
            if differing:
                raise UsageError(f"{path} is of another host ({', '.join(differing)})")
            self.content["host"] = host

    def has(self, part: str) -> bool:
        """Is there anything of this part?"""
        return part in self.content

    def keep(self, part: str, result: dict[str, Any]) -> None:
        """All of a part that has no programs."""
        with self._changing():
            self.content[part] = result

    async def fill(self, part: str, table: Table, programs: list[Program]) -> bool:
        """Measure what is not there yet of `table`; is all of it good?

        Raises UsageError if what is there was measured with other settings.
        """
        with self._changing():
            kept = self.content.setdefault(part, {"settings": table.settings, "programs": {}})
            if kept["settings"] != table.settings:
                raise UsageError(
                    f"{part} in {self.path} is of other settings: {kept['settings']}, "
                    f"not {table.settings}"
                )
            kept.update(table.notes)
        good = True
        for program in programs:
            for column in table.columns:
                cell = self._cell(part, program, column)
                if cell is None or "error" in cell:
                    cell = await self._measured(part, table, program, column)
                good = good and "error" not in cell and cell.get("ok", True)
        if table.summary is not None:
            with self._changing():
                kept = self.content[part]
                kept["summary"] = table.summary(kept["programs"])
        return good

    def _cell(self, part: str, program: Program, column: str) -> Cell | None:
        cells = self.content[part]["programs"].get(program.name, {})
        found: Cell | None = cells.get(column)
        return found

    async def _measured(self, part: str, table: Table, program: Program, column: str) -> Cell:
        try:
            cell = await table.measure(program, column)
            said = table.tell(cell)
        except Exception as error:  # one program must not end a run of hours
            cell = {"error": f"{type(error).__name__}: {error}"}
            said = cell["error"]
        with self._changing():
            rows = self.content[part]["programs"]
            rows.setdefault(program.name, {})[column] = cell
        print(f"{part:9} {program.name:22} {column:12} {said}", file=sys.stderr, flush=True)
        return cell

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """The body changes `content`, which is what stands in the file before and after."""
        if self.path is None:
            yield
            return
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            if self.path.exists():
                self.content = json.loads(self.path.read_text())
            yield
            part = self.path.with_name(f"{self.path.name}.part")
            part.write_text(laid_out(self.content) + "\n")
            part.rename(self.path)
        finally:
            os.close(folder)


def laid_out(value: Any, depth: int = 0) -> str:
    """JSON in which a cell is a line."""
    if not isinstance(value, dict) or not any(isinstance(v, dict) for v in value.values()):
        return json.dumps(value)
    inner = " " * (depth + 1)
    items = (f"{inner}{json.dumps(k)}: {laid_out(v, depth + 1)}" for k, v in value.items())
    return "{\n" + ",\n".join(items) + "\n" + " " * depth + "}"
