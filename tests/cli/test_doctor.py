"""`uvm doctor`: answers for people and for programs, and a status."""

from __future__ import annotations

import json
import resource
import subprocess

import pytest

from support.uvm import UVM, uvm

pytestmark = [pytest.mark.machine, pytest.mark.fixed_machine, pytest.mark.timeout(120)]


def test_every_trap_door_and_transport_is_tried_and_works() -> None:
    done = uvm("doctor", "--json")
    assert done.returncode == 0, done.stdout
    answer = json.loads(done.stdout)
    assert answer["able"] is True
    ways = {(t["trap"], t["transport"]): t for t in answer["trials"]}
    assert set(ways) == {(t, w) for t in ("sud", "seccomp") for w in ("futex", "signal")}
    assert all(trial["ok"] for trial in ways.values()), ways


def test_findings_name_what_does_not_work_without_them() -> None:
    findings = {f["name"]: f for f in json.loads(uvm("doctor", "--json").stdout)["findings"]}
    for name in (
        "Linux",
        "seccomp filters",
        "FSGSBASE",
        "io_uring",
        "CPUs",
        "memory",
        "PR_SET_TSC",
    ):
        assert findings[name]["value"]
    assert all(f["without"] for f in findings.values() if not f["ok"])


def test_low_limits_are_found() -> None:
    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))

    done = subprocess.run([UVM, "doctor"], preexec_fn=lower, capture_output=True, timeout=60)
    assert done.returncode == 0
    lines = done.stdout.decode().splitlines()
    at = next(i for i, line in enumerate(lines) if "RLIMIT_NOFILE" in line)
    assert lines[at].startswith("- ") and "ulimit -n" in lines[at + 1]


def test_too_few_descriptors_are_found_and_no_machine_is_tried() -> None:
    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))

    done = subprocess.run([UVM, "doctor"], preexec_fn=lower, capture_output=True, timeout=60)
    assert done.returncode == 1
    (line,) = [x for x in done.stdout.decode().splitlines() if "RLIMIT_NOFILE" in x]
    assert line.startswith("FAIL ") and "40 / 40 (a machine needs 64)" in line
    assert b"machine: --trap" not in done.stdout


def test_status_is_1_where_no_machine_can_run() -> None:
    def no_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    done = subprocess.run([UVM, "doctor"], preexec_fn=no_files, capture_output=True, timeout=60)
    assert done.returncode == 1
    assert b"FAIL" in done.stdout and b"cannot run here" in done.stdout
