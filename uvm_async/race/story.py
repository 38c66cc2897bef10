"""A trace in words: what both reports, the terminal's and the browser's, show of each step.

Everything that needs the program's symbols or its source is looked up here, so that whoever
draws needs neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from uvm_async.race.happens_before import Race, find_races
from uvm_async.race.model import Event, Kind
from uvm_async.race.sources import Place, Sources
from uvm_async.race.trace import END_CALLS, Blocked, Step, Thread, Trace, reads_from

__all__ = ["Actor", "Line", "Story", "Wait", "cycles", "show_value", "tell"]

LARGEST_DECIMAL = 99_999


@dataclass(slots=True)
class Line:
    """One step, told."""

    step: int
    task: int
    kind: str
    """read, write, update, call, return or start"""
    action: str
    """ "reads counter = 0" """
    name: str = ""
    """Of the memory, for accesses and futexes."""
    addr: int = 0
    place: Place = field(default_factory=lambda: Place(0))
    before: int = 0
    """The task that ran before."""
    origin: int | None = None
    """For what reads: the step that wrote the value; None: it stood there at the start."""
    racing: list[int] = field(default_factory=list)
    """Steps that race with this one for certain."""
    unordered: list[int] = field(default_factory=list)
    """Steps that nothing orders with this one, though both may be atomics."""
    woken_by: int | None = None
    weight: int = 0
    """How much it matters: 0 (repetition) to 3 (it races, or ends something)."""

    @property
    def switch(self) -> bool:
        """Another task ran before."""
        return self.before != self.task


@dataclass(slots=True)
class Actor:
    """A thread, told."""

    number: int
    title: str
    """ "thread 2 worker" """
    end: str
    steps: int
    idle: bool
    """Nothing that it did matters to anybody else."""


@dataclass(slots=True)
class Wait:
    """A task that can never go on, told."""

    task: int
    owner: int | None
    lock: str
    addr: int
    text: str
    place: Place


@dataclass(slots=True)
class Story:
    """The whole execution, told."""

    headline: str
    details: list[str]
    actors: list[Actor]
    lines: list[Line]
    races: list[tuple[Race, str]]
    waits: list[Wait]
    cycle: list[int]
    """Tasks that wait for each other in a ring; empty if there is none."""


def show_value(value: int, size: int) -> str:
    """As a programmer would write it: small ones in decimal, the rest as an address."""
    bits = 8 * min(max(size, 1), 8)
    value &= (1 << bits) - 1
    if value >= 1 << (bits - 1) and (1 << bits) - value <= LARGEST_DECIMAL and bits > 8:
        return str(value - (1 << bits))
    return str(value) if value <= LARGEST_DECIMAL else f"{value:#x}"


def tell(
    trace: Trace, sources: Sources | None = None, races: Sequence[Race] | None = None
) -> Story:
    """Look up names and lines for everything in a trace."""
    sources = sources or Sources(trace.maps)
    for thread in trace.threads:
        if thread.stack[1] > thread.stack[0]:
            sources.name_region(*thread.stack, f"stack of thread {thread.number}")
    if races is None:
        races = find_races(
            trace.steps,
            is_library=sources.is_library,
            processes={thread.number: thread.process for thread in trace.threads},
            shared=trace.shared,
            runs_straight=sources.runs_straight,
        )
    lines = [_line(at, step, trace, sources) for at, step in enumerate(trace.steps)]
    _relate(trace, lines, races)
    _weigh(trace, lines)
    waits = [_wait(blocked, sources) for blocked in trace.blocked]
    return Story(
        headline=_headline(trace),
        details=_details(trace),
        actors=_actors(trace, lines, sources),
        lines=lines,
        races=[(race, _race_text(race, sources)) for race in races],
        waits=waits,
        cycle=next(iter(cycles(trace.blocked)), []),
    )


def cycles(blocked: Sequence[Blocked]) -> list[list[int]]:
    """Rings of tasks of which each waits for what the next holds."""
    owner = {b.task: b.owner for b in blocked if b.owner is not None}
    found: list[list[int]] = []
    done: set[int] = set()
    for first in sorted(owner):
        path: list[int] = []
        task: int | None = first
        while task is not None and task not in done and task not in path:
            path.append(task)
            task = owner.get(task)
        if task in path:
            found.append(path[path.index(task) :])
        done.update(path)
    return found


def _headline(trace: Trace) -> str:
    count = len(trace.switches)
    switches = f"{count} context switch{'' if count == 1 else 'es'}"
    steps = f"{len(trace.steps)} step{'' if len(trace.steps) == 1 else 's'}"
    more = f", {trace.preemptions} of them preemptions" if trace.preemptions else ""
    return f"{trace.failure or 'no failure'} after {steps} and {switches}{more}"


def _details(trace: Trace) -> list[str]:
    details = [line for line in trace.detail.splitlines() if line.strip()]
    said = trace.stderr.decode("utf-8", "replace").rstrip().splitlines()
    details += [f"stderr: {line}" for line in said[-3:] if line.strip()]
    details += [f"{key}: {value}" for key, value in trace.notes.items()]
    return details


def _title(thread: Thread, sources: Sources) -> str:
    started = sources.place(thread.entry_ip).function if thread.entry_ip else ""
    name = started.partition("(")[0] or thread.name or ("main" if thread.number == 0 else "")
    return f"thread {thread.number} {name}".rstrip()


def _actors(trace: Trace, lines: Sequence[Line], sources: Sources) -> list[Actor]:
    steps: dict[int, list[Line]] = {}
    for line in lines:
        steps.setdefault(line.task, []).append(line)
    stuck = {blocked.task for blocked in trace.blocked}
    numbers = sorted({thread.number for thread in trace.threads} | set(steps) | stuck)
    needed = {
        lines[line.origin].task
        for line in lines
        if line.origin is not None and _from_another(line, lines)
    }
    if trace.steps:
        failing = -1 if trace.failing_step is None else trace.failing_step
        needed.add(trace.steps[failing].event.task)
    return [
        Actor(
            number,
            _title(trace.thread(number), sources),
            trace.thread(number).end,
            len(steps.get(number, ())),
            idle=number not in stuck
            and number not in needed
            and not any(_matters(line, lines) for line in steps.get(number, ())),
        )
        for number in numbers
    ]


def _matters(line: Line, lines: Sequence[Line]) -> bool:
    return bool(line.racing or line.unordered) or _from_another(line, lines)


def _from_another(line: Line, lines: Sequence[Line]) -> bool:
    return line.origin is not None and lines[line.origin].task != line.task


def _line(at: int, step: Step, trace: Trace, sources: Sources) -> Line:
    event = step.event
    name = sources.address(event.addr) if event.addr else ""
    # A return address stands behind its call, often on the next line.
    ip = step.user_ip - 1 if step.user_ip else event.ip
    return Line(
        at,
        event.task,
        event.kind.name.lower(),
        _action(step, name, trace, sources),
        name=name,
        addr=event.addr,
        place=sources.place(ip) if ip else Place(0),
        before=trace.before(at),
    )


def _action(step: Step, name: str, trace: Trace, sources: Sources) -> str:
    event = step.event
    before = show_value(event.value, event.size)
    after = "?" if step.after is None else show_value(step.after, event.size)
    if event.by_kernel:
        name = f"{name} by its call"
    match event.kind:
        case Kind.READ:
            return f"reads {name} = {before}"
        case Kind.WRITE:
            return f"writes {name}: {before} → {after}"
        case Kind.UPDATE if step.after == event.value:
            return f"{'atomic' if event.locked else 'updates'} {name} = {before}"
        case Kind.UPDATE:
            return f"{'atomic' if event.locked else 'updates'} {name}: {before} → {after}"
        case Kind.CALL if event.call in END_CALLS:
            return "ends" if event.call == "exit" else "ends the process"
        case Kind.CALL:
            return f"calls {event.call}({name})"
        case Kind.RETURN:
            result = "" if step.result is None else f" = {show_value(step.result, 8)}"
            return f"back from {event.call}{result}"
        case _:
            entry = trace.thread(event.task).entry_ip
            function = sources.place(entry).function.partition("(")[0] if entry else ""
            return f"starts {function}".rstrip()


def _relate(trace: Trace, lines: Sequence[Line], races: Sequence[Race]) -> None:
    for at, origin in reads_from(trace.steps).items():
        lines[at].origin = origin
    for edge in trace.edges:
        if edge.target < len(lines):
            lines[edge.target].woken_by = edge.source
    for race in races:
        if 0 <= race.first_step < len(lines) and 0 <= race.second_step < len(lines):
            first, second = lines[race.first_step], lines[race.second_step]
            for one, other in ((first, second), (second, first)):
                (one.racing if race.accuses else one.unordered).append(other.step)


def _weigh(trace: Trace, lines: Sequence[Line]) -> None:
    """Repetition weighs nothing, what links two threads more, what races or ends most."""
    last_of: dict[int, int] = {}
    previous: dict[int, Event] = {}
    for line, step in zip(lines, trace.steps, strict=True):
        event = step.event
        before = previous.get(event.task)
        same = before is not None and (
            (before.ip, before.kind, before.addr, before.value)
            == (event.ip, event.kind, event.addr, event.value)
        )
        previous[event.task] = event
        last_of[event.task] = line.step
        if event.kind == Kind.START or (event.kind == Kind.CALL and event.call in END_CALLS):
            line.weight = 2
        elif not same:
            linked = _from_another(line, lines) or bool(line.unordered)
            line.weight = 2 if linked else 1 if line.switch else 0
        if line.racing:
            line.weight = 3
    for line in lines:
        if line.origin is not None and _from_another(line, lines) and line.weight:
            lines[line.origin].weight = max(lines[line.origin].weight, line.weight)
        if line.switch and line.step:
            lines[line.step - 1].weight = max(lines[line.step - 1].weight, 1)
    stuck = {blocked.task for blocked in trace.blocked}
    for task, at in last_of.items():
        if task in stuck:
            lines[at].weight = 3
    failing = len(lines) - 1 if trace.failing_step is None else trace.failing_step
    for line in lines[max(failing - 2, 0) : failing + 1]:
        line.weight = 3


def _wait(blocked: Blocked, sources: Sources) -> Wait:
    place = sources.place(blocked.ip) if blocked.ip else Place(0)
    lock = sources.address(blocked.addr) if blocked.addr else ""
    named = f" `{lock}`" if lock and not lock.startswith("0x") else ""
    at = f" at {place.where}" if blocked.ip else ""
    if not blocked.addr:
        text = f"thread {blocked.task} waits in {blocked.call}{at}"
    elif blocked.owner is None:
        text = f"thread {blocked.task} waits on {blocked.addr:#x}{named}{at}"
    else:
        holder = "itself" if blocked.owner == blocked.task else f"thread {blocked.owner}"
        text = (
            f"thread {blocked.task} waits for mutex at {blocked.addr:#x}{named}"
            f" held by {holder}{at}"
        )
    return Wait(blocked.task, blocked.owner, lock, blocked.addr, text, place)


def _race_text(race: Race, sources: Sources) -> str:
    kind = race.verdict.value
    if not race.accuses:
        kind = "atomic-like access" if race.atomic_like else "unordered (a race unless atomic)"

    def side(event: Event, step: int) -> str:
        verb = {Kind.READ: "reads", Kind.WRITE: "writes"}.get(event.kind, "updates")
        where = sources.place(event.ip).where if event.ip else "?"
        if event.by_kernel:
            verb += " by its call"
        return f"thread {event.task} {verb} at {where} (step {step})"

    addr = max(race.first.addr, race.second.addr)
    return (
        f"{kind} on {sources.address(addr)}: "
        f"{side(race.first, race.first_step)}, {side(race.second, race.second_step)}"
    )
