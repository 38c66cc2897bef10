"""Running a command on the host again and again, each time with a limit: those that hang are
counted apart, and nothing of them is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from racing.examples import ENVIRONMENT

__all__ = ["Run", "again_and_again", "once"]

GRACE_S = 2.0
"""Between a request to end, at which a tool may say what it has found, and the end."""
SAID = 4_000


@dataclass(frozen=True, slots=True)
class Run:
    """How it ended."""

    status: int = 0
    """As subprocess has it: -N for signal N."""
    hung: bool = False
    said: str = ""
    """The beginning of standard error, if it was asked for."""

    @property
    def failed(self) -> bool:
        """By itself: by a signal, or with a status that is not 0."""
        return not self.hung and self.status != 0


def once(
    command: tuple[str, ...],
    *,
    timeout_s: float,
    extra: dict[str, str] | None = None,
    said: Path | None = None,
) -> Run:
    """Run it in a session of its own. What it writes goes nowhere, but for standard error, which
    goes to `said`: never to a pipe, which a child that it leaves behind would hold open."""
    with contextlib.ExitStack() as stack:
        error = stack.enter_context(said.open("wb")) if said else subprocess.DEVNULL
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=error,
            env={**ENVIRONMENT, **(extra or {})}, start_new_session=True,
        )  # fmt: skip
        hung = False
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            hung = True
            _signal(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_S)
        finally:
            # Its children too: of a program that forks while it is locked one sleeps for ever.
            _signal(process.pid, signal.SIGKILL)
            process.wait()
    words = said.read_text(errors="replace")[:SAID] if said else ""
    return Run(process.returncode, hung, words)


def _signal(session: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(session, number)


async def again_and_again(run: Callable[[], Run], *, runs: int, seconds: float) -> dict[str, Any]:
    """At most `runs` runs, none begun after `seconds`, in figures: how many failed, how many hung,
    and which was the first that did either. May be cancelled between two."""
    start = time.monotonic()
    done: list[Run] = []
    while len(done) < runs and time.monotonic() - start < seconds:
        done.append(run())
        await asyncio.sleep(0)
    first = next((n for n, each in enumerate(done, 1) if each.hung or each.failed), None)
    return {
        "runs": len(done),
        "failures": sum(each.failed for each in done),
        "hangs": sum(each.hung for each in done),
        "first": first,
        "s": round(time.monotonic() - start, 2),
    }
