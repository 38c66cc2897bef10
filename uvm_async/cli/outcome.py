"""How the command ends: statuses as env(1) has them, and deaths by signals."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Final

__all__ = ["CANNOT_EXECUTE", "FAILED", "NOT_FOUND", "WRONG_USE", "Died", "complain", "die_by",
           "terminable"]  # fmt: skip

WRONG_USE: Final = 2
FAILED: Final = 125
"""The machine itself failed."""
CANNOT_EXECUTE: Final = 126
NOT_FOUND: Final = 127
PR_SET_DUMPABLE: Final = 4


class Died(Exception):
    """The program died by a signal: so shall we, once everything is put away."""

    def __init__(self, signo: int) -> None:
        super().__init__(signo)
        self.signo = signo


class Terminated(KeyboardInterrupt):
    """A signal to end came: event loops let it through, as they do Ctrl-C."""

    def __init__(self, signo: int) -> None:
        super().__init__(signo)
        self.signo = signo


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM and SIGHUP have what is under way put away, and end us then. Raises Died."""

    def unwind(signo: int, _: FrameType | None) -> None:
        for other in ours:
            signal.signal(other, signal.SIG_IGN)  # once is enough
        raise Terminated(signo)

    ours = [s for s in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) is signal.SIG_DFL]
    for signo in ours:
        signal.signal(signo, unwind)
    try:
        yield
    except Terminated as end:
        raise Died(end.signo) from None
    finally:
        for signo in ours:
            signal.signal(signo, signal.SIG_DFL)


def complain(who: str, what: str, status: int) -> int:
    """One line on standard error; answers `status`."""
    with contextlib.suppress(OSError, ValueError):
        print(f"{who}: {' '.join(what.split())}", file=sys.stderr, flush=True)
    return status


def die_by(signo: int) -> int:
    """End this process by `signo`, as if it had come from outside, leaving no core.

    Returns (the shell's status for it) only if the host does not let us.
    """
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    # The guest has dumped core, or not; this process has nothing of interest in it.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    with contextlib.suppress(OSError, ValueError):
        signal.signal(signo, signal.SIG_DFL)
    with contextlib.suppress(OSError, ValueError):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signo})
    os.kill(os.getpid(), signo)
    return 128 + signo
