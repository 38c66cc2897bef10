"""bench/races.py: what it counts is what happened, and it goes on where it was ended.

Nothing here asserts a time.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "bench"))

from racing.examples import ENVIRONMENT, Program, chosen  # noqa: E402
from racing.ledger import Cell, Ledger, Table  # noqa: E402
from racing.peers import TOOLS, available, peers, told  # noqa: E402
from racing.plain import again_and_again, once  # noqa: E402
from racing.repeats import repeats  # noqa: E402
from racing.twins import twins  # noqa: E402

from uvm_async.errors import UsageError  # noqa: E402

pytestmark = pytest.mark.fixed_machine
machine = [pytest.mark.machine, pytest.mark.many_traps]

ALWAYS_WRONG = """/* Fails under every schedule, also with -DFIXED.
 *
 * fails: status
 * threads: 1
 */
#include <pthread.h>
#include <unistd.h>

static void *works(void *arg) {
    CALLS;
    return arg;
}

int main(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, works, NULL);
    pthread_join(thread, NULL);
    return 3;
}
"""
BY_THE_PROCESSOR = (
    'unsigned n; __asm__ volatile("rdrand %0" : "=r"(n) : : "cc"); '
    "for (n &= 1023; n; n--) getppid()"
)


def always_wrong(directory: Path, calls: str = "getppid()") -> Program:
    source = directory / "always_wrong.c"
    source.write_text(ALWAYS_WRONG.replace("CALLS", calls))
    return Program.read(source)


def counting(values: list[Cell], **settings: Any) -> Table:
    """A table of one column whose cells come from `values`, in turn."""

    async def measure(program: Program, column: str) -> Cell:
        value = values.pop(0)
        if "raise" in value:
            raise RuntimeError(value["raise"])
        return value

    return Table(("n",), settings, measure, str)


def races(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "bench" / "races.py"), *args],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


def cells(path: Path, part: str) -> dict[str, dict[str, Cell]]:
    found: dict[str, dict[str, Cell]] = json.loads(path.read_text())[part]["programs"]
    return found


async def test_every_cell_is_kept_and_none_is_measured_twice(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    one, two, three = chosen(["lost_update", "mcs_lock", "seqlock"])
    assert await Ledger(path).fill("part", counting([{"n": 1}]), [one])
    assert cells(path, "part") == {"lost_update": {"n": {"n": 1}}}

    again = Ledger(path, resume=True)
    values: list[Cell] = [{"raise": "no compiler"}, {"n": 3}]
    assert not await again.fill("part", counting(values), [one, two, three])
    assert cells(path, "part") == {
        "lost_update": {"n": {"n": 1}},
        "mcs_lock": {"n": {"error": "RuntimeError: no compiler"}},
        "seqlock": {"n": {"n": 3}},
    }

    values = [{"n": 2}]  # what could not be measured is tried again
    assert await Ledger(path, resume=True).fill("part", counting(values), [one, two, three])
    assert cells(path, "part")["mcs_lock"] == {"n": {"n": 2}}


async def test_bad_news_from_an_earlier_run_stays_bad(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    programs = chosen(["lost_update"])
    assert not await Ledger(path).fill("part", counting([{"ok": False}]), programs)
    assert not await Ledger(path, resume=True).fill("part", counting([]), programs)


async def test_two_that_fill_one_file_keep_each_others_cells(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    first, second = Ledger(path), Ledger(path, resume=True)
    await first.fill("part", counting([{"n": 1}]), chosen(["lost_update"]))
    await second.fill("part", counting([{"n": 2}]), chosen(["mcs_lock"]))
    await first.fill("part", counting([{"n": 3}]), chosen(["seqlock"]))
    assert list(cells(path, "part")) == ["lost_update", "mcs_lock", "seqlock"]


async def test_cells_of_other_settings_or_hosts_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    programs = chosen(["lost_update"])
    await Ledger(path).fill("part", counting([{"n": 1}], runs=1), programs)
    with pytest.raises(UsageError, match="other settings"):
        await Ledger(path, resume=True).fill("part", counting([], runs=2), programs)
    path.write_text(path.read_text().replace('"cpus": ', '"cpus": 9'))
    with pytest.raises(UsageError, match="another host"):
        Ledger(path, resume=True)


async def test_a_program_that_hangs_is_counted_apart_and_leaves_nothing(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    hangs = ("sh", "-c", f"sleep 1000 & echo $! >{pid}; trap : TERM; while :; do wait; done")
    ended = iter([("true",), ("false",), ("sh", "-c", "kill -9 $$"), hangs])
    figures = await again_and_again(lambda: once(next(ended), timeout_s=0.5), runs=4, seconds=60)
    assert {k: v for k, v in figures.items() if k != "s"} == {
        "runs": 4, "failures": 2, "hangs": 1, "first": 2,
    }  # fmt: skip
    state = Path(f"/proc/{pid.read_text().strip()}/stat")
    assert not state.exists() or state.read_text().split(")")[1].split()[0] == "Z"


async def test_runs_end_with_their_time() -> None:
    figures = await again_and_again(
        lambda: once(("sleep", "0.1"), timeout_s=5), runs=1000, seconds=0.3
    )
    assert 1 <= figures["runs"] <= 4


@pytest.mark.parametrize("name", ["helgrind", "thread_sanitizer"])
async def test_a_tool_that_reports_tells_the_wrong_one_from_the_right(
    name: str, tmp_path: Path
) -> None:
    [program] = chosen(["lost_update"])
    facts = available(name, program, tmp_path)
    if "version" not in facts:
        pytest.skip(facts["said"])
    assert "said" not in facts
    for fixed in (False, True):
        figures = await told(program, name, tmp_path, fixed=fixed, runs=2, seconds=60)
        assert (figures["runs"], figures["hangs"]) == (2, 0)
        assert figures["reports"] == (0 if fixed else 2)
        assert [kind for kind, _ in figures["kinds"]] == (
            [] if fixed else ["Race" if name == "helgrind" else "data race"]
        )


async def test_a_report_on_a_right_twin_is_a_false_accusation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("racing.peers.TOOLS", {"thread_sanitizer": TOOLS["thread_sanitizer"]})
    source = tmp_path / "not_fixed.c"
    [program] = chosen(["lost_update"])
    source.write_text(program.source.read_text().replace("FIXED", "NEVER_DEFINED"))
    table = peers(tmp_path, runs=1, seconds=60)
    ledger = Ledger(None)
    await ledger.fill("peers", table, [Program.read(source), program])
    assert ledger.content["peers"]["summary"] == {
        "thread_sanitizer": {
            "programs": 2, "wrong_reported": 2, "falsely_accused": ["not_fixed"],
        }
    }  # fmt: skip


@pytest.mark.parametrize("can_record", [True, False])
async def test_rr_is_asked_whether_it_can_record_here(
    can_record: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place of rr something that speaks as it does."""
    rr = tmp_path / "bin" / "rr"
    rr.parent.mkdir()
    record = 'shift 2; exec "$@"' if can_record else "echo '[FATAL] no counters' >&2; exit 1"
    rr.write_text(f'#!/bin/sh\n[ "$1" != --version ] || {{ echo rr 5; exit; }}\n{record}\n')
    rr.chmod(0o755)
    path = f"{rr.parent}:/usr/bin:/bin"
    monkeypatch.setenv("PATH", path)
    monkeypatch.setitem(ENVIRONMENT, "PATH", path)
    monkeypatch.setattr("racing.peers.TOOLS", {"rr_chaos": TOOLS["rr_chaos"]})
    monkeypatch.setattr("racing.peers.STRESS_RUNS", 3)

    table = peers(tmp_path, runs=1, seconds=60)
    ledger = Ledger(None)
    await ledger.fill("peers", table, [always_wrong(tmp_path)])
    part = ledger.content["peers"]
    if can_record:
        assert part["tools"] == {"rr_chaos": {"version": "rr 5"}}
        cell = part["programs"]["always_wrong"]["rr_chaos"]
        assert (cell["runs"], cell["failures"], cell["first"]) == (3, 3, 1)
    else:
        assert part["tools"] == {"rr_chaos": {"version": "rr 5", "said": "[FATAL] no counters"}}
        assert part["programs"] == {}


@pytest.mark.parametrize(
    "args",
    [
        ("--part", "finding", "--programs", "no_such_program"),
        ("--part", "finding", "--strategies", "no_such_strategy"),
        ("--part", "twins", "--resume"),
    ],
)
def test_options_that_make_no_sense_end_with_status_2(args: tuple[str, ...]) -> None:
    done = races(*args)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()


class TestInAMachine:
    pytestmark = machine

    def test_searches_are_kept_seed_by_seed_and_gone_on_with(self, tmp_path: Path) -> None:
        path = tmp_path / "figures.json"
        few = (
            "--part",
            "finding",
            "--programs",
            "lost_update",
            "--seeds",
            "2",
            "--json",
            str(path),
        )
        done = races(*few, "--strategies", "random")
        assert done.returncode == 0, done.stderr
        before = cells(path, "finding")["lost_update"]
        assert list(before) == ["size", "random"]
        assert before["size"]["threads"] == 3
        assert before["size"]["words"] >= 1
        each = before["random"]["each"]
        assert len(each) == 2
        assert before["random"]["mean"] == sum(each) / 2 == before["random"]["schedules"]
        assert (before["random"]["min"], before["random"]["max"]) == (min(each), max(each))

        done = races(*few, "--strategies", "random,preemption:bound=0", "--resume")
        assert done.returncode == 0, done.stderr
        after = cells(path, "finding")["lost_update"]
        assert {name: after[name] for name in before} == before
        # It needs a preemption: a search without any comes to its end, and has found nothing.
        without = after["preemption:bound=0"]
        assert (without["missed"], without["covered"], without["out_of_time"]) == (2, 2, 0)
        assert without["each"] == [None, None]
        assert without["mean"] is None
        assert without["schedules"] == 1_001

    async def test_a_right_twin_that_fails_is_told(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        ledger = Ledger(None)
        table = twins(tmp_path, schedules=20, seconds=None, jobs=1)
        assert not await ledger.fill("twins", table, [always_wrong(tmp_path)])
        cell = ledger.content["twins"]["programs"]["always_wrong"]["twin"]
        assert cell["failures"] == ["exit status 3"]
        assert "always_wrong, the right one, fails: exit status 3" in capsys.readouterr().err

    def test_right_twins_that_hold_end_with_status_0(self, tmp_path: Path) -> None:
        path = tmp_path / "figures.json"
        args = ("--schedules", "60", "--jobs", "1", "--json", str(path))
        done = races("--part", "twins", "--programs", "lost_update", *args)
        assert done.returncode == 0, done.stderr
        cell = cells(path, "twins")["lost_update"]["twin"]
        assert (cell["schedules"], cell["failures"]) == (60, [])
        assert cell["interleavings"] > 1

    def test_failures_that_repeat_end_with_status_0(self, tmp_path: Path) -> None:
        path = tmp_path / "figures.json"
        args = ("--runs", "3", "--json", str(path))
        done = races("--part", "repeats", "--programs", "lost_update", *args)
        assert done.returncode == 0, done.stderr
        cell = cells(path, "repeats")["lost_update"]["repeats"]
        assert cell["failure"] == "SIGABRT"
        assert (cell["replays"], cell["same_failure"], cell["trace_hashes"]) == (3, 3, 1)
        assert (cell["sessions"], cell["session_hashes"]) == (3, 1)

    @pytest.mark.skipif(
        "rdrand" not in Path("/proc/cpuinfo").read_text(), reason="the processor has no rdrand"
    )
    async def test_a_program_that_the_processor_makes_differ_is_told(self, tmp_path: Path) -> None:
        ledger = Ledger(None)
        program = always_wrong(tmp_path, BY_THE_PROCESSOR)
        assert not await ledger.fill("repeats", repeats(tmp_path, runs=3), [program])
        cell = ledger.content["repeats"]["programs"]["always_wrong"]["repeats"]
        assert cell["trace_hashes"] > 1
        assert cell["session_hashes"] == 3
