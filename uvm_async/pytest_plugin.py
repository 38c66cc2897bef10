"""Race exploration as a test: the marker and the fixture `uvm_race` (docs/race-pytest.md).

    @pytest.mark.uvm_race(strategy="pct:depth=3", schedules=2000)
    def test_counter(uvm_race):
        uvm_race(["./counter", "4"])

A test whose program fails under some schedule fails, with the report of what
happened, the schedule in a file, and the commands that show it again.

Every pytest session of whoever has the package installed loads this module, so
it imports next to nothing until a test calls.
"""

from __future__ import annotations

import argparse
import os
import shlex
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypedDict

import pytest

if TYPE_CHECKING:
    from typing import Unpack

    from uvm_async.race.engine import Engine, Target
    from uvm_async.race.explore import Options, Progress
    from uvm_async.race.failure import Failure
    from uvm_async.race.model import Result
    from uvm_async.race.session import Checks

__all__ = ["Explorer", "Given"]

MARKER: Final = (
    "uvm_race(strategy, schedules, seed, granularity, seconds, jobs): how the fixture uvm_race "
    "explores the schedules of a program (uvm_async)"
)
TAKES: Final[dict[str, type | tuple[type, ...]]] = {
    "strategy": str, "schedules": int, "seed": int, "granularity": str, "seconds": (int, float),
    "jobs": int,
}  # fmt: skip
"""What the marker takes, as `uvm_async.race.explore.Options` names it."""
DIRECTORY: Final = ".uvm-failures"


class Given(TypedDict, total=False):
    """What may be said of a program besides its arguments."""

    input: bytes
    """Its standard input; none by default."""
    env: Mapping[str, str] | None
    """Its environment. None: PATH, HOME, LANG and the few others that `uvm race` passes on."""
    cwd: str | os.PathLike[str] | None
    """Where it starts; None: here."""
    status: int
    """The exit status that is right; 0 by default."""
    check: Callable[[Engine, Result], str | None] | None
    """Of the engine and the result at the end of each execution: answers what is wrong or None, or
    asserts."""
    deterministic: bool
    """Another output than the first execution's is a failure."""
    fail_on_race: bool
    """A data race is a failure, whatever came of it."""
    root: str
    memory: str
    cpus: int
    """The machine, as for `uvm run`."""


# -- hooks


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("uvm_race", "race exploration (uvm_async)")
    group.addoption(
        "--uvm-seed", type=int, default=None, metavar="N",
        help="seed of every exploration (default: the marker's, or 0)",
    )  # fmt: skip
    group.addoption(
        "--uvm-schedules", type=_positive, default=None, metavar="N",
        help="schedules that each exploration tries at most, whatever the marker says",
    )  # fmt: skip
    group.addoption(
        "--uvm-replay", default=None, metavar="FILE",
        help="run only the schedule in FILE, in the test whose program it is of",
    )  # fmt: skip
    group.addoption(
        "--uvm-failures", default=None, metavar="DIR",
        help=f"where failing schedules are saved (default: {DIRECTORY} in the root directory)",
    )  # fmt: skip


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"a number above 0, not {text!r}")
    return int(text)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)
    file = _replay_file(config)
    if file is not None and not file.is_file():
        raise pytest.UsageError(f"--uvm-replay: there is no file {file}")


def pytest_report_header(config: pytest.Config) -> str:
    seed = config.getoption("uvm_seed")
    file = config.getoption("uvm_replay")
    said = f"seed {seed}" if seed is not None else "seed 0, or as a test says"
    return f"uvm_race: {said}" + (f", replaying {file}" if file else "")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """With --uvm-replay, a test that explores must be of the file's program."""
    result = None
    try:
        result = yield
    except Exception:
        if not _others(item):
            raise
    if others := _others(item):
        pytest.fail(f"uvm_race: {'; '.join(others)}", pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The closing summary has the first line of what we say, also where pytest would repeat all
    of it (if the environment has CI)."""
    report = yield
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None and call.excinfo is not None:
        said, _, rest = str(call.excinfo.value).partition("\n")
        if rest and said.startswith("uvm_race: "):
            crash.message = said
    return report


def _others(item: pytest.Item) -> list[str]:
    explorer = item.stash.get(EXPLORER, None)
    return explorer.others if explorer is not None else []


def _from_here(config: pytest.Config, path: str) -> Path:
    return config.invocation_params.dir / os.path.expanduser(path)


def _replay_file(config: pytest.Config) -> Path | None:
    file = config.getoption("uvm_replay")
    return _from_here(config, file) if file else None


# -- the fixture


@pytest.fixture
def uvm_race(request: pytest.FixtureRequest) -> Explorer:
    """Explores the schedules of a program: `uvm_race([program, ...])`, or in an async test
    `await uvm_race.explore([program, ...])`."""
    explorer = Explorer(request.config, request.node)
    request.node.stash[EXPLORER] = explorer
    return explorer


class Explorer:
    """What the fixture `uvm_race` is."""

    def __init__(self, config: pytest.Config, node: pytest.Item) -> None:
        self.config = config
        self.node = node
        self.options = _marked(node)
        self.others: list[str] = []
        """What the file to replay is not of, in words; empty once there was what it is of."""
        self._replayed = False

    def __call__(
        self, program: Sequence[str | os.PathLike[str]], **given: Unpack[Given]
    ) -> Progress:
        """Explore; the test fails if the program does under some schedule. Answers how much was
        explored. Not for use inside a running event loop."""
        __tracebackhide__ = True
        import asyncio

        import uvloop

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise RuntimeError(
                "uvm_race(...) was called in a running event loop: "
                "write `await uvm_race.explore(...)`"
            )
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(self._run(program, given, share_loop=False))

    async def explore(
        self, program: Sequence[str | os.PathLike[str]], **given: Unpack[Given]
    ) -> Progress:
        """The same in the running event loop."""
        return await self._run(program, given, share_loop=True)

    async def _run(
        self, program: Sequence[str | os.PathLike[str]], given: Given, *, share_loop: bool
    ) -> Progress:
        from uvm_async.errors import MachineError, UsageError

        target, checks = _target(program, given), _checks(given)
        try:
            file = _replay_file(self.config)
            if file is None:
                return await self._explore(target, self._options(checks, share_loop))
            return await self._replay(target, checks, file)
        except (UsageError, MachineError) as error:
            wrong = str(error)
        pytest.fail(f"uvm_race: {wrong}", pytrace=False)

    def _options(self, checks: Checks, share_loop: bool) -> Options:
        from uvm_async.race.explore import Options

        chosen = dict(self.options)
        for name in ("seed", "schedules"):
            value = self.config.getoption(f"uvm_{name}")
            if value is not None:
                chosen[name] = value
        return Options(checks=checks, share_loop=share_loop, **chosen)

    async def _explore(self, target: Target, options: Options) -> Progress:
        from uvm_async.race.explore import Progress, explore

        progress = Progress()
        async for failure in explore(target, options, progress):
            self._save(failure)
            switches = len(failure.schedule.switches)
            self._fail(
                failure,
                f"{failure.why} under schedule {failure.execution} (strategy {options.strategy}, "
                f"seed {failure.seed}, {progress.seconds:.1f} s), shortened to {switches} "
                f"switch{'es' if switches != 1 else ''}",
                await _report(failure),
            )
        return progress

    async def _replay(self, target: Target, checks: Checks, file: Path) -> Progress:
        """Only the schedule in `file`, if it is of this program."""
        from uvm_async.race.explore import Progress, replay
        from uvm_async.race.failure import Failure

        failure = Failure.load(str(file))
        difference = _difference(failure, target)
        if difference:
            if not self._replayed:
                self.others.append(f"{file.name} {difference}")
            return Progress()
        self._replayed = True
        self.others = []
        result = (await replay(failure, checks=checks))[0]
        if not failure.is_shown_by(result):
            pytest.fail(
                f"uvm_race: {file} is of {failure.why}, but now the program ends with "
                f"{result.failure or f'status {result.status >> 8}'} under that schedule",
                pytrace=False,
            )
        self._fail(failure, f"{failure.why}, replayed", await _report(failure))

    def _save(self, failure: Failure) -> None:
        """Under its final name from the first moment on: other workers save here, too."""
        given = self.config.getoption("uvm_failures")
        directory = _from_here(self.config, given) if given else self.config.rootpath / DIRECTORY
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".saving-", dir=directory) as part:
            saved = failure.save(part)
            failure.path = str(directory / os.path.basename(saved))
            os.replace(saved, failure.path)

    def _fail(self, failure: Failure, what: str, report: str) -> NoReturn:
        path = shlex.quote(self._seen_from_here(failure.path))
        _, colons, name = self.node.nodeid.partition("::")
        test = shlex.quote(self._seen_from_here(str(self.node.path)) + colons + name)
        pytest.fail(
            f"uvm_race: {what}\n"
            f"program: {shlex.join(failure.target.args)}\n\n{report}\n"
            f"schedule: {path}\n"
            f"again:    uvm replay {path}\n"
            f"or:       pytest {test} --uvm-replay {path}",
            pytrace=False,
        )

    def _seen_from_here(self, path: str) -> str:
        """As one would type it where pytest was started."""
        relative = os.path.relpath(path, self.config.invocation_params.dir)
        return path if relative.startswith("..") else relative


EXPLORER = pytest.StashKey[Explorer]()


# -- what a test says


def _marked(node: pytest.Item) -> dict[str, Any]:
    """Options from the test's markers, the closest winning."""
    chosen: dict[str, Any] = {}
    for marker in node.iter_markers("uvm_race"):
        if marker.args:
            pytest.fail("the marker uvm_race takes keyword arguments only", pytrace=False)
        for name, value in marker.kwargs.items():
            if name not in TAKES:
                known = ", ".join(TAKES)
                pytest.fail(f"the marker uvm_race takes {known}, not {name}", pytrace=False)
            if not isinstance(value, TAKES[name]) or isinstance(value, bool):
                pytest.fail(f"the marker uvm_race: {name} cannot be {value!r}", pytrace=False)
            chosen.setdefault(name, value)
    return chosen


def _target(program: Sequence[str | os.PathLike[str]], given: Given) -> Target:
    from uvm_async.cli.race import environment
    from uvm_async.race.engine import Target

    if isinstance(program, (str, bytes, os.PathLike)) or not program:
        raise TypeError("uvm_race wants a list: the program and its arguments")
    env = given.get("env")
    return Target(
        args=tuple(os.fspath(word) for word in program),
        env=environment(()) if env is None else dict(env),
        cwd=os.path.abspath(given.get("cwd") or "."),
        input=given.get("input", b""),
        root=given.get("root", "/"),
        memory=given.get("memory", "128M"),
        cpus=given.get("cpus", 2),
    )


def _checks(given: Given) -> Checks:
    from uvm_async.race.session import Checks

    check = given.get("check")
    return Checks(
        status=given.get("status", 0),
        deterministic=given.get("deterministic", False),
        predicate=_Check(check) if check is not None else None,
        fail_on_race=given.get("fail_on_race", False),
    )


@dataclass(frozen=True, slots=True)
class _Check:
    """A test's predicate, which may assert."""

    function: Callable[[Engine, Result], str | None]

    def __call__(self, engine: Engine, result: Result) -> str | None:
        try:
            wrong = self.function(engine, result)
        except (AssertionError, pytest.fail.Exception) as error:
            said = str(error).strip().splitlines() or ["assertion failed"]
            return f"check: {said[0]}"
        if wrong is not None and not isinstance(wrong, str):
            raise TypeError(f"check answers what is wrong, or None; not {wrong!r}")
        return wrong


# -- replaying


def _difference(failure: Failure, target: Target) -> str:
    """Why `failure` is of another program than `target`; empty if it is of that one."""
    from uvm_async.race.failure import file_hash

    theirs = failure.target
    named = os.path.basename(theirs.args[0]) == os.path.basename(target.args[0])
    if not named or theirs.args[1:] != target.args[1:] or theirs.input != target.input:
        return f"is of {shlex.join(theirs.args)}, this test explores {shlex.join(target.args)}" + (
            " with another input" if named and theirs.args[1:] == target.args[1:] else ""
        )
    recorded = failure.files.get(_path(theirs))
    now = file_hash(_path(target))
    if recorded and now and recorded != now:
        return f"is of another {target.args[0]} than is there now: explore again"
    return ""


def _path(target: Target) -> str:
    """The program's file, as a failure names it."""
    return os.path.realpath(os.path.join(target.cwd or ".", target.args[0]))


async def _report(failure: Failure) -> str:
    from uvm_async.errors import MachineError, UsageError
    from uvm_async.race.explore import traced
    from uvm_async.race.report import render_report

    try:
        return render_report(await traced(failure))
    except (UsageError, MachineError) as error:
        return f"no report: {error}\n"
