"""`uvm bench`: what a machine costs on this host, beside what it could cost at least.

Everything stands on one CPU, warm, in interleaved rounds; each figure beside its
floor from the same run.  A figure that its own repetition contradicts is not
printed.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Final

import click

from uvm_async.cli.outcome import terminable
from uvm_async.errors import UsageError

__all__ = ["bench", "command"]

WHATS: Final = ("switch", "syscall", "fork", "fault")


@click.command("bench")
@click.argument("what", type=click.Choice(WHATS))
@click.option("--tasks", type=click.IntRange(2, 4000), default=2, help="ready tasks in a ring")
@click.option(
    "--working-set",
    "working_set",
    default="0",
    metavar="SIZE",
    help="memory touched at each turn, or mapped by fault",
)
@click.option(
    "--transport",
    type=click.Choice(("futex", "signal")),
    default="futex",
    help="how stubs wait and are woken",
)
@click.option("--trap", type=click.Choice(("sud", "seccomp")), help="what turns a call into a trap")
@click.option("--policy", help="scheduling policy")
@click.option(
    "--loop", type=click.Choice(("uvloop", "asyncio")), default="uvloop", help="event loop"
)
@click.option("--cpu", type=click.IntRange(0), help="the CPU to stand on")
@click.option("--rounds", type=click.IntRange(1, 1000), default=7, help="interleaved rounds")
@click.option(
    "--scale",
    type=click.FloatRange(0, 100, min_open=True),
    default=1.0,
    help="factor on the number of samples",
)
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, writable=True),
    metavar="FILE",
    help="keep the results",
)
@click.option(
    "--compare",
    "compare_path",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="kept results to stand beside these",
)
def bench(what: str, **options: Any) -> None:
    """Measure switches, calls, forks and faults beside the host's own."""
    from uvm_async.bench import report

    options["what"] = what
    before = report.load(options["compare_path"]) if options["compare_path"] else None
    facts, results = _measure(options)
    click.echo(report.text(results))
    if before is not None:
        click.echo()
        click.echo(report.compared(before, results))
    if options["json_path"]:
        try:
            with open(options["json_path"], "w") as stream:
                stream.write(report.as_document(facts, options, results))
        except OSError as error:
            raise UsageError(f"cannot write {options['json_path']}: {error.strerror}") from None


def _measure(options: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    from uvm_async.bench.build import Programs
    from uvm_async.bench.host import facts, on_one_cpu

    try:
        with terminable(), Programs() as programs, on_one_cpu(options["cpu"]) as cpu:
            options["cpu"] = cpu
            host = facts()
            results = _run(options["loop"], _in_machine(options, programs))
    except OSError as error:
        raise UsageError(f"cannot stand on CPU {options['cpu']}: {error.strerror}") from None
    return host, results


def _run(loop: str, job: Any) -> list[Any]:
    if loop == "asyncio":
        results: list[Any] = asyncio.run(job)
        return results
    import uvloop

    results = uvloop.run(job)
    return results


async def _in_machine(options: dict[str, Any], programs: Any) -> list[Any]:
    from uvm_async.bench.figures import BENCHES, Plan
    from uvm_async.bench.host import Ticks
    from uvm_async.machine import Machine, parse_size

    working_set = parse_size(options["working_set"])
    async with Machine(
        transport=options["transport"],
        trap=options["trap"],
        policy=options["policy"] or ("rr" if options["what"] == "switch" else None),
        memory=max(512 << 20, 2 * options["tasks"] * (working_set + (256 << 10))),
    ) as machine:
        plan = Plan(
            machine,
            programs,
            Ticks(programs.floor),
            options["rounds"],
            options["scale"],
            options["tasks"],
            working_set,
            _progress,
        )
        return await BENCHES[options["what"]](plan)


def _progress(what: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r\033[K{what} ...", nl=False, err=True)


command = bench
