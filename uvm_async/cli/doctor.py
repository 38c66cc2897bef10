"""`uvm doctor`: what this host offers, what does not work for lack of it, and a self-test.

Status 0 if machines can run here, 1 if not.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import asdict, dataclass
from typing import Final

import click

from uvm_async.cli.host import Finding, examine

__all__ = ["command"]

TRAPS: Final = ("sud", "seccomp")
TRANSPORTS: Final = ("futex", "signal")
PATIENCE_S: Final = 30
WORD: Final = "alive"


@dataclass(frozen=True, slots=True)
class Trial:
    """One machine that was booted."""

    trap: str
    transport: str
    ok: bool
    detail: str
    """How long it took, or what went wrong."""


def _program() -> list[str]:
    """Something small that every host has."""
    for echo in ("/bin/echo", "/usr/bin/echo"):
        if os.access(echo, os.X_OK):
            return [echo, WORD]
    return [sys.executable, "-S", "-c", f"print({WORD!r})"]


async def _try(trap: str, transport: str) -> Trial:
    """Boot, run, take down."""
    from uvm_async.errors import MachineError, UsageError
    from uvm_async.machine import Machine

    loop = asyncio.get_running_loop()
    begin = loop.time()
    try:
        async with Machine(trap=trap, transport=transport, memory="64M") as machine:
            booted = loop.time()
            result = await machine.run(_program(), timeout=PATIENCE_S)
            ran = loop.time()
    except (MachineError, UsageError, OSError) as error:
        return Trial(trap, transport, False, str(error))
    except TimeoutError:
        return Trial(trap, transport, False, f"no answer within {PATIENCE_S} seconds")
    except Exception as error:
        return Trial(trap, transport, False, f"a bug: {error!r}")
    if result.returncode != 0 or result.stdout.strip() != WORD.encode():
        return Trial(
            trap, transport, False,
            f"status {result.returncode}, output {result.stdout!r} {result.stderr!r}",
        )  # fmt: skip
    times = f"booted in {(booted - begin) * 1000:.0f} ms, ran in {(ran - booted) * 1000:.0f} ms"
    return Trial(trap, transport, True, times)


async def _try_all() -> list[Trial]:
    return [await _try(trap, transport) for trap in TRAPS for transport in TRANSPORTS]


@click.command(short_help="What this host offers, and whether machines can run here.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(as_json: bool) -> int:
    """Say what this host offers and what will not work for lack of it, and boot a machine in each
    way. The status is 0 if machines can run, 1 if not."""
    findings = examine()
    trials = [] if any(f.needed and not f.ok for f in findings) else asyncio.run(_try_all())
    able = any(trial.ok for trial in trials)
    if as_json:
        answer = {
            "able": able,
            "findings": [asdict(finding) for finding in findings],
            "trials": [asdict(trial) for trial in trials],
        }
        click.echo(json.dumps(answer, indent=2))
    else:
        _print(findings, trials, able)
    return 0 if able else 1


def _print(findings: list[Finding], trials: list[Trial], able: bool) -> None:
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        lacking = not finding.ok or finding.value.startswith("no")
        mark = "FAIL" if finding.needed and not finding.ok else "-" if lacking else "ok"
        click.echo(f"{mark:4} {finding.name:{width}}  {finding.value}")
        if finding.without and lacking:
            click.echo(f"{'':5}{'':{width}}  without it: {finding.without}")
    for trial in trials:
        name = f"machine: --trap {trial.trap} --transport {trial.transport}"
        click.echo(f"{'ok' if trial.ok else 'FAIL':4} {name:{width}}  {trial.detail}")
    click.echo(f"Machines {'can' if able else 'cannot'} run here.")
