"""What the tests of race exploration share: their guests, and runs written down for comparison."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from support.guests import Builder, Guest
from uvm_async.race.engine import Target
from uvm_async.race.model import Result, Schedule
from uvm_async.race.session import Session

__all__ = ["ENVIRONMENT", "GUESTS", "Ran", "build_guest", "executions", "ran", "target"]

GUESTS = Path(__file__).resolve().parent / "guests"
ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


def build_guest(guests: Builder, name: str, variant: str = "static") -> Path:
    """The executable of tests/race/guests/NAME.c."""
    return guests.build(Guest.read(GUESTS / f"{name}.c"), variant)


def target(program: Path, *arguments: str, cwd: Path | str = "/") -> Target:
    """`program` in `cwd`, in an environment that is the same everywhere."""
    return Target((str(program), *arguments), ENVIRONMENT, str(cwd))


@dataclass(frozen=True, slots=True)
class Ran:
    """All that two executions of one schedule have in common."""

    failure: str
    status: int
    steps: int
    trace: str
    """Hash of the machine's traps."""
    accesses: int
    """Hash of all accesses, in order."""
    stdout: bytes
    stderr: bytes
    schedule: Schedule


def ran(session: Session, result: Result) -> Ran:
    """What has just been executed."""
    machine = session.engine.machine
    return Ran(
        result.failure, result.status, result.steps, machine.trace_hash,
        int(machine.area.race.hash), result.stdout, result.stderr, session.schedule_of(result),
    )  # fmt: skip


async def executions(session: Session, n: int) -> AsyncIterator[Ran]:
    """The next `n` of an exploration."""
    for _ in range(n):
        yield ran(session, await session.next())
