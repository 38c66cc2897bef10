"""`uvm replay`: a failure that `uvm race` has found, again."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
from typing import Any, Final

import click

from uvm_async.cli.logs import configure_logs
from uvm_async.cli.outcome import WRONG_USE, Died, complain
from uvm_async.errors import MachineError, UsageError

__all__ = ["command"]

WHO = "uvm replay"
COULD_NOT_RUN: Final = 2


@click.command(short_help="Show again how a program failed.")
@click.option("--core", type=click.Path(dir_okay=False), metavar="FILE",
              help="Leave a core of all threads at the failing step, for gdb.")  # fmt: skip
@click.option("--html", type=click.Path(dir_okay=False), metavar="FILE", help="Draw it.")
@click.option("--report", is_flag=True, help="Print what each thread did, with source lines.")
@click.option("--times", type=click.IntRange(1), default=1, metavar="N",
              help="So often; each must be the same.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("-v", "--verbose", count=True, help="Say more; twice: everything.")
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False))
def command(
    file: str, core: str | None, html: str | None, report: bool, times: int, as_json: bool,
    verbose: int,
) -> int:  # fmt: skip
    """Run the schedule in FILE: the program's output is ours, and so is its status, or the signal
    that it dies of; 1 where its status would be 0 (a deadlock, a wrong output)."""
    configure_logs(verbose)
    sys.path.insert(0, os.getcwd())  # where a strategy or predicate of the user's own may be
    try:
        status = _replay(file, core, html, report, times, as_json)
    except UsageError as error:
        return complain(WHO, str(error), WRONG_USE)
    except MachineError as error:
        return complain(WHO, str(error), COULD_NOT_RUN)
    if status & 0x7F:
        raise Died(status & 0x7F)
    return status >> 8 & 0xFF or 1


def _replay(
    file: str, core: str | None, html: str | None, report: bool, times: int, as_json: bool
) -> int:
    import uvloop

    from uvm_async.race.explore import replay, traced
    from uvm_async.race.failure import Failure

    failure = Failure.load(file)

    async def run() -> int:
        results = await replay(failure, times=times, core=core)
        for result in results:
            if not failure.is_shown_by(result):
                raise MachineError(f"failed differently: {result.failure or 'not at all'}")
            result.failure = failure.why
        last = results[-1]
        if as_json:
            summary: dict[str, Any] = {
                "failure": last.failure, "status": last.status, "steps": last.steps,
                "times": times, "preemptions": last.preemptions,
                "stdout": last.stdout.decode(errors="replace"),
                "stderr": last.stderr.decode(errors="replace"),
            }  # fmt: skip
            print(json.dumps(summary))
        else:
            sys.stdout.buffer.write(last.stdout)
            sys.stdout.flush()
            sys.stderr.buffer.write(last.stderr)
            sys.stderr.flush()
            print(f"{WHO}: {last.failure}", file=sys.stderr)
        if report or html:
            trace = await traced(failure)
            trace.replay = shlex.join(["uvm", "replay", os.path.normpath(file)])
            if report:
                from uvm_async.race.report import print_report

                print_report(trace)
            if html:
                from uvm_async.race.html import render_html

                with open(html, "w", encoding="utf-8") as picture:
                    picture.write(render_html(trace))
        return last.status

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())
