"""`--trace`: the file is what Perfetto and chrome://tracing read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.options import MachineOptions
from support.uvm import one_line, uvm_run

pytestmark = [pytest.mark.machine, pytest.mark.timeout(120)]
BUSYBOX = "/bin/busybox"


def timeline(options: MachineOptions, path: Path, *flags: str) -> list[dict[str, object]]:
    """The events of a small pipeline."""
    script = "echo a | cat | cat; sleep 0.02"
    flags = ("--trace", str(path), *flags)
    done = uvm_run(options, BUSYBOX, "sh", "-c", script, flags=flags)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"a\n", b"")
    events: list[dict[str, object]] = json.loads(path.read_text())
    return events


def test_tracks_say_who_runs_and_each_thread_what_it_calls(
    machine_options: MachineOptions, tmp_path: Path
) -> None:
    events = timeline(machine_options, tmp_path / "t.json", "--cpus", "2")
    names = {(e["pid"], e["args"]["name"]) for e in events if e["name"] == "process_name"}  # type: ignore[index]
    assert (1, "vCPUs") in names and any(pid != 1 for pid, _ in names)
    categories = {e.get("cat") for e in events}
    assert {"sched", "syscall"} <= categories
    assert any(str(e["name"]).startswith("page fault") for e in events)
    assert any(e["name"] == "SIGCHLD" for e in events)


def test_turns_on_a_vcpu_follow_each_other_and_calls_of_a_thread_nest(
    machine_options: MachineOptions, tmp_path: Path
) -> None:
    events = timeline(machine_options, tmp_path / "t.json")
    for category in ("sched", "syscall"):
        last: dict[tuple[object, object], float] = {}
        slices = [e for e in events if e.get("cat") == category]
        assert slices
        for event in slices:
            begin, length = float(event["ts"]), float(event["dur"])  # type: ignore[arg-type]
            track = (event["pid"], event["tid"])
            assert length >= 0
            assert begin >= last.get(track, 0.0) - 0.001
            last[track] = begin + length


def test_arrows_of_wake_ups_have_two_ends(machine_options: MachineOptions, tmp_path: Path) -> None:
    events = timeline(machine_options, tmp_path / "t.json")
    begins = {e["id"] for e in events if e["ph"] == "s"}
    ends = {e["id"] for e in events if e["ph"] == "f"}
    assert begins and ends <= begins


def test_file_that_cannot_be_written_is_wrong_use(machine_options: MachineOptions) -> None:
    done = uvm_run(machine_options, BUSYBOX, "true", flags=["--trace", "/nonexistent/t.json"])
    assert done.returncode == 2
    assert one_line(done.stderr)
