"""`uvm`: the group of verbs, one file each, imported when it is the one asked for.

Wrong use is one line on standard error that says what to do, and status 2.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any, Final

import click

from uvm_async.cli.outcome import FAILED, WRONG_USE, Died, complain, die_by
from uvm_async.errors import MachineError, UsageError

__all__ = ["cli", "main"]

VERBS: Final = {
    "bench": "Measure switches, calls, forks and faults beside the host's own.",
    "calls": "Which system calls there are, and what is missing of each.",
    "demo": "A short tour: processes, pipes, preemption, threads, a disk.",
    "doctor": "What this host offers, and whether machines can run here.",
    "race": "Look for schedules under which a program fails.",
    "replay": "Show again how a program failed.",
    "run": "Run a Linux program in a machine.",
}
"""Name (of the module in uvm_async/cli too) and what `uvm --help` says of it."""


class Verbs(click.Group):
    """Subcommands by name, each imported only to be run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"uvm_async.cli.{cmd_name}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(VERBS.items()))


@click.group(
    cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=False
)
@click.version_option(package_name="uvm_async", prog_name="uvm")
def cli() -> None:
    """Run unmodified Linux programs on a kernel that is itself ordinary processes."""


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the `uvm` command; answers the exit status.

    Does not return where a program's death by a signal is to be ours.
    """
    _open_standard_streams()
    try:
        return _outcome(lambda: cli.main(arguments, prog_name="uvm", standalone_mode=False))
    finally:
        _flush()


def _outcome(run: Callable[[], Any]) -> int:
    try:
        result = run()
    except Died as death:
        return die_by(death.signo)
    except click.UsageError as error:
        return complain(_name(error), f"{_one_line(error)} (see {_help(error)})", WRONG_USE)
    except click.ClickException as error:
        return complain("uvm", _one_line(error), WRONG_USE)
    except UsageError as error:
        return complain("uvm", str(error), WRONG_USE)
    except MachineError as error:
        return complain("uvm", str(error), FAILED)
    except (click.Abort, KeyboardInterrupt):
        return die_by(2)
    except BrokenPipeError:
        return die_by(13)
    return result if isinstance(result, int) else 0


def _one_line(error: click.ClickException) -> str:
    text = " ".join(error.format_message().split())
    return (text[:1].lower() + text[1:]).rstrip(".")


def _name(error: click.UsageError) -> str:
    return error.ctx.command_path if error.ctx is not None else "uvm"


def _help(error: click.UsageError) -> str:
    return f"{_name(error)} --help"


def _open_standard_streams() -> None:
    """Those that were closed are /dev/null: nothing else may come to stand in their place."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except (OSError, ValueError):
            # Nobody reads any more; keep the interpreter from saying so at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
