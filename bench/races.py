"""Figures of race exploration, kept as JSON.

    python bench/races.py [--part PART]... [--json FILE [--resume]] [--programs NAME,...] ...

access   a watched access without a switch, beside a bare fault (SIGSEGV in and out, C)
rate     executions a second on one core, small static pthread programs, whole kernel
finding  schedules and seconds to the first failure, for each example program, strategy and seed
peers    what finds them on the host: plain stress, rr --chaos, Helgrind, ThreadSanitizer
twins    each right example, and the larger ones, under 10,000 schedules, on all CPUs
repeats  each wrong example: 100 replays of its failure, and 100 sessions with one seed

Without --part: access and rate; the others take hours.  They go over programs, write FILE after
each figure, and with --resume go on where it ends.  Two that share FILE (each begun with --resume,
each with some of the programs, under `taskset`) measure twice as fast.

The status is 1 if a right twin fails, if a failure does not repeat, or if something could not be
measured; 2 if the options are wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path

import uvloop

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from racing import cost  # noqa: E402
from racing.examples import chosen  # noqa: E402
from racing.finding import STRATEGIES, finding  # noqa: E402
from racing.ledger import Ledger, Table, laid_out  # noqa: E402
from racing.peers import peers  # noqa: E402
from racing.repeats import repeats  # noqa: E402
from racing.twins import twins  # noqa: E402

from uvm_async.errors import UsageError  # noqa: E402
from uvm_async.race.strategies import make_strategy  # noqa: E402

ALONE = {"access": cost.access, "rate": cost.rate}
"""Parts without programs."""
TABLES = ("finding", "peers", "twins", "repeats")


SECONDS = 60.0
"""Of one search; of one tool and program."""


def table(part: str, options: argparse.Namespace, directory: Path) -> Table:
    """A part that goes over programs, within the bounds that were given, or its own."""
    schedules, seconds, runs = options.schedules, options.seconds, options.runs
    if part == "finding":
        return finding(
            directory, tuple(options.strategies), seeds=options.seeds,
            schedules=schedules or 1_000, seconds=seconds or SECONDS,
        )  # fmt: skip
    if part == "peers":
        return peers(directory, runs=runs or 20, seconds=seconds or SECONDS)
    if part == "twins":
        jobs = options.jobs or len(os.sched_getaffinity(0))
        return twins(directory, schedules=schedules or 10_000, seconds=seconds, jobs=jobs)
    return repeats(directory, runs=runs or 100)


async def run(options: argparse.Namespace, directory: Path) -> bool:
    """All parts asked for; is all of it good?"""
    for strategy in options.strategies:
        make_strategy(strategy, 0)  # a bad name is told at once
    ledger = Ledger(options.json, resume=options.resume)
    good = True
    for part in options.part:
        if part in TABLES:
            programs = chosen(options.programs, larger=part == "twins")
            good &= await ledger.fill(part, table(part, options, directory), programs)
        elif not ledger.has(part):
            ledger.keep(part, await ALONE[part](directory, options.rounds))
        print(part, laid_out(ledger.content[part]), flush=True)
    return good


def names(text: str) -> list[str]:
    """ "a,b" """
    return [name for name in text.split(",") if name]


def arguments() -> argparse.Namespace:
    """Of the command."""
    parser = argparse.ArgumentParser(description="Figures of race exploration.")
    parser.add_argument("--part", action="append", choices=[*ALONE, *TABLES])
    parser.add_argument("--json", type=Path, metavar="FILE", help="written after each figure")
    parser.add_argument("--resume", action="store_true", help="go on with what is in FILE")
    parser.add_argument("--rounds", type=int, default=9, help="of access and rate")
    parser.add_argument("--programs", type=names, default=[], metavar="NAME,...")
    parser.add_argument(
        "--strategies", type=names, default=list(STRATEGIES), metavar="NAME,...", help="of finding"
    )
    parser.add_argument("--seeds", type=int, default=20, help="of finding: searches with each")
    parser.add_argument("--schedules", type=int, help="of finding (1,000) and twins (10,000)")
    parser.add_argument(
        "--seconds", type=float,
        help="at most: of finding a search (60), of peers a tool and twin (60), of twins a program",
    )  # fmt: skip
    parser.add_argument("--runs", type=int, help="of peers (20) and repeats (100)")
    parser.add_argument("--jobs", type=int, help="of twins: processes (one for each CPU)")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR",
        help="build programs in a new folder there, and leave it with the replay files",
    )  # fmt: skip
    options = parser.parse_args()
    options.part = options.part or list(ALONE)
    if options.resume and options.json is None:
        parser.error("--resume needs --json")
    return options


def main() -> int:
    """See the module's docstring."""
    options = arguments()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            if options.keep is not None:
                directory = tempfile.mkdtemp(prefix="races-", dir=options.keep)
                return 0 if runner.run(run(options, Path(directory))) else 1
            with tempfile.TemporaryDirectory(prefix="races-") as directory:
                return 0 if runner.run(run(options, Path(directory))) else 1
    except KeyboardInterrupt:
        return 130  # what has been measured is kept
    except UsageError as error:
        print(f"races.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
