"""The recorded execution of a failing schedule: what a report is made of.

Plain data.  Steps are numbered from 0 in the order in which they happened; a `Trace` goes to JSON
and back unchanged.  What can be derived (who wrote what was read, which step let which other go
on) is derived here, once, by functions of the steps alone.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping as MappingABC
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from uvm_async.race.model import Event, Kind
from uvm_async.race.sources import Mapping

__all__ = [
    "NEW_TASK_CALLS",
    "Blocked",
    "Edge",
    "Step",
    "Thread",
    "Trace",
    "reads_from",
    "synchronisation",
]

NEW_TASK_CALLS = frozenset({"clone", "clone3", "fork", "vfork"})
END_CALLS = frozenset({"exit", "exit_group"})


@dataclass(frozen=True, slots=True)
class Step:
    """An event that has happened."""

    event: Event
    after: int | None = None
    """What stood at its address then, as `Event.value`; None if that is not known."""
    result: int | None = None
    """What a system call returned (RETURN)."""
    user_ip: int = 0
    """Where the user's code stands in a step of library code: whom it will return to."""


@dataclass(slots=True)
class Thread:
    """A task of the execution."""

    number: int
    name: str = ""
    """Its comm."""
    entry_ip: int = 0
    """The function that it was started with; 0 for a program's main thread."""
    end: str = ""
    """How it ended: "exited", "killed by SIGABRT", "waits for ever"."""
    parent: int | None = None
    process: int = 0
    """The task that leads its thread group: tasks of one process share all memory."""
    stack: tuple[int, int] = (0, 0)
    """Addresses of its stack: start, end."""


@dataclass(frozen=True, slots=True)
class Edge:
    """Step `source` let step `target` happen."""

    source: int
    target: int
    kind: str
    """ "wake", "start" or "join" """


@dataclass(frozen=True, slots=True)
class Blocked:
    """A task that can never go on."""

    task: int
    addr: int = 0
    """The futex word that it sleeps on; 0 if it sleeps on something else."""
    owner: int | None = None
    """The task that holds the lock there, if it is a lock and that is known."""
    call: str = "futex"
    ip: int = 0
    """The instruction that waits: the user's, if that is known."""


@dataclass(slots=True)
class Trace:
    """One execution."""

    steps: list[Step] = field(default_factory=list)
    threads: list[Thread] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    maps: list[Mapping] = field(default_factory=list)
    shared: list[tuple[int, int]] = field(default_factory=list)
    """Addresses that processes share at the same place (MAP_SHARED)."""
    failure: str = ""
    failing_step: int | None = None
    """The step after which it had failed; None: the last."""
    detail: str = ""
    blocked: list[Blocked] = field(default_factory=list)
    stdout: bytes = b""
    stderr: bytes = b""
    preemptions: int = 0
    argv: list[str] = field(default_factory=list)
    replay: str = ""
    """The command that shows the failure again."""
    notes: dict[str, str] = field(default_factory=dict)
    """More to say, in this order: strategy, seed, schedules tried."""

    @property
    def switches(self) -> list[int]:
        """Steps before which another task ran."""
        return [at for at, step in enumerate(self.steps) if step.event.task != self.before(at)]

    def before(self, at: int) -> int:
        """The task that ran before step `at`: before the first, the main thread did, which is
        about to start another."""
        return self.steps[at - 1].event.task if at else 0

    def thread(self, number: int) -> Thread:
        """The thread of that number; a blank one if nothing was recorded of it."""
        return next((t for t in self.threads if t.number == number), Thread(number))

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        data = asdict(self)
        data["stdout"] = _bytes_to_json(self.stdout)
        data["stderr"] = _bytes_to_json(self.stderr)
        for step in data["steps"]:
            step["event"]["kind"] = Kind(step["event"]["kind"]).name
        for thread in data["threads"]:
            thread["stack"] = list(thread["stack"])
        data["shared"] = [list(pair) for pair in self.shared]
        return data

    @classmethod
    def from_json(cls, data: MappingABC[str, Any]) -> Trace:
        """The inverse. Raises KeyError, TypeError, ValueError."""
        steps = []
        for step in data["steps"]:
            event = dict(step["event"])
            event["kind"] = Kind[event["kind"]]
            steps.append(Step(Event(**event), step["after"], step["result"], int(step["user_ip"])))
        threads = [
            Thread(**{**thread, "stack": (int(thread["stack"][0]), int(thread["stack"][1]))})
            for thread in data["threads"]
        ]
        return cls(
            steps=steps,
            threads=threads,
            edges=[Edge(**edge) for edge in data["edges"]],
            maps=[Mapping(**mapping) for mapping in data["maps"]],
            shared=[(int(start), int(end)) for start, end in data["shared"]],
            failure=str(data["failure"]),
            failing_step=data["failing_step"],
            detail=str(data["detail"]),
            blocked=[Blocked(**blocked) for blocked in data["blocked"]],
            stdout=_bytes_from_json(data["stdout"]),
            stderr=_bytes_from_json(data["stderr"]),
            preemptions=int(data["preemptions"]),
            argv=[str(word) for word in data["argv"]],
            replay=str(data["replay"]),
            notes={str(key): str(value) for key, value in data["notes"].items()},
        )


def _bytes_to_json(data: bytes) -> Any:
    """Text where it is text, so that people can read the file."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode("ascii")}


def _bytes_from_json(data: Any) -> bytes:
    if isinstance(data, str):
        return data.encode("utf-8")
    return base64.b64decode(data["base64"], validate=True)


def reads_from(steps: Sequence[Step]) -> dict[int, int | None]:
    """For each step that reads memory, the latest step that wrote any of the bytes; None if what
    it read stood there at the start. Writes of the step itself come after its read."""
    written: dict[int, int] = {}
    sources: dict[int, int | None] = {}
    for at, step in enumerate(steps):
        event = step.event
        if not event.is_access:
            continue
        touched = range(event.addr, event.addr + max(event.size, 1))
        if event.reads:
            latest = max((written.get(byte, -1) for byte in touched), default=-1)
            sources[at] = latest if latest >= 0 else None
        if event.writes and not _left_alone(step):
            for byte in touched:
                written[byte] = at
    return sources


def _left_alone(step: Step) -> bool:
    """A locked instruction that changed nothing: a compare-and-swap that failed."""
    return step.event.kind == Kind.UPDATE and step.after == step.event.value


def synchronisation(
    steps: Sequence[Step], parents: MappingABC[int, int] | None = None
) -> list[Edge]:
    """Which call let which other task go on: clone and the first step of the child, a futex wake
    and the return of the waiter, the end of a task and the return of who waited on its tid.

    `parents` says who made whom; without it, children belong to successful clones in order.
    """
    edges: list[Edge] = []
    clones: list[tuple[int, int]] = []
    waiting: dict[int, tuple[int, int]] = {}
    latest_call: dict[int, dict[int, int]] = {}
    ended: dict[int, int] = {}
    failed = {
        _entry_of(steps, at)
        for at, step in enumerate(steps)
        if step.event.kind == Kind.RETURN
        and step.event.call in NEW_TASK_CALLS
        and step.result is not None
        and step.result <= 0
    }
    for at, step in enumerate(steps):
        event = step.event
        if event.kind == Kind.CALL:
            if event.call in NEW_TASK_CALLS and at not in failed:
                clones.append((at, event.task))
            elif event.call == "futex":
                waiting[event.task] = (at, event.addr)
                latest_call.setdefault(event.addr, {})[event.task] = at
            elif event.call in END_CALLS:
                ended[event.task] = at
        elif event.kind == Kind.START:
            wanted = (parents or {}).get(event.task)
            for index, (call, parent) in enumerate(clones):
                if wanted is None or parent == wanted:
                    edges.append(Edge(call, at, "start"))
                    del clones[index]
                    break
        elif event.kind == Kind.RETURN and event.call == "futex":
            since, addr = waiting.pop(event.task, (-1, 0))
            wakers = {
                call
                for task, call in latest_call.get(addr, {}).items()
                if task != event.task and call > since >= 0
            }
            ends = [end for task, end in ended.items() if end > since >= 0 and task != event.task]
            if wakers:
                edges.append(Edge(max(wakers), at, "wake"))
            elif ends:
                edges.append(Edge(max(ends), at, "join"))
    return edges


def _entry_of(steps: Sequence[Step], returned: int) -> int:
    """The step at which the call that returns at `returned` was entered."""
    task = steps[returned].event.task
    for at in range(returned - 1, -1, -1):
        event = steps[at].event
        if event.task == task and event.kind == Kind.CALL:
            return at
    return -1
