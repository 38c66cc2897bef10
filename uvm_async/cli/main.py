"""`uvm`, as it is started.

Until there is something to undo, SIGINT simply ends the command: that is settled
before anything is imported that takes time, so no traceback tells of a Ctrl-C (but
for those few milliseconds in which the interpreter itself starts).
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found,unused-ignore] # no enums: it is quick
import os
import sys

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the `uvm` command; answers the exit status.

    Does not return where a program's death by a signal is to be ours.
    """
    interrupted = signal.getsignal(signal.SIGINT)
    _let_sigint_kill()
    try:
        from uvm_async.cli.verbs import outcome

        _open_standard_streams()
        return outcome(arguments)
    finally:
        _flush()
        if arguments is None:
            _let_sigint_kill()
        else:  # somebody's function call, not a command of its own
            signal.signal(signal.SIGINT, interrupted)


def _let_sigint_kill() -> None:
    """Unless our caller has us ignore it."""
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


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
