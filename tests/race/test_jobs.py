"""Exploring with more than one job: in a pool of processes, in threads, on a Dask cluster."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import pickle
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import pytest
import uvloop

from race.corpus import build, program_named
from support.leaks import census, new_since
from uvm_async.cli.main import main
from uvm_async.errors import MachineError, UsageError
from uvm_async.race.engine import NoThreads, Target
from uvm_async.race.explore import Options, Progress, explore, replay
from uvm_async.race.failure import Failure
from uvm_async.race.jobs import Chunk, Outcome, _one_cpu, run_chunk
from uvm_async.race.model import Schedule
from uvm_async.race.session import Checks

UVM = (sys.executable, "-m", "uvm_async")
LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.SelectorEventLoop}
TESTS = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wrong(directory: Path) -> Target:
    """Found by about every tenth schedule."""
    return target(build(program_named("lost_update"), fixed=False, directory=directory))


@pytest.fixture(scope="module")
def right(directory: Path) -> Target:
    return target(build(program_named("lost_update"), fixed=True, directory=directory))


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """No process, stub, thread or descriptor, but what multiprocessing keeps for good."""
    resource_tracker.ensure_running()
    before = census()
    yield
    left = new_since(before)
    assert not left, "left behind: " + "; ".join(left)


def target(program: Path | str) -> Target:
    return Target((str(program),), env={}, cwd="/")


def explored(
    target: Target,
    options: Options,
    *,
    executor: Executor | None = None,
    progress: Progress | None = None,
    listener: Callable[[Progress], None] | None = None,
    loop: str = "uvloop",
) -> list[Failure]:
    """All that an exploration finds."""

    async def collect() -> list[Failure]:
        found = explore(target, options, progress, listener, executor)
        return [failure async for failure in found]

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(collect())


# -- in a pool of processes


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.usefixtures("nothing_left")
def test_failure_that_a_job_finds_replays_here(wrong: Target, loop: str) -> None:
    (failure,) = explored(wrong, Options(jobs=2, schedules=200), loop=loop)
    assert failure.why == "SIGABRT" and b"balance == 121" in failure.stderr
    assert failure.preemptions == 1  # it was made short there
    results = asyncio.run(replay(failure, times=3))
    assert [result.failure for result in results] == ["SIGABRT"] * 3


@pytest.mark.usefixtures("nothing_left")
def test_budget_is_spent_to_the_last_schedule_and_progress_adds_up(right: Target) -> None:
    progress = Progress()
    seen: list[tuple[int, float]] = []

    def listener(progress: Progress) -> None:
        seen.append((progress.schedules, progress.seconds))

    options = Options(jobs=2, schedules=117)
    assert explored(right, options, progress=progress, listener=listener) == []
    assert progress.schedules == 117 and progress.failures == 0 and progress.unreported == []
    assert progress.tasks == 3 and progress.words >= 1 and progress.steps > 10
    assert 1 < progress.interleavings <= 117
    assert seen == sorted(seen) and seen[-1][0] == 117
    assert {schedules for schedules, _ in seen} <= {0, 17, 50, 67, 100, 117}
    assert progress.rate > 0


@pytest.mark.usefixtures("nothing_left")
def test_time_ends_an_exploration_without_a_budget(right: Target) -> None:
    progress = Progress()
    started = time.monotonic()
    assert explored(right, Options(jobs=2, seconds=3), progress=progress) == []
    assert 3 <= time.monotonic() - started < 15
    assert progress.seconds >= 3 and progress.claim == ""


def test_what_is_found_follows_from_the_seed_not_from_the_number_of_jobs(wrong: Target) -> None:
    found = [
        explored(wrong, Options(jobs=jobs, schedules=300, seed=seed), executor=executor)
        for seed, jobs, executor in (
            (3, 2, None), (3, 3, None), (3, 1, InThisThread()), (4, 1, InThisThread()),
        )
    ]  # fmt: skip
    texts = [json.dumps([failure.to_json() for failure in failures]) for failures in found]
    assert len(set(texts[:3])) == 1
    assert texts[3] != texts[0]


@pytest.mark.usefixtures("nothing_left")
def test_jobs_raise_what_one_raises(
    right: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = Options(jobs=2)
    with pytest.raises(NoThreads, match="never starts a thread"):
        explored(target("/bin/true"), two)
    with pytest.raises(UsageError, match="cannot run /missing: No such file") as raised:
        explored(target("/missing"), two)
    assert type(raised.value) is UsageError
    with pytest.raises(UsageError, match="unknown strategy 'luck'"):
        explored(right, Options(jobs=2, strategy="luck"))
    with pytest.raises(UsageError, match="predicate that can be imported"):
        explored(right, Options(jobs=2, checks=Checks(predicate=lambda engine, result: None)))

    (tmp_path / "mistaken.py").write_text(
        "from uvm_async.race.strategies import Strategy\n"
        "def wrong(engine, result):\n    raise KeyError('a mistake')\n"
        "class Gives(Strategy):\n    def choose(self, point):\n        raise LookupError('up')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import mistaken  # type: ignore[import-not-found]

    with pytest.raises(KeyError, match="a mistake") as noted:
        explored(right, Options(jobs=2, checks=Checks(predicate=mistaken.wrong)))
    assert "mistaken.py" in "".join(noted.value.__notes__)


@pytest.mark.usefixtures("nothing_left")
def test_systematic_search_is_not_split(right: Target) -> None:
    progress = Progress()
    counts: list[int] = []

    def listener(progress: Progress) -> None:
        counts.append(len(multiprocessing.active_children()))

    options = Options(jobs=2, strategy="preemption:bound=1")
    assert explored(right, options, progress=progress, listener=listener) == []
    assert "at most 1 preemption" in progress.claim
    assert set(counts) == {0}


# -- the end, before all is done


def wait_for_machines(before: frozenset[int]) -> None:
    """Until a program of ours explores, and then a little."""
    end = time.monotonic() + 60
    while not census().stubs - before:
        assert time.monotonic() < end, "no machine has come up"
        time.sleep(0.1)
    time.sleep(2)


async def cancelled_after(
    seconds: float | None, target: Target, options: Options
) -> tuple[Progress, list[Failure], float]:
    """Progress, what was handed out, and the seconds that the end took. None: while it explores."""
    progress = Progress()
    found: list[Failure] = []

    async def run() -> None:
        async for failure in explore(target, options, progress):
            found.append(failure)

    before = census().stubs
    job = asyncio.ensure_future(run())
    if seconds is None:
        await asyncio.to_thread(wait_for_machines, before)
    else:
        await asyncio.sleep(seconds)
    assert not job.done()
    job.cancel()
    cancelled = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await job
    return progress, found, time.monotonic() - cancelled


@pytest.mark.parametrize("seconds", [0, 0.3, None])
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.usefixtures("nothing_left")
def test_cancellation_ends_all_jobs_in_seconds(
    right: Target, seconds: float | None, loop: str
) -> None:
    options = Options(jobs=2, schedules=100_000)
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        progress, found, took = runner.run(cancelled_after(seconds, right, options))
    assert found == [] and took < 5
    if seconds is None:
        assert progress.schedules > 0  # also what unfinished chunks had done


@pytest.mark.usefixtures("nothing_left")
def test_cancellation_ends_a_program_that_computes_for_ever(tmp_path: Path) -> None:
    source = tmp_path / "spin.c"
    source.write_text(
        "#include <pthread.h>\n"
        'static void *spin(void *arg) { for (;;) __asm__ volatile(""); return arg; }\n'
        "int main(void) { pthread_t t; pthread_create(&t, 0, spin, 0); pthread_join(t, 0); }\n"
    )
    program = tmp_path / "spin"
    subprocess.run(["gcc", "-static", "-pthread", source, "-o", program], check=True)
    with asyncio.Runner() as runner:
        _, found, took = runner.run(cancelled_after(None, target(program), Options(jobs=2)))
    assert found == [] and took < 5


@pytest.mark.usefixtures("nothing_left")
def test_consumer_that_stops_listening_ends_all_jobs(wrong: Target) -> None:
    async def first() -> Failure:
        found = explore(wrong, Options(jobs=2, schedules=100_000, failures=9))
        async for failure in found:
            await found.aclose()
            return failure
        raise AssertionError("nothing found")

    assert asyncio.run(first()).why == "SIGABRT"


@pytest.mark.usefixtures("nothing_left")
def test_job_that_is_killed_is_an_error_not_a_wait(right: Target) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()

        def kill() -> None:
            multiprocessing.active_children()[0].kill()

        loop.call_later(3, kill)
        async for _ in explore(right, Options(jobs=2, schedules=100_000)):
            pass

    with pytest.raises(MachineError, match="the executor has lost a job"):
        asyncio.run(run())


def test_jobs_and_their_machines_end_with_a_parent_that_is_killed(
    right: Target, tmp_path: Path
) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(f"""
        import asyncio, multiprocessing
        from uvm_async.race.engine import Target
        from uvm_async.race.explore import Options, explore

        def listener(progress):
            print(*[child.pid for child in multiprocessing.active_children()], flush=True)

        async def main():
            target = Target({right.args!r}, env={{}}, cwd="/")
            async for _ in explore(target, Options(jobs=2, schedules=100_000), None, listener):
                pass

        if __name__ == "__main__":
            asyncio.run(main())
        """)
    )
    before = census().stubs
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    try:
        wait_for_machines(before)
        pids = [int(pid) for pid in parent.stdout.readline().split()]
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    assert len(pids) == 2
    end = time.monotonic() + 10
    while alive := [pid for pid in pids if os.path.exists(f"/proc/{pid}/exe")]:
        assert time.monotonic() < end, f"{alive} live on"
        time.sleep(0.1)
    while census().stubs - before:
        assert time.monotonic() < end, "stubs live on"
        time.sleep(0.1)


@pytest.mark.usefixtures("nothing_left")
def test_interrupt_of_the_command_stops_all_jobs(right: Target, tmp_path: Path) -> None:
    command = [*UVM, "race", "-j", "2", "--schedules", "100000", *right.args]
    done = 0
    for patience in (0.5, 5, 20):  # until it has come to do anything
        before = census().stubs
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        wait_for_machines(before)
        time.sleep(patience)
        os.killpg(process.pid, signal.SIGINT)  # as on a terminal, the jobs get it, too
        interrupted = time.monotonic()
        stdout, stderr = process.communicate(timeout=60)
        assert time.monotonic() - interrupted < 5
        assert (process.returncode, stderr) == (0, b"")
        said = re.fullmatch(rb"stopped: no failure in (\d+) schedules .*\n", stdout)
        assert said, stdout
        if done := int(said[1]):
            break
    assert done


@pytest.mark.usefixtures("nothing_left")
def test_failure_that_is_still_being_shrunk_is_kept(
    wrong: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = Progress()

    async def cancel() -> None:
        shrinking = asyncio.Event()

        async def shrink(*args: object, **kwargs: object) -> None:
            shrinking.set()
            await asyncio.Event().wait()

        async def run() -> None:
            async for _ in explore(wrong, Options(schedules=200), progress):
                raise AssertionError("shrunk")

        monkeypatch.setattr("uvm_async.race.session.shrink", shrink)
        job = asyncio.ensure_future(run())
        await shrinking.wait()
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job

    asyncio.run(cancel())
    (failure,) = progress.unreported
    assert failure.why == "SIGABRT"
    (result,) = asyncio.run(replay(failure))
    assert result.failure == "SIGABRT"


# -- whose turn it is


class InThisThread(Executor):
    """Does each job at once."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(on_a_thread_of_its_own(lambda: fn(*args, **kwargs)))
        return future


def on_a_thread_of_its_own(call: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


class ByHand(Executor):
    """Jobs end when, and as, the test says."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.futures: list[Future[Outcome]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        assert fn is run_chunk and not kwargs
        self.chunks.append(pickle.loads(args[0]))
        self.futures.append(Future())
        return self.futures[-1]

    def end(self, number: int, *whys: str, error: Exception | None = None) -> None:
        chunk = self.chunks[number]
        failures = [Failure(chunk.target, Schedule({}), why, 0) for why in whys]
        self.futures[number].set_result(
            Outcome(chunk.schedules, [number, 1000 + number % 2], (number,), 5, 2, failures,
                    error=error)
        )  # fmt: skip


@dataclass
class Asked:
    """An exploration by hand that is under way."""

    executor: ByHand
    progress: Progress
    found: list[str]
    job: asyncio.Task[None]

    @classmethod
    def begin(cls, options: Options) -> Asked:
        executor, progress, found = ByHand(), Progress(), list[str]()

        async def run() -> None:
            async for failure in explore(target("x"), options, progress, None, executor):
                found.append(failure.why)

        return cls(executor, progress, found, asyncio.ensure_future(run()))

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    @property
    def numbers(self) -> list[int]:
        return [chunk.number for chunk in self.executor.chunks]


async def test_failures_are_handed_out_in_the_order_of_chunks_each_once() -> None:
    asked = Asked.begin(Options(jobs=3, schedules=1_000, failures=4))
    await asked.settle()
    assert asked.numbers == [0, 1, 2]
    asked.executor.end(2, "c", "a")
    await asked.settle()
    assert asked.found == [] and asked.numbers == [0, 1, 2, 3]
    assert asked.executor.chunks[3].known == ()
    asked.executor.end(0, "a")
    await asked.settle()
    assert asked.found == ["a"] and asked.executor.chunks[4].known == ("a",)
    asked.executor.end(1, "b", "a")
    await asked.settle()
    assert asked.found == ["a", "b", "c"]
    asked.executor.end(3, "d", "e")
    await asked.job
    assert asked.found == ["a", "b", "c", "d"]
    assert asked.progress.failures == 4 and asked.progress.unreported == []
    assert asked.executor.futures[4].cancelled()


async def test_nothing_is_begun_that_could_not_change_what_is_found() -> None:
    asked = Asked.begin(Options(jobs=2, schedules=1_000))
    await asked.settle()
    asked.executor.end(1, "later")
    await asked.settle()
    assert asked.numbers == [0, 1] and not asked.job.done()
    asked.executor.end(0, "sooner")
    await asked.job
    assert asked.found == ["sooner"]


async def test_budget_of_chunks_is_the_explorations() -> None:
    for budget in (1, 49, 50, 51, 777, 1_234):
        asked = Asked.begin(Options(jobs=4, schedules=budget))
        await asked.settle()
        while not asked.job.done():
            asked.executor.end(
                next(n for n, f in enumerate(asked.executor.futures) if not f.done())
            )
            await asked.settle()
        assert sum(chunk.schedules for chunk in asked.executor.chunks) == budget
        assert asked.progress.schedules == budget
        chunks = len(asked.executor.chunks)
        assert asked.numbers == list(range(chunks))
        assert asked.progress.interleavings == chunks + min(chunks, 2)
        assert asked.progress.words == chunks


async def test_error_of_a_chunk_waits_for_its_turn() -> None:
    asked = Asked.begin(Options(jobs=2, schedules=1_000, failures=2))
    await asked.settle()
    asked.executor.end(1, "b", error=MachineError("broken"))
    await asked.settle()
    assert not asked.job.done() and asked.numbers == [0, 1]
    asked.executor.end(0, "a")
    await asked.job  # two were wanted, and two were found before
    assert asked.found == ["a", "b"]

    asked = Asked.begin(Options(jobs=2, schedules=1_000, failures=3))
    await asked.settle()
    asked.executor.end(1, "b", error=MachineError("broken"))
    asked.executor.end(0, "a")
    with pytest.raises(MachineError, match="broken"):
        await asked.job
    assert asked.found == ["a", "b"]


async def test_what_was_found_is_kept_when_it_is_cancelled_before_its_turn() -> None:
    asked = Asked.begin(Options(jobs=3, schedules=1_000, failures=3))
    await asked.settle()
    asked.executor.end(2, "b", "a")
    asked.executor.end(1, "a", "c", "d")
    await asked.settle()
    asked.job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked.job
    assert asked.found == []
    assert [failure.why for failure in asked.progress.unreported] == ["a", "c", "d"]
    assert asked.executor.futures[0].cancelled()


async def test_executors_own_troubles_are_machine_errors() -> None:
    asked = Asked.begin(Options(jobs=2))
    await asked.settle()
    asked.executor.futures[0].cancel()
    with pytest.raises(MachineError, match="given up a job"):
        await asked.job
    asked = Asked.begin(Options(jobs=2))
    await asked.settle()
    asked.executor.futures[0].set_exception(OSError("no route"))
    with pytest.raises(MachineError, match="lost a job: no route"):
        await asked.job
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(MachineError, match="takes no job"):
        async for _ in explore(target("x"), Options(), executor=pool):
            pass


async def test_systematic_search_is_one_chunk_of_somebody_elses_executor() -> None:
    asked = Asked.begin(Options(jobs=3, schedules=5_000, strategy="delay"))
    await asked.settle()
    assert [chunk.schedules for chunk in asked.executor.chunks] == [5_000]
    asked.executor.futures[0].set_result(Outcome(70, finished=True, claim="all of them"))
    await asked.job
    assert asked.progress.claim == "all of them" and asked.progress.schedules == 70


def test_chunk_that_cannot_be_read_says_why() -> None:
    outcome = run_chunk(b"", "0.0.1")
    assert isinstance(outcome.error, UsageError)
    ours = version("uvm-async")
    assert str(outcome.error) == f"a job was given to uvm_async {ours}, and is of 0.0.1"
    outcome = run_chunk(b"cno_such_module\nname\n.", ours)
    assert isinstance(outcome.error, UsageError)
    assert "No module named 'no_such_module'" in str(outcome.error)
    assert outcome.schedules == 0


# -- where jobs run


@pytest.mark.usefixtures("nothing_left")
def test_jobs_may_be_threads_which_keep_to_no_cpu_afterwards(wrong: Target) -> None:
    with ThreadPoolExecutor(2) as pool:
        before = os.sched_getaffinity(0)
        (failure,) = explored(wrong, Options(jobs=2, schedules=200), executor=pool)
        assert failure.why == "SIGABRT"
        assert {frozenset(pool.submit(os.sched_getaffinity, 0).result()) for _ in range(4)} == {
            frozenset(before)
        }


def test_jobs_of_a_host_share_no_cpu_while_there_are_any() -> None:
    everywhere = os.sched_getaffinity(0)
    program = textwrap.dedent("""
        import os, sys
        from uvm_async.race.jobs import _one_cpu
        with _one_cpu():
            print(*os.sched_getaffinity(0), flush=True)
            sys.stdin.read()
        """)
    command = [sys.executable, "-P", "-c", program]
    jobs = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(len(everywhere) + 1)
    ]
    places = []
    for job in jobs:
        assert job.stdout is not None
        places.append(frozenset(map(int, job.stdout.readline().split())))
    alone = [place for place in places if place != everywhere]
    assert len(set(alone)) == len(alone) < len(places)
    assert all(len(place) == 1 for place in alone)
    for job in jobs:
        job.communicate()
    end = time.monotonic() + 60
    kept: set[int] = set()
    while len(kept) != 1:  # tests beside this one have jobs, too
        assert time.monotonic() < end
        with _one_cpu():
            kept = os.sched_getaffinity(0)
    assert os.sched_getaffinity(0) == everywhere


# -- Dask


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a scheduler with two workers, which are processes."""
    script = tmp_path_factory.mktemp("dask") / "cluster.py"
    script.write_text(
        textwrap.dedent("""
        import sys
        from distributed import LocalCluster

        if __name__ == "__main__":
            with LocalCluster(
                processes=True, n_workers=2, threads_per_worker=1, dashboard_address=None
            ) as cluster:
                print(cluster.scheduler_address, flush=True)
                sys.stdin.read()
        """)
    )
    process = subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=script.parent,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    address = process.stdout.readline().strip()
    assert address.startswith("tcp://127.0.0.1:")
    try:
        yield address
    finally:
        process.stdin.close()
        assert process.wait(60) == 0
        process.stdout.close()


def test_cluster_explores_and_what_it_finds_replays_here(
    cluster: str, wrong: Target, right: Target, tmp_path: Path
) -> None:
    script = tmp_path / "client.py"
    script.write_text(
        textwrap.dedent(f"""
        import asyncio, json, os
        from distributed import Client
        from uvm_async.race.engine import Target
        from uvm_async.race.explore import Options, Progress, explore

        async def find(executor, args, progress):
            target = Target(args, env={{}}, cwd="/")
            options = Options(jobs=2, schedules=140, seed=4)
            found = explore(target, options, progress, executor=executor)
            return [failure.to_json() async for failure in found]

        with Client({cluster!r}) as client:
            progress = Progress()
            executor = client.get_executor(pure=False)
            found = asyncio.run(find(executor, {wrong.args!r}, Progress()))
            assert asyncio.run(find(executor, {right.args!r}, progress)) == []
            affinities = client.run(lambda: sorted(os.sched_getaffinity(0))).values()
        print(json.dumps([found, progress.schedules, list(affinities)]))
        """)
    )
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100)
    assert (ran.returncode, ran.stderr) == (0, "")
    found, schedules, affinities = json.loads(ran.stdout)
    assert schedules == 140
    assert affinities == [sorted(os.sched_getaffinity(0))] * 2
    (failure,) = map(Failure.from_json, found)
    assert failure.why == "SIGABRT"
    # The same as with processes of our own.
    (here,) = explored(wrong, Options(jobs=2, schedules=140, seed=4))
    assert failure.to_json() == here.to_json()
    (result,) = asyncio.run(replay(failure))
    assert result.failure == "SIGABRT" and result.stderr == failure.stderr


def test_command_explores_on_a_cluster(cluster: str, wrong: Target, tmp_path: Path) -> None:
    command = [*UVM, "race", "--dask", cluster, "--schedules", "200", *wrong.args]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (1, "")
    again = re.search(r"again with: uvm (replay .*)$", ran.stdout, re.MULTILINE)
    assert again is not None
    shown = subprocess.run(
        [*UVM, *shlex.split(again[1])], capture_output=True, timeout=60, cwd=tmp_path
    )
    assert shown.returncode == -signal.SIGABRT

    missing = [*UVM, "race", "--dask", cluster, "/missing"]
    ran = subprocess.run(missing, capture_output=True, text=True, timeout=100, cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "uvm race: cannot run /missing: No such file or directory\n"


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nowhere"])
def test_dead_scheduler_is_told_in_a_line(address: str, right: Target, tmp_path: Path) -> None:
    command = [*UVM, "race", "--dask", address, *right.args]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert re.fullmatch(rf"uvm race: no Dask scheduler at {address}: .*\n", ran.stderr)


def test_cluster_without_the_package_is_told_in_a_line(
    right: Target, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main(["race", "--dask", "tcp://127.0.0.1:9", *right.args]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err == "uvm race: --dask needs the package distributed: pip install uvm-async[dask]\n"
