"""Shared-memory programs in miniature, run under a strategy as the machine would run them.

A thread is a generator that yields operations and is sent what they read.  The
instruction's address is the line of the generator that stands there, so events
are the same from one execution to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

from uvm_async.race.model import Event, Kind, Point, Profile, Result
from uvm_async.race.strategies import Strategy
from uvm_async.race.strategies.base import successor

WORD = 8
STEP_LIMIT = 5000

Body = Callable[[], Generator["Op", Any, None]]


@dataclass(frozen=True)
class Op:
    """What a thread does next."""

    verb: str
    word: int = 0
    value: int = 0
    body: Body | None = None


def read(word: int) -> Op:
    return Op("read", word)


def write(word: int, value: int) -> Op:
    return Op("write", word, value)


def add(word: int, value: int) -> Op:
    """One indivisible addition; sends the old value."""
    return Op("add", word, value)


def lock(word: int) -> Op:
    return Op("lock", word)


def unlock(word: int) -> Op:
    return Op("unlock", word)


def spawn(body: Body) -> Op:
    """Sends the number of the new task."""
    return Op("spawn", body=body)


def join(task: int) -> Op:
    return Op("join", value=task)


START = Op("start")
_KINDS = {"read": Kind.READ, "write": Kind.WRITE, "add": Kind.UPDATE, "start": Kind.START}
_CALLS = {"lock": "futex", "unlock": "futex", "spawn": "clone3", "join": "wait4"}


@dataclass(frozen=True)
class Program:
    """Threads that are there from the start, and what must hold at the end."""

    bodies: tuple[Body, ...]
    holds: Callable[[dict[int, int]], bool] = lambda memory: True


class _Task:
    def __init__(self, number: int, body: Body) -> None:
        self.number = number
        self.generator = body()
        self.op: Op | None = START
        self.last_read: tuple[int, int, int] | None = None
        self.spins = False

    @property
    def ip(self) -> int:
        frame = self.generator.gi_frame
        return frame.f_lineno if frame is not None else 0


class Execution:
    """One execution of a program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.memory: dict[int, int] = {}
        self.owners: dict[int, int] = {}
        self.tasks = [_Task(i, body) for i, body in enumerate(program.bodies)]
        self.failure = ""
        self.events: list[Event] = []
        self.trace: list[tuple[int | None, tuple[int, ...], int]] = []
        """At each step: current, enabled, chosen."""
        self.asked = 0

    def run(self, strategy: Strategy, profile: Profile, *, leases: bool = True) -> Result:
        strategy.begin(profile)
        last: int | None = None
        lease = told = 0
        offered: tuple[int, ...] = ()
        switches: dict[int, int] = {}
        preemptions = 0
        while not self.failure:
            enabled = self.enabled()
            if not enabled:
                if any(task.op is not None for task in self.tasks):
                    self.failure = "deadlock"
                break
            step = len(self.trace)
            if step == STEP_LIMIT:
                self.failure = "livelock"
                break
            current = last if last in enabled else None
            if lease and current is not None and enabled == offered:
                chosen, lease = current, lease - 1
            else:
                pending = {number: self.event(number) for number in enabled}
                executed, told = self.events[told:], len(self.events)
                before = -1 if last is None else last
                chosen = strategy.choose(Point(step, current, enabled, pending, executed, before))
                assert chosen in enabled
                granted = strategy.lease()
                assert granted >= 0
                lease, offered = (granted if leases else 0), enabled
                self.asked += 1
            expected = current if current is not None else successor(enabled, last)
            if chosen != expected:
                switches[step] = chosen
            preemptions += current is not None and chosen != current
            self.trace.append((current, enabled, chosen))
            self.execute(chosen)
            last = chosen
        if not self.failure and not self.program.holds(self.memory):
            self.failure = "exit status 1"
        result = Result(self.failure, steps=len(self.trace), switches=switches)
        result.preemptions, result.events = preemptions, self.events
        result.reads_from = frozenset(self.reads_from())
        return result

    def enabled(self) -> tuple[int, ...]:
        able = [task for task in self.tasks if self.can_run(task)]
        awake = [task.number for task in able if not task.spins]
        return tuple(awake or [task.number for task in able])

    def can_run(self, task: _Task) -> bool:
        op = task.op
        if op is None:
            return False
        if op.verb == "lock":
            return op.word not in self.owners
        return op.verb != "join" or self.tasks[op.value].op is None

    def event(self, number: int) -> Event:
        task = self.tasks[number]
        op = task.op
        assert op is not None
        kind = _KINDS.get(op.verb, Kind.CALL)
        call = _CALLS.get(op.verb, "")
        size = WORD if kind <= Kind.UPDATE else 0
        addr = op.word * WORD if size or call == "futex" else 0
        return Event(
            number, kind, addr, size, task.ip, call, op.verb == "add", self.memory.get(op.word, 0)
        )

    def execute(self, number: int) -> None:
        task = self.tasks[number]
        event = self.event(number)
        self.events.append(event)
        op, sent = task.op, None
        assert op is not None
        spins = False
        if op.verb == "read":
            sent = event.value
            spins = task.last_read == (event.ip, op.word, sent)
            task.last_read = (event.ip, op.word, sent)
        else:
            task.last_read = None
        if op.verb in ("write", "add"):
            sent = event.value
            self.memory[op.word] = op.value + (event.value if op.verb == "add" else 0)
            for other in self.tasks:
                other.spins = False
        elif op.verb == "lock":
            self.owners[op.word] = number
        elif op.verb == "unlock":
            del self.owners[op.word]
        elif op.verb == "spawn":
            assert op.body is not None
            sent = len(self.tasks)
            self.tasks.append(_Task(sent, op.body))
        task.spins = spins
        try:
            task.op = task.generator.send(sent)
        except StopIteration:
            task.op = None
        except AssertionError:
            task.op = None
            self.failure = "SIGABRT"

    def reads_from(self) -> Iterator[tuple[int, int]]:
        writers: dict[int, int] = {}
        for event in self.events:
            if event.kind in (Kind.READ, Kind.UPDATE):
                yield writers.get(event.addr, 0), event.ip
            if event.writes:
                writers[event.addr] = event.ip

    @property
    def sequence(self) -> tuple[int, ...]:
        """Who ran at each step."""
        return tuple(chosen for _, _, chosen in self.trace)


@dataclass
class Exploration:
    """Executions of one program under one strategy."""

    program: Program
    strategy: Strategy
    leases: bool = True
    profile: Profile = field(default_factory=Profile)
    orders: set[tuple[tuple[int, int, int], ...]] = field(default_factory=set)
    last: Execution | None = None

    def once(self) -> Result:
        self.last = execution = Execution(self.program)
        result = execution.run(self.strategy, self.profile, leases=self.leases)
        order = tuple((e.task, e.ip, e.addr) for e in execution.events)
        result.new_interleaving = order not in self.orders
        self.orders.add(order)
        self.strategy.end(result)
        profile = self.profile
        profile.executions += 1
        profile.steps = max(profile.steps, result.steps)
        profile.tasks = max(profile.tasks, len(execution.tasks))
        for task in range(len(execution.tasks)):
            events = sum(e.task == task for e in execution.events)
            profile.events[task] = max(profile.events.get(task, 0), events)
        return result

    def first_failure(self, executions: int) -> int | None:
        """How many executions it took until one failed."""
        for count in range(1, executions + 1):
            if self.once().failure:
                return count
            if self.strategy.finished:
                return None
        return None

    def sequences(self, executions: int) -> list[tuple[int, ...]]:
        """Who ran when, in each of so many executions, or until the search is finished."""
        seen = []
        while len(seen) < executions and not self.strategy.finished:
            self.once()
            assert self.last is not None
            seen.append(self.last.sequence)
        return seen


class _Follow(Strategy):
    """Take the listed tasks, then the first that can run."""

    def __init__(self, prefix: tuple[int, ...]) -> None:
        super().__init__(0)
        self.prefix = prefix

    def choose(self, point: Point) -> int:
        return self.prefix[point.step] if point.step < len(self.prefix) else point.enabled[0]


def every_execution(program: Program) -> Iterator[Execution]:
    """All there are, by brute force."""
    prefixes: list[tuple[int, ...]] = [()]
    while prefixes:
        prefix = prefixes.pop()
        execution = Execution(program)
        execution.run(_Follow(prefix), Profile())
        yield execution
        for step in range(len(prefix), len(execution.trace)):
            _, enabled, chosen = execution.trace[step]
            prefixes += [(*execution.sequence[:step], t) for t in enabled if t != chosen]


# -- programs ------------------------------------------------------------------------------------

X, Y, Z = 100, 200, 300


def with_main(*bodies: Body, holds: Callable[[dict[int, int]], bool] = lambda m: True) -> Program:
    """A main thread that starts the others and waits for them."""

    def main() -> Generator[Op, Any, None]:
        tasks = []
        for body in bodies:
            tasks.append((yield spawn(body)))
        for task in tasks:
            yield join(task)

    return Program((main,), holds)


def _increment() -> Generator[Op, Any, None]:
    value = yield read(X)
    yield write(X, value + 1)


def lost_update() -> Program:
    return with_main(_increment, _increment, holds=lambda memory: memory[X] == 2)


def locked_update() -> Program:
    """Its correct twin."""

    def increment() -> Generator[Op, Any, None]:
        yield lock(Z)
        value = yield read(X)
        yield write(X, value + 1)
        yield unlock(Z)

    return with_main(increment, increment, holds=lambda memory: memory[X] == 2)


def check_then_act() -> Program:
    """The pointer that was there when asked is gone when used."""

    def user() -> Generator[Op, Any, None]:
        yield write(X, 1)
        if (yield read(X)):
            assert (yield read(X)), "use after free"

    def freer() -> Generator[Op, Any, None]:
        yield write(X, 0)

    return with_main(user, freer)


def two_locks() -> Program:
    """AB-BA."""

    def worker(first: int, second: int) -> Body:
        def body() -> Generator[Op, Any, None]:
            yield lock(first)
            yield lock(second)
            yield unlock(second)
            yield unlock(first)

        return body

    return with_main(worker(X, Y), worker(Y, X))


def depth_three() -> Program:
    """Fails only if each sees the other's short-lived value: two preemptions."""

    def left() -> Generator[Op, Any, None]:
        yield write(X, 1)
        yield write(X, 0)
        assert (yield read(Y)) == 0

    def right() -> Generator[Op, Any, None]:
        value = yield read(X)
        yield write(Y, value)
        yield write(Y, 0)

    return with_main(left, right)


def runs_before() -> Program:
    """Depth 1: the reader must not come first."""

    def setter() -> Generator[Op, Any, None]:
        yield write(X, 1)

    def reader() -> Generator[Op, Any, None]:
        assert (yield read(X)) == 1

    return Program((setter, reader))


def waiter() -> Program:
    """One polls until the other has set a flag. Correct."""

    def poll() -> Generator[Op, Any, None]:
        while not (yield read(X)):
            pass
        yield write(Y, 1)

    def setter() -> Generator[Op, Any, None]:
        yield read(Y)
        yield write(X, 1)

    return with_main(poll, setter)


def busy_waiter() -> Program:
    """One polls and counts, which no look at unchanged reads recognises. Correct."""

    def poll() -> Generator[Op, Any, None]:
        while not (yield read(X)):
            yield add(Y, 1)

    def setter() -> Generator[Op, Any, None]:
        yield write(X, 1)

    return with_main(poll, setter)


def counters(*lengths: int) -> Program:
    """Tasks that each add so often to one word: all interleavings differ, none blocks."""

    def body(length: int) -> Body:
        def adds() -> Generator[Op, Any, None]:
            for _ in range(length):
                yield add(X, 1)

        return adds

    return Program(tuple(body(length) for length in lengths))


def branching() -> Program:
    """What one does, and how long it takes, depends on what the other did before."""

    def one() -> Generator[Op, Any, None]:
        if (yield read(X)):
            yield write(Y, 1)
            yield lock(Z)
            yield unlock(Z)
        else:
            yield lock(Z)
            yield write(Y, 2)
            yield unlock(Z)

    def two() -> Generator[Op, Any, None]:
        yield lock(Z)
        yield write(X, 1)
        yield unlock(Z)
        if (yield read(Y)) == 2:
            yield write(X, 0)

    return Program((one, two))
