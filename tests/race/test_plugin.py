"""The pytest plugin: what a session of a user's sees of it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from race.corpus import build, program_named

pytest_plugins = ["pytester"]
pytestmark = [pytest.mark.machine, pytest.mark.fixed_machine]

STRICT = ("-W", "error", "-W", "ignore:Module already imported")  # of an editable install
UVM = (sys.executable, "-m", "uvm_async")
LOOPS = """
    import asyncio
    import uvloop

    def pytest_asyncio_loop_factories(config, item):
        return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.SelectorEventLoop}
"""
SAVED = re.compile(r"^schedule: (.+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def programs(directory: Path) -> Callable[..., str]:
    """`programs("lost_update", fixed=True)`: the path of that program."""

    def path(name: str, *, fixed: bool = False) -> str:
        return str(build(program_named(name), fixed=fixed, directory=directory))

    return path


@pytest.fixture(autouse=True)
def of_its_own(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever lies above the temporary directory, the inner sessions' root is theirs; whatever
    runs this one, they do not think that it is CI."""
    pytester.makeini("[pytest]\n")
    for name in ("CI", "BUILD_NUMBER"):
        monkeypatch.delenv(name, raising=False)


def session(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    # Hypothesis's plugin takes half as long to load as all the rest of a small session.
    without = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")
    return pytester.runpytest_subprocess(*without, *arguments, timeout=100)


def saved_in(directory: Path) -> list[str]:
    return sorted(os.listdir(directory)) if directory.exists() else []


def test_session_that_explores_nothing_loads_only_the_plugin(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys
        import pytest

        @pytest.mark.uvm_race(schedules=3)
        def test_marked_but_not_exploring():
            ours = [name for name in sys.modules if name.startswith("uvm_async.")]
            assert ours == ["uvm_async.pytest_plugin"]
            assert "uvloop" not in sys.modules and "click" not in sys.modules
        """
    )
    # pytest-asyncio and others have imports of their own.
    result = session(pytester, "--strict-markers", "-p", "no:asyncio", *STRICT)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["uvm_race: seed 0, or as a test says"])
    assert not (pytester.path / ".uvm-failures").exists()
    session(pytester, "--markers").stdout.fnmatch_lines(
        ["@pytest.mark.uvm_race(strategy, schedules, seed, granularity, seconds, jobs)*"]
    )


def make_two_wrong(pytester: pytest.Pytester, programs: Callable[..., str]) -> None:
    pytester.makepyfile(
        test_it=f"""
        import pytest

        @pytest.mark.uvm_race(schedules=200)
        def test_counter(uvm_race):
            uvm_race([{programs("lost_update")!r}])

        def test_locks(uvm_race):
            uvm_race([{programs("deadlock_two_locks")!r}])
        """
    )


def assert_both_are_told(result: pytest.RunResult) -> None:
    result.assert_outcomes(failed=2)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "uvm_race: SIGABRT under schedule * (strategy mix, seed 0, *), shortened to * switch*",
            "*Assertion `balance == 121' failed.",
            "* switch: thread * → thread *",
            "*reads balance = 100 *lost_update.c:23*",
            "schedule: .uvm-failures/uvm-failure-lost_update-*.json",
            "again:    uvm replay .uvm-failures/uvm-failure-lost_update-*.json",
            "or:       pytest test_it.py::test_counter --uvm-replay .uvm-failures/*.json",
            "uvm_race: deadlock under schedule *",
            "* waits for mutex at * held by thread *",
            "FAILED test_it.py::test_counter - uvm_race: SIGABRT under schedule *",
            "FAILED test_it.py::test_locks - uvm_race: deadlock under schedule *",
        ]
    )
    output = result.stdout.str()
    assert "Traceback" not in output and "pytest_plugin.py" not in output


def test_failing_schedule_is_told_saved_and_shown_again_by_both_commands(
    pytester: pytest.Pytester, programs: Callable[..., str]
) -> None:
    make_two_wrong(pytester, programs)
    result = session(pytester)
    assert_both_are_told(result)
    output = result.stdout.str()
    files = SAVED.findall(output)
    assert saved_in(pytester.path / ".uvm-failures") == sorted(map(os.path.basename, files))

    shown = subprocess.run([*UVM, "replay", files[0]], capture_output=True, timeout=60)
    assert shown.returncode == -signal.SIGABRT
    assert b"balance == 121" in shown.stderr

    for number in range(2):
        again = re.findall(r"^or: +pytest (.+)$", output, re.MULTILINE)[number]
        replayed = session(pytester, *shlex.split(again))
        replayed.assert_outcomes(failed=1)
        why = ("SIGABRT", "deadlock")[number]
        replayed.stdout.fnmatch_lines([f"uvm_race: {why}, replayed", f"schedule: {files[number]}"])
        steps = re.compile(r"^ *\d+ [●│ ]+.*$", re.MULTILINE)
        told = steps.findall(replayed.stdout.str())
        assert len(told) > 5 and set(told) <= set(steps.findall(output))


def test_failures_are_told_alike_where_pytest_shows_whole_messages(
    pytester: pytest.Pytester, programs: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_two_wrong(pytester, programs)
    monkeypatch.setenv("CI", "1")
    assert_both_are_told(session(pytester))


def test_right_program_passes_with_just_the_schedules_that_were_asked_for(
    pytester: pytest.Pytester, programs: Callable[..., str]
) -> None:
    pytester.makepyfile(
        f"""
        import pytest

        PROGRAM = [{programs("lost_update", fixed=True)!r}]
        pytestmark = pytest.mark.uvm_race(schedules=7, strategy="random")

        def test_of_module(uvm_race):
            assert uvm_race.options == {{"schedules": 7, "strategy": "random"}}
            print(f"tried {{uvm_race(PROGRAM).schedules}}")

        @pytest.mark.uvm_race(schedules=5, granularity="syscall", seconds=60)
        def test_of_its_own(uvm_race):
            assert uvm_race.options["strategy"] == "random"
            print(f"tried {{uvm_race(PROGRAM, cwd='/', env={{}}, input=b'x').schedules}}")
            assert uvm_race(PROGRAM).steps > 5

        @pytest.mark.uvm_race(strategy="preemption:bound=0", jobs=2)
        def test_systematic(uvm_race):
            assert "preemption" in uvm_race(PROGRAM).claim
        """
    )
    result = session(pytester, "-rP")
    result.assert_outcomes(passed=3)
    assert re.findall(r"^tried (\d+)$", result.stdout.str(), re.MULTILINE) == ["7", "5"]
    result = session(pytester, "-rP", "-k", "not systematic", "--uvm-schedules", "3")
    result.assert_outcomes(passed=2)
    assert re.findall(r"^tried (\d+)$", result.stdout.str(), re.MULTILINE) == ["3", "3"]


def test_seed_of_the_command_line_wins_and_failures_go_where_it_says(
    pytester: pytest.Pytester, programs: Callable[..., str]
) -> None:
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.uvm_race(seed=7, strategy="pct:depth=3")
        def test_counter(uvm_race):
            uvm_race([{programs("lost_update")!r}])
        """
    )
    result = session(pytester, "--uvm-failures", "kept/there")
    result.stdout.fnmatch_lines(["uvm_race: SIGABRT * (strategy pct:depth=3, seed 7, *"])
    assert len(saved_in(pytester.path / "kept/there")) == 1
    result = session(pytester, "--uvm-seed", "3")
    result.stdout.fnmatch_lines(["uvm_race: seed 3", "uvm_race: SIGABRT *, seed 3, *"])
    assert len(saved_in(pytester.path / ".uvm-failures")) == 1


def test_checks_of_a_test_are_failures_that_replay(
    pytester: pytest.Pytester, programs: Callable[..., str]
) -> None:
    pytester.makepyfile(
        test_it=f"""
        PROGRAM = [{programs("lost_update", fixed=True)!r}]

        def says(engine, result):
            assert result.stdout == b"balance 122\\n"

        def test_assertion(uvm_race):
            uvm_race(PROGRAM, check=says)

        def test_answer(uvm_race):
            uvm_race(PROGRAM, check=lambda engine, result: "never right")

        def test_status(uvm_race):
            uvm_race(PROGRAM, status=3)

        def test_no_answer(uvm_race):
            uvm_race(PROGRAM, check=lambda engine, result: result.failure or None)
        """
    )
    result = session(pytester, "--uvm-schedules", "8")
    result.assert_outcomes(failed=3, passed=1)
    result.stdout.fnmatch_lines(
        [
            "uvm_race: check: assert b'balance 121\\n' == b'balance 122\\n' under schedule 1 *",
            "uvm_race: never right under schedule 1 *",
            "uvm_race: exit status 0 under schedule 1 *",
        ]
    )
    for again in re.findall(r"^or: +pytest (.+)$", result.stdout.str(), re.MULTILINE):
        replayed = session(pytester, *shlex.split(again))
        replayed.assert_outcomes(failed=1)
        replayed.stdout.fnmatch_lines(["uvm_race: *, replayed"])


def test_file_of_another_program_is_refused_with_what_differs(
    pytester: pytest.Pytester, programs: Callable[..., str]
) -> None:
    shutil.copy(programs("lost_update"), "counter")
    pytester.makepyfile(
        test_it=f"""
        def test_counter(uvm_race):
            uvm_race(["./counter"])

        def test_other(uvm_race):
            assert uvm_race([{programs("deadlock_two_locks")!r}]).schedules

        def test_arguments(uvm_race):
            uvm_race(["./counter", "5"])

        def test_both(uvm_race):
            uvm_race([{programs("deadlock_two_locks", fixed=True)!r}])
            uvm_race(["./counter"])
        """
    )
    output = session(pytester, "test_it.py::test_counter").stdout.str()
    (file,) = SAVED.findall(output)
    result = session(pytester, "--uvm-replay", file)
    result.assert_outcomes(failed=4)
    name = os.path.basename(file)
    result.stdout.fnmatch_lines(
        [
            f"uvm_race: seed 0, or as a test says, replaying {file}",
            "uvm_race: SIGABRT, replayed",  # test_counter
            f"uvm_race: {name} is of ./counter, this test explores */deadlock_two_locks-*",
            f"uvm_race: {name} is of ./counter, this test explores ./counter 5",
            "uvm_race: SIGABRT, replayed",  # test_both
        ]
    )
    assert "During handling" not in result.stdout.str()

    os.unlink("counter")
    shutil.copy(programs("lost_update", fixed=True), "counter")
    result = session(pytester, "test_it.py::test_counter", "--uvm-replay", file)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"uvm_race: {name} is of another ./counter than is there now*"])


def test_wrong_use_is_told_in_a_line(
    pytester: pytest.Pytester, programs: Callable[..., str]
) -> None:
    pytester.makepyfile(
        test_it=f"""
        import pytest

        PROGRAM = [{programs("lost_update", fixed=True)!r}]

        @pytest.mark.uvm_race(schedule=3)
        def test_misspelt(uvm_race):
            uvm_race(PROGRAM)

        @pytest.mark.uvm_race(schedules="3")
        def test_mistyped(uvm_race):
            uvm_race(PROGRAM)

        @pytest.mark.uvm_race(strategy="luck")
        def test_unknown(uvm_race):
            uvm_race(PROGRAM)

        def test_without_threads(uvm_race):
            uvm_race(["/bin/true"])

        def test_missing(uvm_race):
            uvm_race(["./missing"])
        """
    )
    result = session(pytester)
    result.assert_outcomes(failed=3, errors=2)
    result.stdout.fnmatch_lines_random(
        [
            "the marker uvm_race takes strategy, *, jobs, not schedule",
            "the marker uvm_race: schedules cannot be '3'",
            "uvm_race: unknown strategy 'luck': *",
            "uvm_race: /bin/true never starts a thread or a process *",
            "uvm_race: cannot run ./missing: No such file or directory",
        ]
    )
    assert "During handling" not in result.stdout.str()
    result = session(pytester, "--uvm-replay", "gone.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --uvm-replay: there is no file *gone.json"])
    result = session(pytester, "--uvm-schedules", "0")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result = session(pytester, "-k", "missing", "--uvm-replay", "test_it.py")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["uvm_race: *test_it.py is not a replay file"])


def test_async_tests_explore_in_their_own_loop_whichever_it_is(
    pytester: pytest.Pytester, programs: Callable[..., str]
) -> None:
    pytester.makeconftest(LOOPS)
    pytester.makepyfile(
        f"""
        import asyncio
        import pytest

        pytestmark = [pytest.mark.asyncio, pytest.mark.uvm_race(schedules=60)]

        async def test_wrong(uvm_race):
            await uvm_race.explore([{programs("lost_update")!r}])

        async def test_right_ones_beside_each_other(uvm_race):
            program = [{programs("lost_update", fixed=True)!r}]
            both = await asyncio.gather(uvm_race.explore(program), uvm_race.explore(program))
            assert [progress.schedules for progress in both] == [60, 60]

        async def test_call(uvm_race):
            uvm_race(["/bin/true"])
        """
    )
    result = session(pytester, "-v")
    result.assert_outcomes(passed=2, failed=4)
    output = result.stdout.str()
    assert len(re.findall(r"^uvm_race: SIGABRT under schedule", output, re.MULTILINE)) == 2
    advice = "running event loop: write `await uvm_race.explore"
    assert len(re.findall(f"^E .*{advice}", output, re.MULTILINE)) == 2
    assert "never awaited" not in output


def test_workers_of_xdist_have_the_seed_and_save_in_one_place(
    pytester: pytest.Pytester, programs: Callable[..., str]
) -> None:
    pytester.makepyfile(
        f"""
        import os
        import pytest

        @pytest.mark.parametrize("number", range(4))
        def test_counter(uvm_race, number):
            assert os.environ["PYTEST_XDIST_WORKER"] in ("gw0", "gw1")
            uvm_race([{programs("lost_update")!r}])
        """
    )
    result = session(pytester, "-n", "2", "--uvm-seed", "5", "--uvm-failures", "kept")
    result.assert_outcomes(failed=4)
    output = result.stdout.str()
    assert {"[gw0]", "[gw1]"} <= set(re.findall(r"\[gw\d\]", output))
    assert len(re.findall(r"^uvm_race: SIGABRT .*, seed 5, ", output, re.MULTILINE)) == 4
    files = SAVED.findall(output)
    # One seed and one program: one schedule, saved by both workers.
    assert len(files) == 4 and len(set(files)) == 1
    assert saved_in(pytester.path / "kept") == [os.path.basename(files[0])]


def test_jobs_of_the_marker_find_what_one_finds(
    pytester: pytest.Pytester, programs: Callable[..., str]
) -> None:
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.uvm_race(jobs=2, schedules=120)
        def test_counter(uvm_race):
            uvm_race([{programs("lost_update")!r}])

        @pytest.mark.uvm_race(jobs=2, schedules=60)
        def test_local_check(uvm_race):
            uvm_race([{programs("lost_update", fixed=True)!r}], check=lambda engine, result: None)
        """
    )
    result = session(pytester)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        ["uvm_race: SIGABRT under *", "uvm_race: more than one job needs a predicate that can be *"]
    )


def test_interrupt_ends_an_exploration_and_the_session_at_once(
    pytester: pytest.Pytester, programs: Callable[..., str]
) -> None:
    test = pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.uvm_race(seconds=90)
        def test_counter(uvm_race):
            open("begun", "w").close()
            uvm_race([{programs("lost_update", fixed=True)!r}])
        """
    )
    command = [sys.executable, "-m", "pytest", str(test)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        end = time.monotonic() + 60
        while not (pytester.path / "begun").exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        interrupted = time.monotonic()
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert time.monotonic() - interrupted < 10
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert b"KeyboardInterrupt" in output
