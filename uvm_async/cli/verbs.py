"""The group of verbs, one file each, imported when it is the one asked for.

Wrong use is one line on standard error that says what to do, and status 2.
"""

from __future__ import annotations

import importlib
import signal
from typing import Final

import click

from uvm_async.cli.outcome import FAILED, WRONG_USE, Died, complain, die_by
from uvm_async.errors import MachineError, UsageError

__all__ = ["cli", "outcome"]

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

PLAIN_WORDS: Final = (
    ("a valid integer range", "a whole number"),
    ("a valid integer", "a whole number"),
    ("a valid float range", "a number"),
)
"""What click says, and what is meant."""


class Verbs(click.Group):
    """Subcommands by name, each imported only to be run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        if cmd_name != "run" and signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # there is something to undo
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


def outcome(arguments: list[str] | None) -> int:
    """Run the verb; answers the exit status. Does not return where a death by signal is ours."""
    try:
        result = cli.main(arguments, prog_name="uvm", standalone_mode=False)
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
    for clicks, ours in PLAIN_WORDS:
        text = text.replace(clicks, ours)
    return (text[:1].lower() + text[1:]).rstrip(".")


def _name(error: click.UsageError) -> str:
    return error.ctx.command_path if error.ctx is not None else "uvm"


def _help(error: click.UsageError) -> str:
    return f"{_name(error)} --help"
