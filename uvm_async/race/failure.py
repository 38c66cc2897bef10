"""A failure, as a file: everything that is needed to see it again, anywhere.

`uvm-failure-*.json` names the program by the contents of its files, and says what
of the processor it may depend on; `check` refuses to replay it where either
differs, and says what does.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final

from uvm_async.errors import UsageError
from uvm_async.race.engine import Target
from uvm_async.race.model import Result, Schedule

__all__ = ["FORMAT", "Failure", "cpu_features", "file_hash"]

FORMAT: Final = 1


@dataclass(slots=True)
class Failure:
    """What went wrong, under which schedule, of what."""

    target: Target
    schedule: Schedule
    why: str
    """ "SIGABRT", "exit status 1", "deadlock" ..."""
    status: int
    stdout: bytes = b""
    stderr: bytes = b""
    detail: str = ""
    preemptions: int = 0
    strategy: str = ""
    seed: int = 0
    execution: int = 0
    """Which execution of the exploration it was, from 1."""
    files: dict[str, str] = field(default_factory=dict)
    """sha256 of everything executable that was mapped, by path."""
    cpu: list[str] = field(default_factory=list)
    """The processor's features (flags of /proc/cpuinfo)."""
    version: str = ""
    limits: dict[str, float] = field(default_factory=dict)
    path: str = ""
    """Where it was saved."""

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        target = self.target
        return {
            "format": FORMAT,
            "uvm_async": self.version,
            "failure": self.why,
            "detail": self.detail,
            "status": self.status,
            "program": {
                "args": list(target.args),
                "cwd": target.cwd,
                "env": dict(sorted(target.env.items())),
                "input": _encoded(target.input),
                "root": target.root,
                "memory": target.memory,
                "cpus": target.cpus,
                "seed": target.seed,
                "only": list(target.only),
                "files": dict(sorted(self.files.items())),
            },
            "cpu": self.cpu,
            "schedule": self.schedule.to_json(),
            "preemptions": self.preemptions,
            "found": {"strategy": self.strategy, "seed": self.seed, "execution": self.execution},
            "limits": self.limits,
            "stdout": _encoded(self.stdout),
            "stderr": _encoded(self.stderr),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Failure:
        """The inverse. Raises UsageError for what is no such thing."""
        try:
            if data["format"] != FORMAT:
                raise UsageError(f"a replay file of format {data['format']}, not {FORMAT}")
            program = data["program"]
            target = Target(
                tuple(program["args"]), dict(program["env"]), program["cwd"],
                _decoded(program["input"]), program["root"], program["memory"],
                int(program["cpus"]), int(program["seed"]), tuple(program["only"]),
            )  # fmt: skip
            return cls(
                target, Schedule.from_json(data["schedule"]), str(data["failure"]),
                int(data["status"]), _decoded(data["stdout"]), _decoded(data["stderr"]),
                str(data["detail"]), int(data["preemptions"]), str(data["found"]["strategy"]),
                int(data["found"]["seed"]), int(data["found"]["execution"]),
                dict(program["files"]), list(data["cpu"]), str(data["uvm_async"]),
                dict(data["limits"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"not a replay file: {error!r}") from None

    @classmethod
    def load(cls, path: str) -> Failure:
        """Read a file. Raises UsageError."""
        try:
            with open(path, encoding="utf-8") as file:
                failure = cls.from_json(json.load(file))
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from None
        except (UnicodeDecodeError, json.JSONDecodeError):
            raise UsageError(f"{path} is not a replay file") from None
        failure.path = path
        return failure

    def save(self, directory: str = ".") -> str:
        """Write `uvm-failure-<program>-<hash>.json`; answers the path."""
        text = json.dumps(self.to_json(), indent=1)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        name = os.path.basename(self.target.args[0])
        self.path = os.path.join(directory, f"uvm-failure-{name}-{digest}.json")
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(text + "\n")
        return self.path

    def is_shown_by(self, result: Result) -> bool:
        """Has an execution failed as this has? What only a check or a comparison with other
        executions shows is the same if all that can be seen is."""
        if result.failure == self.why:
            return True
        seen = (result.status, result.stdout, result.stderr)
        same: bool = seen == (self.status, self.stdout, self.stderr)
        return same and self.why not in ("deadlock", "livelock", "hang")

    def check(self) -> None:
        """May it be replayed here? Raises UsageError with what differs."""
        here_version = version("uvm-async")
        if self.version != here_version:
            raise UsageError(
                f"found by uvm_async {self.version}, this is {here_version}: "
                "explore again with this version"
            )
        for path, digest in self.files.items():
            now = file_hash(path)
            if now != digest:
                what = "is not there" if not now else "is another file than when this was found"
                raise UsageError(f"{path} {what}: build it again as it was, or explore again")
        here = cpu_features()
        lacking = sorted(set(self.cpu) - set(here))
        extra = sorted(set(here) - set(self.cpu))
        if lacking or extra:
            differences = [f"-{name}" for name in lacking] + [f"+{name}" for name in extra]
            raise UsageError(
                "another processor than where this was found (its libraries would take other "
                f"paths): {' '.join(differences[:12])}"
            )


def _encoded(data: bytes) -> Any:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _decoded(data: Any) -> bytes:
    return data.encode() if isinstance(data, str) else base64.b64decode(data["base64"])


def file_hash(path: str) -> str:
    """sha256 of a file's contents, or "" if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def cpu_features() -> list[str]:
    """What this processor can do, sorted: programs choose their code by it."""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name.strip() == "flags":
                return sorted(value.split())
    return []
