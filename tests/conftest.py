"""What all tests share: the machine's options, guests, and the check that nothing is left."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from support.guests import Builder
from support.leaks import Census, census, new_since
from support.options import MachineOptions, add_options, in_share
from support.oracle import empty_directory, is_root
from support.twice import Twice


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    for marker in (
        "machine: boots a machine",
        "many_traps: 2,000 traps or more; not run under --uvm-freeze-every 1",
        "needs_root: its oracle is root itself; not run as an ordinary user",
        "realtime: expects processor time to pass; not run under the virtual clock",
        "fixed_machine: chooses its machine itself; run only with the default options",
    ):
        config.addinivalue_line("markers", marker)
    config.stash[OPTIONS] = MachineOptions.of(config)
    os.umask(0o022)
    # A job in the background of a script ignores these; programs under test would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for signo in (signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(signo) is signal.SIG_IGN:
            signal.signal(signo, signal.SIG_DFL)


OPTIONS = pytest.StashKey[MachineOptions]()
BEFORE = pytest.StashKey[Census]()


def pytest_report_header(config: pytest.Config) -> str:
    return f"machine: {config.stash[OPTIONS]}"


def loop_factory(config: pytest.Config) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the loop that `--uvm-loop` names."""
    if config.stash[OPTIONS].loop == "asyncio":
        return asyncio.SelectorEventLoop
    import uvloop

    return uvloop.new_event_loop


def pytest_sessionstart(session: pytest.Session) -> None:
    """Let the loop make what it makes once a process, before anything is counted."""
    with asyncio.Runner(loop_factory=loop_factory(session.config)) as runner:
        runner.run(asyncio.sleep(0))


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every async test runs on the loop that `--uvm-loop` names."""
    return {config.stash[OPTIONS].loop: loop_factory(config)}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the chosen machine or user cannot be asked; the count is reported."""
    options = config.stash[OPTIONS]
    unwanted = set()
    if options.freeze_every == 1:
        unwanted.add("many_traps")
    if not is_root():
        unwanted.add("needs_root")
    if options.clock == "virtual":
        unwanted.add("realtime")
    if options != MachineOptions():
        unwanted.add("fixed_machine")
    left_out = [
        item
        for item in items
        if any(item.get_closest_marker(m) for m in unwanted) or not in_share(config, item)
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        gone = set(map(id, left_out))
        items[:] = [item for item in items if id(item) not in gone]


def pytest_collection_finish() -> None:
    """Tests and modules are there for good: each census need not look through them again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def machine_options(request: pytest.FixtureRequest) -> MachineOptions:
    """The machine that the command line asked for."""
    return request.config.stash[OPTIONS]


@pytest.fixture(scope="session")
def guests(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """Builds guests, each variant once a session, where an ordinary user may run them."""
    kept = request.config.getoption("uvm_guests")
    directory = Path(kept) if kept else tmp_path_factory.mktemp("guests")
    directory.mkdir(parents=True, exist_ok=True)
    for folder in (directory, *directory.parents):
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(folder.stat().st_mode | 0o055)
    return Builder(directory)


@pytest.fixture
def scratch(tmp_path: Path, guests: Builder) -> Path:
    """The working directory of a guest, the same path for the host's run and the machine's."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    return empty_directory(tmp_path / "scratch")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Count what is there before a test that boots machines and its fixtures begin."""
    if item.get_closest_marker("machine"):
        item.stash[BEFORE] = census()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """After a machine's test, its loop being closed, nothing of it is left here or below."""
    result = yield
    before = item.stash.get(BEFORE, None)
    if before is not None:
        left = new_since(before)
        assert not left, "left behind: " + "; ".join(left)
    return result


@pytest.fixture
def twice(machine_options: MachineOptions, scratch: Path) -> Twice:
    """`await twice.agree([program, ...])`: the machine must answer as the host does."""
    return Twice(machine_options, scratch)
