"""The command line's choice of machine, as the keyword arguments of `Machine`."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import pytest

__all__ = ["CLOCKS", "LOOPS", "TRANSPORTS", "TRAPS", "MachineOptions", "add_options", "in_share"]

TRAPS = ("sud", "seccomp")
TRANSPORTS = ("futex", "signal")
CLOCKS = ("real", "virtual")
LOOPS = ("uvloop", "asyncio")


@dataclass(frozen=True, slots=True)
class MachineOptions:
    """How every machine of this run is built, unless a test asks otherwise."""

    trap: str = "sud"
    transport: str = "futex"
    clock: str = "real"
    loop: str = "uvloop"
    freeze_every: int | None = None
    """Freeze and thaw the machine every so many traps; needs the virtual clock."""
    seed: int = 1

    @classmethod
    def of(cls, config: pytest.Config) -> MachineOptions:
        """The options of the session; a combination that cannot be is a usage error."""
        freeze_every = config.getoption("uvm_freeze_every")
        seed = config.getoption("uvm_seed", None)
        clock = config.getoption("uvm_clock") or ("virtual" if freeze_every else "real")
        if freeze_every is not None and freeze_every < 1:
            raise pytest.UsageError("--uvm-freeze-every wants a number of traps above 0")
        if freeze_every and clock != "virtual":
            raise pytest.UsageError("--uvm-freeze-every needs --uvm-clock virtual")
        return cls(
            trap=config.getoption("uvm_trap"),
            transport=config.getoption("uvm_transport"),
            clock=clock,
            loop=config.getoption("uvm_loop"),
            freeze_every=freeze_every,
            seed=1 if seed is None else seed,
        )

    def kwargs(self, **changes: Any) -> dict[str, Any]:
        """Keyword arguments for `Machine`; `changes` win."""
        arguments: dict[str, Any] = {
            "root": "/",
            "cpus": 2,
            "memory": "256M",
            "clock": self.clock,
            "seed": self.seed if self.clock == "virtual" else None,
            "transport": self.transport,
            "trap": self.trap,
        }
        if self.freeze_every is not None:
            arguments["freeze_every"] = self.freeze_every
        arguments.update(changes)
        return arguments

    def __str__(self) -> str:
        freeze = f" freeze-every={self.freeze_every}" if self.freeze_every else ""
        machine = f"trap={self.trap} transport={self.transport} clock={self.clock}"
        return f"{machine} loop={self.loop}{freeze}"


def add_options(parser: pytest.Parser) -> None:
    """Register the `--uvm-*` options."""
    group = parser.getgroup("uvm", "the machines that tests boot")
    group.addoption("--uvm-trap", choices=TRAPS, default="sud", help="trap door of every machine")
    group.addoption(
        "--uvm-transport", choices=TRANSPORTS, default="futex", help="how stubs are switched"
    )
    group.addoption("--uvm-clock", choices=CLOCKS, default=None, help="clock of every machine")
    group.addoption("--uvm-loop", choices=LOOPS, default="uvloop", help="event loop of every test")
    group.addoption(
        "--uvm-freeze-every",
        type=int,
        default=None,
        metavar="N",
        help="freeze and thaw each machine every N traps (virtual clock)",
    )
    group.addoption(
        "--uvm-guests", default=None, metavar="DIR", help="keep built guests in DIR, and use those"
    )
    group.addoption(
        "--uvm-share",
        default="1/1",
        metavar="I/N",
        help="run every N-th of the tests, the I-th lot",
    )


def in_share(config: pytest.Config, item: pytest.Item) -> bool:
    """Whether `--uvm-share` gives this test to this run; by its name, so always the same."""
    which, _, of = str(config.getoption("uvm_share")).partition("/")
    if not (which.isdigit() and of.isdigit() and 1 <= int(which) <= int(of)):
        raise pytest.UsageError("--uvm-share wants I/N, as in 1/3")
    return zlib.crc32(item.nodeid.encode()) % int(of) == int(which) - 1
