"""`uvm race`: look for schedules under which a program fails."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import os
import shlex
import signal
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import click

from uvm_async.cli.logs import configure_logs
from uvm_async.cli.outcome import WRONG_USE, complain
from uvm_async.errors import MachineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Executor

    from uvm_async.race.engine import Target
    from uvm_async.race.explore import Options, Progress
    from uvm_async.race.failure import Failure

__all__ = ["ENVIRONMENT", "command", "environment", "show"]

WHO = "uvm race"
FOUND: Final = 1
COULD_NOT_RUN: Final = 2
DASK_S: Final = 10
DASK_LOGS: Final = ("distributed", "distributed.client", "tornado.application")
ENVIRONMENT: Final = (
    "PATH", "HOME", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONPATH",
)  # fmt: skip
"""What a program sees of the caller's environment: a replay file keeps all of it."""


def environment(extra: tuple[str, ...]) -> dict[str, str]:
    """The program's environment; `extra` are NAME (the caller's) or NAME=VALUE."""
    result = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    for word in extra:
        name, equals, value = word.partition("=")
        if equals:
            result[name] = value
        elif name in os.environ:
            result[name] = os.environ[name]
    return result


@click.command(
    context_settings={"allow_interspersed_args": False},
    short_help="Look for schedules under which a program fails.",
)
@click.option("--strategy", metavar="S", default="mix", show_default=True,
              help="How schedules are chosen: mix, random, pct, pos, surw, rff, delay, preemption; "
              "with options: pct:depth=3; yours: package.module:Class.")  # fmt: skip
@click.option("--schedules", type=click.IntRange(1), metavar="N",
              help="Executions at most (default 1000, or no limit with --seconds).")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), metavar="T",
              help="Stop searching after so long; shrinking takes as long at most.")  # fmt: skip
@click.option("--granularity", type=click.Choice(["syscall", "conflict", "all"]),
              default="conflict", show_default=True, help="What is a choice point.")  # fmt: skip
@click.option("--seed", type=int, default=0, metavar="N", help="Seed of every choice (default 0).")
@click.option("-j", "--jobs", type=click.IntRange(1), metavar="N",
              help="Processes that explore (default 1; with --dask: all it has).")  # fmt: skip
@click.option("--dask", metavar="ADDRESS", help="Explore on a Dask cluster.")
@click.option("--status", type=click.IntRange(0, 255), default=0, metavar="N",
              help="The exit status that is right (default 0).")  # fmt: skip
@click.option("--deterministic", is_flag=True, help="Different outputs are a failure.")
@click.option("--fail-on-race", is_flag=True, help="A data race is a failure.")
@click.option("--check", metavar="MODULE:FUNCTION",
              help="A predicate of yours: of engine and result, says what is wrong.")  # fmt: skip
@click.option("--failures", type=click.IntRange(1), default=1, metavar="N",
              help="Stop after so many different ones (default 1).")  # fmt: skip
@click.option("--no-shrink", is_flag=True, help="Leave failing schedules as they are.")
@click.option("--steps", type=click.IntRange(1), default=50_000, metavar="N",
              help="Choice points after which all take turns; "
              "forty times more are a livelock.")  # fmt: skip
@click.option("--hang", type=click.FloatRange(min=0.1), default=20.0, metavar="T",
              help="Seconds without a choice point that are a hang (default 20).")  # fmt: skip
@click.option("--root", metavar="DIR", default="/", help="As for uvm run.")
@click.option("--mem", "memory", metavar="SIZE", default="128M", help="The guest's (default 128M).")
@click.option("--cpus", type=click.IntRange(1, 64), default=2, metavar="N",
              help="CPUs that the program sees (default 2).")  # fmt: skip
@click.option(
    "--only",
    multiple=True,
    metavar="FILE",
    help="Explore accesses of this program's or library's code only (a name like x.so).",
)
@click.option("--env", multiple=True, metavar="NAME[=VALUE]",
              help=f"Shown to the program besides {', '.join(ENVIRONMENT)}.")  # fmt: skip
@click.option("--input", "input_", type=click.File("rb"), metavar="FILE",
              help="The program's standard input (default: none).")  # fmt: skip
@click.option("--output", type=click.Path(file_okay=False, exists=True), default=".",
              metavar="DIR", help="Where uvm-failure-*.json go (default: here).")  # fmt: skip
@click.option("--html", is_flag=True, help="Also write uvm-failure-*.html.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a report.")
@click.option("-v", "--verbose", count=True, help="Say more; twice: everything.")
@click.argument("program", metavar="PROGRAM", required=True)
@click.argument("args", metavar="[ARGS]...", nargs=-1, type=click.UNPROCESSED)
def command(program: str, args: tuple[str, ...], verbose: int, **given: Any) -> int:
    """Run PROGRAM again and again, each time under another schedule of its threads and processes,
    until one makes it fail.

    A failure is an abort or another death by signal, a wrong exit status, a deadlock, a livelock.
    The failing schedule is made as short as it can be and saved as uvm-failure-*.json, which
    `uvm replay` shows again, the same every time.

    The status is 0 if nothing was found, 1 if something was, 2 if PROGRAM could not be run.
    """
    configure_logs(verbose)
    sys.path.insert(0, os.getcwd())  # where a strategy or predicate of the user's own may be
    try:
        return _explore(program, args, given)
    except UsageError as error:
        return complain(WHO, str(error), WRONG_USE)
    except MachineError as error:
        return complain(WHO, str(error), COULD_NOT_RUN)


def _explore(program: str, args: tuple[str, ...], given: dict[str, Any]) -> int:
    import uvloop

    from uvm_async.cli.guest import keep_to_one_cpu
    from uvm_async.race.engine import Limits, Target
    from uvm_async.race.explore import Options
    from uvm_async.race.session import Checks, load_predicate

    target = Target(
        (program, *args), environment(given["env"]), os.getcwd(),
        given["input_"].read() if given["input_"] else b"",
        given["root"], given["memory"], given["cpus"], 0, given["only"],
    )  # fmt: skip
    options = Options(
        strategy=given["strategy"], schedules=given["schedules"], seconds=given["seconds"],
        granularity=given["granularity"], seed=given["seed"], jobs=given["jobs"] or 1,
        limits=Limits(steps=given["steps"], host_s=given["hang"]),
        checks=Checks(
            given["status"], given["deterministic"],
            load_predicate(given["check"]) if given["check"] else None, given["fail_on_race"],
        ),
        failures=given["failures"], shrink=not given["no_shrink"], share_loop=False,
    )  # fmt: skip
    if options.jobs == 1 and not given["dask"]:
        keep_to_one_cpu()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(target, options, given))


async def _run(target: Target, options: Options, given: dict[str, Any]) -> int:
    from uvm_async.race.explore import Progress, explore

    progress = Progress()
    found: list[Failure] = []
    interrupted = False
    loop = asyncio.get_running_loop()
    job = asyncio.current_task()
    assert job is not None

    def on_interrupt() -> None:
        nonlocal interrupted
        interrupted = True
        job.cancel()

    loop.add_signal_handler(signal.SIGINT, on_interrupt)
    with (
        _cluster(given["dask"]) as (executor, width),
        _bar(options, quiet=given["as_json"]) as listener,
    ):
        if given["jobs"] is None:
            options = replace(options, jobs=width)
        try:
            async for failure in explore(target, options, progress, listener, executor):
                found.append(failure)
                failure.save(given["output"])
        except asyncio.CancelledError:
            if not interrupted:
                raise
            job.uncancel()
            for failure in progress.unreported:
                found.append(failure)
                failure.save(given["output"])
        finally:
            loop.remove_signal_handler(signal.SIGINT)
    for failure in found:
        try:
            await show(failure, html=given["html"], quiet=given["as_json"])
        except (UsageError, MachineError) as error:  # it is saved, and told below, all the same
            failure.detail = failure.detail or f"it could not be shown again: {error}"
    if given["as_json"]:
        print(json.dumps(_summary(progress, found, interrupted)))
    else:
        _say(progress, found, interrupted)
    return FOUND if found else 0


@contextlib.contextmanager
def _cluster(address: str | None) -> Iterator[tuple[Executor | None, int]]:
    """A Dask cluster, and how many jobs it takes at a time; without an address nothing, and one."""
    if not address:
        yield None, 1
        return
    try:
        client_of: Any = importlib.import_module("distributed").Client
    except ImportError:
        raise UsageError(
            "--dask needs the package distributed: pip install uvm-async[dask]"
        ) from None
    try:
        client = client_of(address, timeout=DASK_S)
    except (OSError, ValueError, TimeoutError) as error:
        raise UsageError(f"no Dask scheduler at {address}: {error}") from None
    with client:
        width = sum(client.nthreads().values())
        if not width:
            raise UsageError(f"the Dask cluster at {address} has no workers")
        try:
            yield client.get_executor(pure=False), width
        finally:
            for name in DASK_LOGS:  # what is still on its way is not waited for
                logging.getLogger(name).setLevel(logging.CRITICAL)


@contextlib.contextmanager
def _bar(options: Options, *, quiet: bool) -> Any:
    """A live line while it goes on, on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    total: float | None = options.schedules or (None if options.seconds else options.budget)
    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[what]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Bar(*columns, console=console, transient=True) as bar:
        line = bar.add_task("exploring", total=options.seconds or total, what="")

        def listener(progress: Progress) -> None:
            done = progress.seconds if options.seconds else float(progress.schedules)
            what = (
                f"{progress.schedules} schedules, {progress.rate:.0f}/s, "
                f"{progress.interleavings} interleavings, {progress.words} shared words"
            )
            bar.update(
                line, completed=done, what=what,
                description="shrinking" if progress.shrinking else "exploring",
            )  # fmt: skip

        yield listener


async def show(failure: Failure, *, html: bool, quiet: bool) -> None:
    """Replay once more and report what happens."""
    from uvm_async.race.explore import traced

    trace = await traced(failure)
    trace.replay = shlex.join(["uvm", "replay", os.path.normpath(failure.path)])
    if not quiet:
        from uvm_async.race.report import print_report

        print_report(trace)
    if html:
        from uvm_async.race.html import render_html

        path = failure.path.removesuffix(".json") + ".html"
        with open(path, "w", encoding="utf-8") as file:
            file.write(render_html(trace))
        if not quiet:
            print(f"picture: {path}")


def _summary(progress: Progress, found: list[Failure], interrupted: bool) -> dict[str, Any]:
    return {
        "schedules": progress.schedules,
        "seconds": round(progress.seconds, 3),
        "interleavings": progress.interleavings,
        "shared_words": progress.words,
        "choice_points": progress.steps,
        "tasks": progress.tasks,
        "claim": progress.claim,
        "interrupted": interrupted,
        "failures": [
            {
                "failure": f.why, "detail": f.detail, "file": f.path, "execution": f.execution,
                "preemptions": f.preemptions, "switches": len(f.schedule.switches),
            }
            for f in found
        ],
    }  # fmt: skip


def _say(progress: Progress, found: list[Failure], interrupted: bool) -> None:
    effort = (
        f"{progress.schedules} schedules in {progress.seconds:.1f} s ({progress.rate:.0f}/s), "
        f"{progress.interleavings} different interleavings, {progress.words} shared words"
    )
    stopped = "stopped: " if interrupted else ""
    if not found:
        print(f"{stopped}no failure in {effort}")
        if progress.claim:
            print(progress.claim)
    for failure in found:
        if failure.detail:
            print(f"{failure.why}: {failure.detail}")
        switches = len(failure.schedule.switches)
        print(
            f"{failure.why}: schedule {failure.execution} of {effort}; "
            f"shortened to {switches} switch{'es' if switches != 1 else ''}; "
            f"again with: uvm replay {shlex.quote(os.path.normpath(failure.path))}"
        )
    sys.stdout.flush()
