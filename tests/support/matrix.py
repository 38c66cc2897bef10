"""Users, Pythons, loops, trap doors, transports, clocks and freezing, combined pairwise.

`ROWS` is data: every pair of values of two columns that can be together is in
some row (tests/machine/test_matrix.py checks it).  Rows of the same kind share the
machine's tests.  A freeze takes some 50 ms, so the rows that freeze take a part of them
only, chosen by name; all of them, which takes hours at every trap:

    .ci/test -m machine --uvm-clock=virtual --uvm-freeze-every=97      # or =1

`.ci/run` runs one session a row:

    python tests/support/matrix.py            # one row a line, as shell words
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields

__all__ = ["ROWS", "VALUES", "Row", "possible"]


@dataclass(frozen=True, slots=True)
class Row:
    """One session of the suite."""

    user: str
    python: str
    loop: str
    trap: str
    transport: str
    clock: str
    freeze_every: str
    share: str
    """Which share of the tests marked `machine`; "all" is every test there is."""

    def pytest_arguments(self) -> list[str]:
        """The options of this row for pytest."""
        arguments = [
            f"--uvm-loop={self.loop}",
            f"--uvm-trap={self.trap}",
            f"--uvm-transport={self.transport}",
            f"--uvm-clock={self.clock}",
        ]
        if self.freeze_every != "never":
            arguments.append(f"--uvm-freeze-every={self.freeze_every}")
        if self.share != "all":
            arguments += ["-m", "machine", f"--uvm-share={self.share}"]
        return arguments


VALUES: dict[str, tuple[str, ...]] = {
    "user": ("root", "ordinary"),
    "python": ("3.11", "3.13"),
    "loop": ("uvloop", "asyncio"),
    "trap": ("sud", "seccomp"),
    "transport": ("futex", "signal"),
    "clock": ("real", "virtual"),
    "freeze_every": ("never", "97", "1"),
}

ROWS: tuple[Row, ...] = (
    Row("root", "3.11", "uvloop", "sud", "futex", "real", "never", "all"),
    Row("ordinary", "3.13", "asyncio", "seccomp", "signal", "real", "never", "1/3"),
    Row("root", "3.13", "asyncio", "sud", "signal", "virtual", "97", "1/4"),
    Row("ordinary", "3.11", "uvloop", "seccomp", "futex", "virtual", "97", "2/4"),
    Row("root", "3.11", "asyncio", "seccomp", "futex", "virtual", "1", "1/32"),
    Row("ordinary", "3.13", "uvloop", "sud", "signal", "virtual", "1", "2/32"),
    Row("root", "3.13", "uvloop", "seccomp", "futex", "virtual", "never", "1/2"),
    Row("ordinary", "3.11", "asyncio", "sud", "signal", "virtual", "never", "2/2"),
    Row("ordinary", "3.13", "asyncio", "sud", "futex", "real", "never", "2/3"),
    Row("root", "3.11", "uvloop", "seccomp", "signal", "real", "never", "3/3"),
)


def possible(first: tuple[str, str], second: tuple[str, str]) -> bool:
    """Whether the two (column, value) can be together: freezing needs the virtual clock."""
    pair = dict((first, second))
    return pair.get("clock") != "real" or pair.get("freeze_every", "never") == "never"


def main() -> None:
    """Print `USER PYTHON PYTEST-ARGUMENTS` for each row."""
    for row in ROWS:
        print(row.user, row.python, shlex.join(row.pytest_arguments()))


if __name__ == "__main__":
    main()

_COLUMNS = tuple(field.name for field in fields(Row) if field.name != "share")
assert tuple(VALUES) == _COLUMNS
