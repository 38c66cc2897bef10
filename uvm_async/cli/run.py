"""`uvm run`: a program in a machine, as if it had been started without one.

Streams and signals pass through, its status is ours, its death by a signal ours
too.  On a terminal the guest has the machine's console (cli/terminal.py).
"""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING, Any

import click

from uvm_async.cli.logs import configure_logs
from uvm_async.cli.outcome import CANNOT_EXECUTE, FAILED, NOT_FOUND, WRONG_USE, Died, complain
from uvm_async.errors import MachineError, UsageError

if TYPE_CHECKING:
    from uvm_async.kernel.observer import Observer

__all__ = ["command", "machine_options", "run_job"]

WHO = "uvm run"
STDERR = 2


class Bind(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """HOST:GUEST[:rw]."""

    name = "HOST:GUEST[:rw]"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str, bool]:
        """(host directory, guest directory, writable)."""
        if isinstance(value, tuple):
            return value
        host, _, rest = str(value).partition(":")
        guest, _, mode = rest.partition(":")
        if not host or not guest.startswith("/") or mode not in ("", "ro", "rw"):
            self.fail(f"{value!r} is not HOST:GUEST or HOST:GUEST:rw, GUEST from /", param, ctx)
        if not os.path.isdir(host):
            self.fail(f"{host!r} is no directory of the host", param, ctx)
        return os.path.abspath(host), os.path.normpath(guest), mode == "rw"


def machine_options(function: Any) -> Any:
    """The options of every verb that boots a machine, named as Machine names them."""
    for option in reversed(
        (
            click.option("--root", metavar="DIR", default="/",
                         help="Host directory that the guest sees as /; it is never written."),
            click.option("--bind", "binds", type=Bind(), multiple=True,
                         help="Show a host directory to the guest; read-only without :rw."),
            click.option("--disk", "disks", metavar="FILE", multiple=True,
                         type=click.Path(exists=True, dir_okay=False),
                         help="A disk image: /dev/vda, the next /dev/vdb ..."),
            click.option("--cpus", type=click.IntRange(1, 64), default=1, metavar="N",
                         help="Virtual CPUs (default 1)."),
            click.option("--mem", "memory", metavar="SIZE", default="256M",
                         help="Memory of the machine (default 256M)."),
            click.option("--clock", type=click.Choice(["real", "virtual"]), default="real",
                         help="Virtual: the run is a function of its inputs and the seed."),
            click.option("--seed", type=int, metavar="N", help="Seed of every choice."),
            click.option("--policy", metavar="P",
                         help="Who runs next: fair, fifo, rr, random ... (default fair)."),
            click.option("--transport", type=click.Choice(["futex", "signal"]), default="futex",
                         help="How kernel and guest switch (default futex)."),
            click.option("--trap", type=click.Choice(["sud", "seccomp"]),
                         help="What makes a system call a trap (default: sud where there is)."),
        )
    ):  # fmt: skip
        function = option(function)
    return function


@click.command(
    context_settings={"allow_interspersed_args": False},
    short_help="Run a Linux program in a machine.",
)
@machine_options
@click.option("--strace", is_flag=True, help="Print decoded system calls on standard error.")
@click.option("--trace", type=click.Path(dir_okay=False), metavar="FILE",
              help="Write a timeline that Perfetto opens.")  # fmt: skip
@click.option("-v", "--verbose", count=True, help="Say more; twice: everything.")
@click.argument("program", metavar="PROGRAM", required=True)
@click.argument("args", metavar="[ARGS]...", nargs=-1, type=click.UNPROCESSED)
def command(
    program: str,
    args: tuple[str, ...],
    strace: bool,
    trace: str | None,
    verbose: int,
    **options: Any,
) -> int:
    """Run PROGRAM, found along PATH, as root of a machine, in the current directory.

    Without --root the machine's root is the host's own, which stays as it is: what the guest
    changes is gone when it ends.

    The status is PROGRAM's; 125 if the machine failed, 126 if PROGRAM cannot be executed, 127 if
    there is none, 2 for wrong use. If a signal ends PROGRAM, it ends uvm.
    """
    configure_logs(verbose + strace)
    observers: list[Observer] = []
    if strace:
        from uvm_async.trace.strace import Strace

        observers.append(Strace(STDERR))
    if trace is not None:
        from uvm_async.trace.timeline import Timeline

        try:
            observers.append(Timeline(open(trace, "w", encoding="utf-8")))  # noqa: SIM115
        except OSError as error:
            return complain(WHO, f"--trace {trace}: {error.strerror}", WRONG_USE)
    try:
        status = run_job([program, *args], observers, options)
    except UsageError as error:
        return complain(WHO, str(error), WRONG_USE)
    except MachineError as error:
        return complain(WHO, str(error), FAILED)
    except Died:
        raise
    except Exception as error:
        if verbose:
            traceback.print_exc()
        return complain(WHO, f"the machine failed: {error!r} (more with -v)", FAILED)
    if status < 0:
        raise Died(-status)
    return status


def run_job(argv: list[str], observers: list[Observer], options: dict[str, Any]) -> int:
    """Boot, run, take down; the program's return code, negative for a death by signal."""
    import asyncio

    import uvloop

    from uvm_async.cli.guest import in_machine
    from uvm_async.machine import check_limits

    check_limits()  # before the loop fails for lack of descriptors
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(in_machine(argv, observers, options))
        except OSError as error:
            status = NOT_FOUND if isinstance(error, FileNotFoundError) else CANNOT_EXECUTE
            if error.filename is None:
                raise
            return complain(WHO, f"{error.filename}: {error.strerror}", status)
