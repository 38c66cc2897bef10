"""The host's Linux as the oracle: what a program prints and how it ends, here and there.

An ordinary user's oracle is a user namespace in which the caller appears as root,
for so it appears in the machine.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["ENVIRONMENT", "Outcome", "Result", "empty_directory", "is_root", "run_on_host"]

ENVIRONMENT: dict[str, str] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/nonexistent",
    "LANG": "C",
    "LC_ALL": "C",
    "TZ": "UTC",
    "TERM": "dumb",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "GIT_CONFIG_NOSYSTEM": "1",
}
"""What every guest gets, here and there."""


class Result(Protocol):
    """What `Machine.run` answers."""

    @property
    def returncode(self) -> int | None: ...
    @property
    def stdout(self) -> bytes: ...
    @property
    def stderr(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that is compared."""

    status: str
    stdout: bytes
    stderr: bytes

    @classmethod
    def of(cls, result: Result) -> Outcome:
        code = result.returncode
        if code is None:
            status = "still running"
        elif code < 0:
            status = f"killed by {signal.Signals(-code).name}"
        else:
            status = f"exited with {code}"
        return cls(status, bytes(result.stdout), bytes(result.stderr))

    def lines(self) -> list[str]:
        """For pytest's diff: one line of output an element."""
        text = [f"status: {self.status}"]
        for name, stream in (("out", self.stdout), ("err", self.stderr)):
            text += [f"{name}: {line!r}" for line in stream.splitlines(keepends=True)]
        return text


def is_root() -> bool:
    return os.geteuid() == 0


def run_on_host(
    arguments: Sequence[str | Path],
    *,
    input: bytes = b"",
    cwd: Path,
    env: Mapping[str, str] = ENVIRONMENT,
    timeout_s: float = 60,
) -> Outcome:
    """Run a program on the host, in a session of its own, standard streams being pipes."""
    command = [str(argument) for argument in arguments]
    if not is_root():
        command = ["unshare", "-r", *command]
    result = subprocess.run(
        command,
        input=input,
        capture_output=True,
        cwd=cwd,
        env=dict(env),
        timeout=timeout_s,
        start_new_session=True,
        umask=0o022,
    )
    return Outcome.of(result)


def empty_directory(path: Path) -> Path:
    """`path` as an empty directory: the host's run must leave nothing for the machine's."""
    if path.exists():
        for folder, _, _ in os.walk(path):
            os.chmod(folder, 0o755)
        shutil.rmtree(path)
    path.mkdir(parents=True)
    path.chmod(0o755)
    return path
