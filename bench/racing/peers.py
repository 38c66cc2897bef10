"""What else is used to find races, on the host, on all its CPUs: in how many runs does it tell?

stress            the wrong program, as it is, again and again
rr_chaos          the wrong program under `rr record --chaos`, where there are performance counters
helgrind          both twins under Valgrind's Helgrind
thread_sanitizer  both twins, built with gcc -fsanitize=thread

The first two tell by the program's failing.  The last two tell by a report, whether or not
the run went wrong; a report on the wrong program need not be of what is wrong with it, and
one on its right twin is a false accusation.  Programs that hang are ended, and counted apart.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from racing.examples import Program, chosen, command
from racing.ledger import Cell, Table
from racing.plain import Run, again_and_again, once

__all__ = ["TOOLS", "available", "peers"]

STRESS_RUNS = 200
PLAIN_TIMEOUT_S = 2.0
TOOL_TIMEOUT_S = 20.0
"""Such a program takes a second at most, also under Valgrind."""
SAID = 300
SAMPLE = "lost_update"
"""Of which the right twin has a mutex and no more: every tool can run it."""

_TSAN_REPORT = re.compile(r"WARNING: ThreadSanitizer: (.+?)(?: \(pid=\d+\))?$", re.M)
_HELGRIND_REPORT = re.compile(r"<kind>(\w+)</kind>")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class Tool:
    """Something that runs programs."""

    run: Callable[[tuple[str, ...], Path], tuple[Run, set[str]]]
    """Once, with a folder for what it leaves: how it ended, and the kinds of its reports."""
    version: tuple[str, ...]
    """The command that prints it."""
    accuses: bool = True
    """It reports; else it only makes failures likelier."""
    cflags: tuple[str, ...] = ()
    dynamic: bool = True


def _run_stress(arguments: tuple[str, ...], scratch: Path) -> tuple[Run, set[str]]:
    return once(arguments, timeout_s=PLAIN_TIMEOUT_S), set()


def _run_rr(arguments: tuple[str, ...], scratch: Path) -> tuple[Run, set[str]]:
    """Ends as the program does, by its status or signal."""
    traces = scratch / "traces"
    run = once(
        ("rr", "record", "--chaos", *arguments), timeout_s=TOOL_TIMEOUT_S,
        extra={"_RR_TRACE_DIR": str(traces)}, said=scratch / "said",
    )  # fmt: skip
    shutil.rmtree(traces, ignore_errors=True)
    return run, set()


def _run_helgrind(arguments: tuple[str, ...], scratch: Path) -> tuple[Run, set[str]]:
    """As XML, one file a process: --error-exitcode would say nothing of a program that dies by a
    signal, nor of one that is ended. Without a fair turn some spin for minutes."""
    run = once(
        (
            "valgrind", "--tool=helgrind", "--fair-sched=try", "--xml=yes",
            f"--xml-file={scratch}/report.%p", *arguments,
        ),
        timeout_s=TOOL_TIMEOUT_S, said=scratch / "said",
    )  # fmt: skip
    return run, _kinds(scratch, _HELGRIND_REPORT)


def _run_tsan(arguments: tuple[str, ...], scratch: Path) -> tuple[Run, set[str]]:
    """The status and the signals stay the program's own. setarch: its shadow memory has no room
    for all that a kernel of today puts anywhere."""
    options = f"log_path={scratch}/report exitcode=0 handle_segv=0 handle_sigbus=0"
    run = once(
        ("setarch", "-R", *arguments), timeout_s=TOOL_TIMEOUT_S,
        extra={"TSAN_OPTIONS": options}, said=scratch / "said",
    )  # fmt: skip
    return run, _kinds(scratch, _TSAN_REPORT)


def _kinds(scratch: Path, report: re.Pattern[str]) -> set[str]:
    """Kinds of all reports of a run, whose files are then removed."""
    kinds: set[str] = set()
    for path in scratch.glob("report*"):
        kinds.update(report.findall(path.read_text(errors="replace")))
        path.unlink()
    return kinds


TOOLS: dict[str, Tool] = {
    "stress": Tool(_run_stress, ("uname", "-r"), accuses=False, dynamic=False),
    "rr_chaos": Tool(_run_rr, ("rr", "--version"), accuses=False, dynamic=False),
    "helgrind": Tool(_run_helgrind, ("valgrind", "--version")),
    "thread_sanitizer": Tool(
        # It knows no fences, and gcc says so; that is its own affair.
        _run_tsan, ("gcc", "--version"), cflags=("-fsanitize=thread", "-Wno-tsan"),
    ),
}  # fmt: skip


def built(program: Program, tool: Tool, directory: Path, *, fixed: bool) -> tuple[str, ...]:
    """The program, as the tool wants it. Raises RuntimeError if it cannot be built."""
    if tool.cflags:
        program = replace(program, cflags=(*program.cflags, *tool.cflags))
        directory = directory / "flagged"
        directory.mkdir(exist_ok=True)
    return command(program, directory, fixed=fixed, static=not tool.dynamic)


def available(name: str, sample: Program, directory: Path) -> dict[str, str]:
    """The version of a tool, and under "said" why it cannot be used here, if it cannot: it has
    to run the right twin of `sample` for that."""
    tool = TOOLS[name]
    try:
        version = subprocess.run(tool.version, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        return {"said": str(error)}
    facts = {"version": version.splitlines()[0]}
    try:
        arguments = built(sample, tool, directory, fixed=True)
    except RuntimeError as error:
        return {**facts, "said": str(error)[-SAID:]}
    run, _ = tool.run(arguments, _scratch(directory))
    if run.hung or run.failed:
        said = _COLOUR.sub("", run.said).strip()[:SAID]
        facts["said"] = said or f"status {run.status}, hung: {run.hung}"
    return facts


def _scratch(directory: Path) -> Path:
    """A folder for what a run leaves."""
    scratch = directory / "scratch"
    scratch.mkdir(exist_ok=True)
    return scratch


async def told(
    program: Program, name: str, directory: Path, *, fixed: bool, runs: int, seconds: float
) -> Cell:
    """Runs of one twin."""
    tool = TOOLS[name]
    arguments = built(program, tool, directory, fixed=fixed)
    kinds: Counter[str] = Counter()
    reports = 0

    def run() -> Run:
        nonlocal reports
        ended, found = tool.run(arguments, _scratch(directory))
        kinds.update(found)
        reports += bool(found)
        return ended

    cell = await again_and_again(run, runs=runs, seconds=seconds)
    if tool.accuses:
        cell.update(reports=reports, kinds=sorted(kinds.items()))
    return cell


def peers(directory: Path, *, runs: int, seconds: float) -> Table:
    """`runs` with tools that report, of each twin; `seconds` at most for each tool and twin."""
    [sample] = chosen([SAMPLE])
    tools = {name: available(name, sample, directory) for name in TOOLS}

    async def measure(program: Program, column: str) -> Cell:
        if program.module and TOOLS[column].cflags:
            return {"inapplicable": "the interpreter would have to be built so, too"}
        if not TOOLS[column].accuses:
            return await told(
                program, column, directory, fixed=False, runs=STRESS_RUNS, seconds=seconds
            )
        wrong, right = [
            await told(program, column, directory, fixed=fixed, runs=runs, seconds=seconds)
            for fixed in (False, True)
        ]
        return {"wrong": wrong, "right": right, "false_accusation": right["reports"] > 0}

    usable = tuple(name for name, facts in tools.items() if "said" not in facts)
    settings = {"runs": runs, "stress_runs": STRESS_RUNS, "seconds": seconds}
    return Table(usable, settings, measure, tell, {"tools": tools}, summary)


def tell(cell: Cell) -> str:
    """For the line on the terminal."""
    if "inapplicable" in cell:
        return str(cell["inapplicable"])
    if "wrong" in cell:
        return "; ".join(
            "{} one: {reports} reports in {runs} runs, {hangs} hangs".format(twin, **cell[twin])
            for twin in ("wrong", "right")
        )
    return "{failures} failures and {hangs} hangs in {runs} runs, the first in {first}".format(
        **cell
    )


def summary(programs: dict[str, dict[str, Cell]]) -> dict[str, Cell]:
    """Of how many programs each has told, at least once."""
    found: dict[str, Cell] = {}
    for name, tool in TOOLS.items():
        rows = {p: cells[name] for p, cells in programs.items() if name in cells}
        cells = {p: c for p, c in rows.items() if "error" not in c and "inapplicable" not in c}
        if not cells:
            continue
        if tool.accuses:
            found[name] = {
                "programs": len(cells),
                "wrong_reported": sum(c["wrong"]["reports"] > 0 for c in cells.values()),
                "falsely_accused": [p for p, c in cells.items() if c["false_accusation"]],
            }
        else:
            found[name] = {
                "programs": len(cells),
                "failed": sum(c["failures"] + c["hangs"] > 0 for c in cells.values()),
            }
    return found
