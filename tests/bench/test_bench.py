"""The benchmarks run, and what they print and keep is whole. Nothing here asserts a time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.fixed_machine

ROOT = Path(__file__).parents[2]
TINY = ("--scale", "0.005", "--rounds", "2")
FIGURES = {
    "syscall": ["null"],
    "switch": ["ring 2", "pipe"],
    "fork": ["fork", "exec", "vexec", "thread"],
    "fault": ["fault", "mmap", "touch"],
}


def uvm_bench(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "uvm_async.cli.main", "bench", *args],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def kept(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    assert document["format"] == 1
    assert document["host"]["cpus"] >= 1
    for figure in document["figures"].values():
        for contestant in figure["contestants"].values():
            assert 0 < contestant["p50"] <= contestant["p90"] <= contestant["p99"]
            assert contestant["p99"] <= contestant["p99.9"] <= contestant["max"]
            assert contestant["count"] >= 1
            assert isinstance(contestant["steady"], bool)
        assert "again" in figure["contestants"]
        assert figure["met"] in (True, False, None)
    return document


@pytest.mark.parametrize("what", FIGURES)
def test_each_bench_keeps_every_figure_beside_its_floor(what: str, tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    done = uvm_bench(what, *TINY, "--json", str(path))
    assert done.returncode == 0, done.stderr
    document = kept(path)
    assert list(document["figures"]) == FIGURES[what]
    assert all(len(f["contestants"]) >= 3 for f in document["figures"].values())
    assert all(f["what"] in done.stdout for f in document["figures"].values())


def test_null_call_names_the_phases_it_spends_its_time_in(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    done = uvm_bench("syscall", *TINY, "--transport", "signal", "--json", str(path))
    assert done.returncode == 0, done.stderr
    phases = kept(path)["figures"]["null"]["notes"]["phases"]
    assert list(phases) == ["trap", "read", "dispatch", "handler", "return", "resume", "whole"]
    assert all(ns > 0 for ns in phases.values())


def test_more_tasks_give_the_growth_beside_a_raw_rings(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    args = ("--tasks", "12", "--working-set", "8K", "--loop", "asyncio")
    done = uvm_bench("switch", *TINY, *args, "--json", str(path))
    assert done.returncode == 0, done.stderr
    growth = kept(path)["figures"]["ring 12"]["notes"]["growth"]
    assert growth["ours"] > 0
    assert growth["raw"] > 0


def test_two_runs_are_compared_figure_by_figure(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    assert uvm_bench("syscall", *TINY, "--json", str(path)).returncode == 0
    done = uvm_bench("syscall", *TINY, "--compare", str(path))
    assert done.returncode == 0, done.stderr
    assert "against the other run\n  null call: " in done.stdout


@pytest.mark.parametrize(
    "args",
    [
        ("nonsense",),
        ("syscall", "--tasks", "1"),
        ("syscall", "--working-set", "much"),
        ("syscall", "--compare", "/nonexistent"),
        ("syscall", "--compare", "/etc/passwd"),
        ("syscall", "--cpu", "1000000"),
        (),
    ],
)
def test_wrong_use_is_one_line_and_status_2(args: tuple[str, ...]) -> None:
    done = uvm_bench(*args)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("part", ["start", "computing", "loop", "footprint", "disk"])
def test_the_wider_figures_run_too(part: str, tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "bench/run.py", *TINY, "--only", part, "--json", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert kept(path)["figures"]
