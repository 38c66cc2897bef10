"""`uvm race` and `uvm replay`: statuses, files, one line for what is wrong."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from race.corpus import build, program_named
from race.rig import build_guest
from support.guests import Builder
from support.uvm import UVM, Family, one_line, uvm

pytestmark = [pytest.mark.machine, pytest.mark.fixed_machine, pytest.mark.many_traps]

TESTS = Path(__file__).resolve().parent.parent


def example(name: str, directory: Path, *, fixed: bool = False) -> str:
    return str(build(program_named(name), fixed=fixed, directory=directory))


async def race(*arguments: str, cwd: Path, **kwargs: Any) -> subprocess.CompletedProcess[bytes]:
    return await asyncio.to_thread(uvm, "race", *arguments, cwd=cwd, **kwargs)


async def replay(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    return await asyncio.to_thread(uvm, "replay", *arguments, cwd=cwd)


def failures_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("uvm-failure-*.json"))


async def found(name: str, directory: Path, cwd: Path, *options: str) -> Path:
    """The one file that `uvm race` leaves of an example that fails."""
    ended = await race("--no-shrink", *options, "--", example(name, directory), cwd=cwd)
    assert ended.returncode == 1, ended.stderr
    (path,) = failures_in(cwd)
    return path


def explores(pid: int) -> bool:
    """Has `pid`, or a child of its, a machine that runs?"""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return any(len(Family(each).members) > 2 for each in (pid, *map(int, children)))


# -- uvm race


async def test_failure_is_status_1_with_a_report_and_a_file_here(
    directory: Path, tmp_path: Path
) -> None:
    ended = await race("--", example("lost_update", directory), cwd=tmp_path)
    assert ended.returncode == 1 and ended.stderr == b""
    (path,) = failures_in(tmp_path)
    text = ended.stdout.decode()
    assert re.search(r"SIGABRT: schedule \d+ of \d+ schedules in [\d.]+ s", text)
    assert f"uvm replay {path.name}" in text
    assert "lost_update.c:" in text
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]


async def test_nothing_found_is_status_0_and_says_what_was_done(
    directory: Path, tmp_path: Path
) -> None:
    program = example("lost_update", directory, fixed=True)
    ended = await race("--schedules", "50", "--", program, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert re.fullmatch(
        rb"no failure in 50 schedules in [\d.]+ s \(\d+/s\), \d+ different interleavings, "
        rb"\d+ shared words\n",
        ended.stdout,
    )
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], b"missing argument 'PROGRAM'"),
        (["--strategy", "no_such", "/bin/true"], b"unknown strategy 'no_such'"),
        (["--strategy", "pct:depth=x", "/bin/true"], b"depth must be <int>"),
        (["--strategy", "pct:no=1", "/bin/true"], b"no option 'no=1'"),
        (["--strategy", "no.module:Class", "/bin/true"], b"cannot import 'no.module'"),
        (["--granularity", "all of it", "/bin/true"], b"--granularity"),
        (["--schedules", "0", "/bin/true"], b"--schedules"),
        (["--seconds", "0", "/bin/true"], b"--seconds"),
        (["--status", "256", "/bin/true"], b"--status"),
        (["--check", "no_module", "/bin/true"], b"no predicate 'no_module'"),
        (["--check", "json:no_such", "/bin/true"], b"no predicate 'json:no_such'"),
        (["--check", "json:__name__", "/bin/true"], b"is no function"),
        (["--output", "/no/such", "/bin/true"], b"--output"),
        (["--", "/no/such/program"], b"cannot run /no/such/program: No such file"),
        (["--", "/etc/passwd"], b"cannot run /etc/passwd: Permission denied"),
        (["--", "/bin/true"], b"/bin/true never starts a thread or a process"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
async def test_wrong_use_is_one_line_and_status_2(
    arguments: list[str], says: bytes, tmp_path: Path
) -> None:
    ended = await race(*arguments, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert one_line(ended.stderr), ended.stderr
    assert says in ended.stderr
    assert not any(tmp_path.iterdir())


async def test_refused_instruction_is_one_line_and_status_2(
    guests: Builder, tmp_path: Path
) -> None:
    ended = await race("--", str(build_guest(guests, "instructions")), "xlat", cwd=tmp_path)
    assert ended.returncode == 2 and one_line(ended.stderr)
    assert re.search(rb"the instruction at 0x[0-9a-f]+ cannot be run", ended.stderr)


@pytest.mark.parametrize("arguments", [(), ("late",)], ids=["early", "late"])
async def test_program_that_sets_gs_is_refused(
    arguments: tuple[str, ...], guests: Builder, tmp_path: Path
) -> None:
    ended = await race("--", str(build_guest(guests, "sets_gs")), *arguments, cwd=tmp_path)
    assert ended.returncode == 2 and one_line(ended.stderr)
    assert b" sets GS, which exploring needs" in ended.stderr


async def test_json_is_one_object_that_names_the_file(directory: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    ended = await race(
        "--json", "--output", str(out), "--", example("deadlock_two_locks", directory),
        cwd=tmp_path,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (1, b"")
    said = json.loads(ended.stdout)
    (failure,) = said["failures"]
    assert failure["failure"] == "deadlock" and failure["preemptions"] == 1
    assert [Path(failure["file"])] == failures_in(out)
    assert said["schedules"] >= failure["execution"] >= 1 and not said["interrupted"]
    assert said["tasks"] == 3 and said["shared_words"] >= 2 and said["interleavings"] >= 1


async def test_html_is_written_beside_the_file(directory: Path, tmp_path: Path) -> None:
    ended = await race("--html", "--", example("lost_update", directory), cwd=tmp_path)
    assert ended.returncode == 1
    (path,) = failures_in(tmp_path)
    page = path.with_suffix(".html")
    assert f"picture: {page.name}".encode() in ended.stdout.replace(b"./", b"")
    assert page.read_text().lstrip().lower().startswith("<!doctype html>")
    other = tmp_path / "other.html"
    again = await replay("--html", str(other), path.name, cwd=tmp_path)
    assert again.returncode == -signal.SIGABRT
    assert "lost_update.c" in other.read_text()


async def test_same_seed_finds_the_same_failure(directory: Path, tmp_path: Path) -> None:
    names = set()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        path = await found("aba_stack", directory, tmp_path / folder, "--seed", "3")
        names.add((path.name, path.read_text().replace(str(tmp_path / folder), "")))
    assert len({json.dumps(json.loads(text)["schedule"]) for _, text in names}) == 1


async def test_status_says_which_exit_is_right(directory: Path, tmp_path: Path) -> None:
    program = example("split_section", directory)
    arguments = ("--schedules", "100", "--no-shrink", "--", program)
    ended = await race(*arguments, cwd=tmp_path)
    assert ended.returncode == 1 and b"exit status 1" in ended.stdout
    ended = await race("--status", "1", *arguments, cwd=tmp_path)
    assert ended.returncode == 1 and b"exit status 0" in ended.stdout


async def test_different_outputs_fail_if_asked(guests: Builder, tmp_path: Path) -> None:
    program = str(build_guest(guests, "puts_back"))
    arguments = ("--schedules", "40", "--no-shrink", "--", program)
    assert (await race(*arguments, cwd=tmp_path)).returncode == 0
    ended = await race("--deterministic", *arguments, cwd=tmp_path)
    assert ended.returncode == 1 and b"another output than before" in ended.stdout


async def test_predicate_and_strategy_of_the_users_own(guests: Builder, tmp_path: Path) -> None:
    program = str(build_guest(guests, "spins"))
    ended = await race(
        "--check", "race.predicates:never_prints_woken",
        "--strategy", "race.predicates:Highest", "--", program, "flag",
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(TESTS)},
    )  # fmt: skip
    assert ended.returncode == 1, ended.stderr
    assert b"it was woken" in ended.stdout


async def test_data_race_is_a_failure_if_asked(directory: Path, tmp_path: Path) -> None:
    program = example("torn_counter", directory)
    ended = await race("--fail-on-race", "--no-shrink", "--", program, cwd=tmp_path)
    assert ended.returncode == 1 and b"torn_counter.c:" in ended.stdout
    right = example("torn_counter", directory, fixed=True)
    ended = await race("--fail-on-race", "--schedules", "30", "--", right, cwd=tmp_path)
    assert ended.returncode == 0


@pytest.mark.parametrize(
    "strategy",
    ["random", "random:switch=0.2", "pct", "pct:depth=2", "pos", "surw", "rff", "delay",
     "delay:bound=1", "preemption", "preemption:bound=1", "mix"],
)  # fmt: skip
async def test_strategies_by_name(strategy: str, directory: Path, tmp_path: Path) -> None:
    program = example("lost_update", directory)
    ended = await race("--strategy", strategy, "--no-shrink", "--", program, cwd=tmp_path)
    assert ended.returncode == 1, ended.stdout


@pytest.mark.parametrize("strategy", ["delay:bound=1", "preemption:bound=1"])
async def test_systematic_strategy_ends_and_says_what_it_has_covered(
    strategy: str, directory: Path, tmp_path: Path
) -> None:
    program = example("lost_update", directory, fixed=True)
    ended = await race("--strategy", strategy, "--schedules", "100000", "--", program, cwd=tmp_path)
    assert ended.returncode == 0
    first, claim = ended.stdout.decode().splitlines()
    assert first.startswith("no failure in ") and int(first.split()[3]) < 5_000
    assert re.match(r"every schedule with at most 1 (delay|preemption)", claim), claim


async def test_several_failures_are_all_kept(directory: Path, tmp_path: Path) -> None:
    program = example("shared_ptr", directory)
    ended = await race(
        "--failures", "2", "--schedules", "600", "--no-shrink", "--", program, cwd=tmp_path
    )
    assert ended.returncode == 1
    whys = {json.loads(path.read_text())["failure"] for path in failures_in(tmp_path)}
    assert len(whys) == len(failures_in(tmp_path)) >= 1


@pytest.mark.parametrize("jobs", ["1", "2"])
async def test_interrupt_ends_it_soon_and_keeps_what_was_found(
    jobs: str, directory: Path, tmp_path: Path
) -> None:
    command = [UVM, "race", "-j", jobs, "--no-shrink", "--seconds", "300", "--failures", "9"]
    for name, status in (("lost_update", 1), ("ticket_lock", 0)):
        program = example(name, directory, fixed=not status)
        folder = tmp_path / name
        folder.mkdir()
        process = await asyncio.create_subprocess_exec(
            *command, program, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (
            failures_in(folder) if status else explores(process.pid)
        ):
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        out, err = await process.communicate()
        took = time.monotonic() - started
        assert (process.returncode, err) == (status, b""), (name, out)
        assert took < 5, took  # 0.1 to 0.7 on a machine that is not busy
        assert b"stopped: " in out or status
        assert len(failures_in(folder)) == status


# -- uvm replay


async def test_replay_ends_as_the_program_does(directory: Path, tmp_path: Path) -> None:
    expected = {
        "lost_update": (-signal.SIGABRT, b"Assertion"),
        "order_violation": (-signal.SIGSEGV, b"SIGSEGV"),
        "split_section": (1, b"exit status 1"),
        "deadlock_two_locks": (1, b"deadlock"),
    }
    for name, (status, says) in expected.items():
        folder = tmp_path / name
        folder.mkdir()
        path = await found(name, directory, folder)
        ended = await replay("--times", "3", str(path), cwd=tmp_path)
        assert (ended.returncode, says in ended.stderr) == (status, True), ended.stderr
        saved = json.loads(path.read_text())
        assert ended.stdout.decode() == saved["stdout"]
        assert ended.stderr.decode().startswith(saved["stderr"])
        assert ended.stderr.endswith(f"uvm replay: {saved['failure']}\n".encode())


async def test_replay_reports_in_words_and_in_json(directory: Path, tmp_path: Path) -> None:
    path = await found("lost_update", directory, tmp_path)
    ended = await replay("--report", path.name, cwd=tmp_path)
    assert ended.returncode == -signal.SIGABRT
    assert b"lost_update.c:" in ended.stdout
    ended = await replay("--json", "--times", "2", path.name, cwd=tmp_path)
    said = json.loads(ended.stdout)
    assert (said["failure"], said["times"]) == ("SIGABRT", 2) and "Assertion" in said["stderr"]


async def test_replay_leaves_a_core(directory: Path, tmp_path: Path) -> None:
    path = await found("lost_update", directory, tmp_path)
    ended = await replay("--core", "core", path.name, cwd=tmp_path)
    assert ended.returncode == -signal.SIGABRT, ended.stderr
    assert (tmp_path / "core").read_bytes()[:4] == b"\x7fELF"


async def test_replay_refuses_what_is_not_the_same(directory: Path, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(Path(example("lost_update", directory)).read_bytes())
    program.chmod(0o755)
    ended = await race("--no-shrink", "--", str(program), cwd=tmp_path)
    assert ended.returncode == 1
    (path,) = failures_in(tmp_path)
    saved = json.loads(path.read_text())

    async def refused(changes: dict[str, Any], says: str) -> None:
        other = tmp_path / "other.json"
        other.write_text(json.dumps({**saved, **changes}))
        ended = await replay(str(other), cwd=tmp_path)
        assert (ended.returncode, ended.stdout) == (2, b"")
        assert one_line(ended.stderr) and says in ended.stderr.decode(), ended.stderr

    await refused({"uvm_async": "0.0.1"}, "found by uvm_async 0.0.1, this is ")
    await refused({"cpu": [*saved["cpu"], "hypersleep"]}, "-hypersleep")
    await refused({"cpu": saved["cpu"][1:]}, f"+{saved['cpu'][0]}")
    await refused({"format": 99}, "format 99")
    await refused({"schedule": {}}, "not a replay file")
    right = Path(example("lost_update", directory, fixed=True)).read_bytes()
    program.write_bytes(right)
    await refused({}, f"{program} is another file than when this was found")
    program.unlink()
    await refused({}, f"{program} is not there")


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "cannot read"), ("", "is not a replay file"), ("[]", "not a replay file"),
     ("\xff", "is not a replay file"), ("{}", "not a replay file")],
)  # fmt: skip
async def test_replay_of_no_replay_file_is_one_line(
    content: str | None, says: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "file").write_bytes(content.encode("latin-1"))
    ended = await replay("file", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, b"") and one_line(ended.stderr)
    assert says in ended.stderr.decode()
