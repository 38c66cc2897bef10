"""Which accesses of an execution were not ordered by anything but chance.

Vector clocks in the manner of FastTrack (Flanagan and Freund, PLDI 2009), kept for each byte, so
that neighbours in a word are never taken for one another.

What a binary cannot tell is which plain moves are atomics: on this processor acquire and release
*are* plain moves.  So a plain move that could be one (at most 8 bytes, aligned) is taken to be one:
what it reads, it acquires from the writer; what it writes, it releases.  What no compiler makes of
an atomic, orders nothing:

- the two halves of an instruction that reads and writes memory without `lock`;
- an access of more than 8 bytes, or one that is not aligned.

What the kernel copies for a call belongs to that call: it comes after what the call waited for, and
before what the call lets go on, wherever in the recording it stands.

From this follow three verdicts:

DATA_RACE     unordered, and one of the two is certainly no atomic.
LOST_UPDATE   a task wrote over a value that another had written since it last looked, unordered,
              and the two values differ; not where the word is plainly a means of synchronisation.
UNORDERED     unordered, but both may be atomics; with `atomic_like` set where locked instructions,
              futexes or a spin on the word say that they are.

Only the first two accuse.  Wherever knowledge is missing (a lock's release that the recording does
not show, a join that left no trace), an order is assumed, so that a correct program is never
accused; races may be missed.  Recording the accesses of library code to watched words, too, makes
it exact: library code is trusted, and everything it does orders.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from uvm_async.race.model import Event, Kind
from uvm_async.race.ordering import (
    ONLY_ACQUIRE,
    ONLY_RELEASE,
    SIGNALS,
    SILENT,
    fits,
    means_of_synchronisation,
    own_times,
    unlocked_updates,
)
from uvm_async.race.trace import END_CALLS, NEW_TASK_CALLS, Step, synchronisation

__all__ = ["Race", "Verdict", "find_races"]

WORD_BYTES = 8
LOCK_WORDS = 7
"""A lock of glibc's (at most 56 bytes) is one object: it orders as a whole."""


class Verdict(enum.Enum):
    """How much is certain."""

    DATA_RACE = "data race"
    LOST_UPDATE = "lost update"
    UNORDERED = "unordered"


@dataclass(frozen=True, slots=True)
class Race:
    """Two accesses to one word that nothing orders, in the order they had this time."""

    first: Event
    second: Event
    word: int
    """addr // 8"""
    verdict: Verdict
    atomic_like: bool = False
    first_step: int = -1
    second_step: int = -1

    @property
    def accuses(self) -> bool:
        """Is it certain that the program is wrong?"""
        return self.verdict is not Verdict.UNORDERED


Clock = dict[int, int]


@dataclass(slots=True)
class _Byte:
    """What is remembered of one byte of memory."""

    writer: int = -1
    """Step of the last write."""
    written_at: int = 0
    """The writer's own time then."""
    readers: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Reads since: task -> (its time, step)."""
    seen: dict[int, int] = field(default_factory=dict)
    """task -> the write (step, -1: none) whose value it has read here, not having written since"""
    released: Clock = field(default_factory=dict)


def find_races(
    steps: Sequence[Step] | Sequence[Event],
    *,
    is_library: Callable[[int], bool] = lambda ip: False,
    processes: Mapping[int, int] | None = None,
    shared: Sequence[tuple[int, int]] = (),
    atomic_words: frozenset[int] = frozenset(),
    runs_straight: Callable[[int, int], bool] = lambda start, end: False,
) -> list[Race]:
    """All pairs of instructions that race in this execution, once each, in order of the second.

    `is_library` tells by its ip whether an access is the C library's own (not memcpy's on behalf
    of the user); `processes` which tasks share all their memory (task -> any number), `shared`
    the stretches that all processes share. `atomic_words` are known means of synchronisation;
    `runs_straight` tells of two instructions that nothing is called between them.
    """
    plain = [step if isinstance(step, Step) else Step(step) for step in steps]
    return _Detector(plain, is_library, processes or {}, shared, atomic_words, runs_straight).run()


class _Detector:
    def __init__(
        self,
        steps: Sequence[Step],
        is_library: Callable[[int], bool],
        processes: Mapping[int, int],
        shared: Sequence[tuple[int, int]],
        atomic_words: frozenset[int],
        runs_straight: Callable[[int, int], bool],
    ) -> None:
        self._steps = steps
        self._runs_straight = runs_straight
        self._is_library = is_library
        self._processes = processes
        self._shared = shared
        self._halves = unlocked_updates(steps)
        self._atomic = atomic_words | means_of_synchronisation(steps, is_library)
        self._clocks: dict[int, Clock] = {}
        self._bytes: dict[tuple[int, int], _Byte] = {}
        self._lock_words: dict[tuple[int, int], Clock] = {}
        self._users: dict[tuple[int, int], set[int]] = {}
        self._values: dict[tuple[int, int], tuple[int, int | None]] = {}
        self._kernel: Clock = {}
        self._everybody: Clock = {}
        self._ended: dict[int, Clock] = {}
        self._birth: dict[int, tuple[int, int]] = {}
        self._joined: dict[int, set[int]] = {}
        self._latest: dict[int, Event] = {}
        self._called_at: dict[int, int] = {}
        """task -> its own time when it last entered a call or came back from one"""
        self._edges: dict[int, list[int]] = {}
        self._at_step: dict[int, Clock] = {}
        self._found: dict[tuple[object, ...], Race] = {}
        times = own_times(steps)
        for edge in synchronisation(steps):
            self._edges.setdefault(edge.target, []).append(edge.source)
            if edge.kind == "start":
                child, parent = steps[edge.target].event.task, steps[edge.source].event.task
                self._birth[child] = (parent, times[edge.source])
        self._sources = {source for sources in self._edges.values() for source in sources}

    def run(self) -> list[Race]:
        for at, step in enumerate(self._steps):
            event = step.event
            clock = self._clocks.setdefault(event.task, {event.task: 1})
            _join(clock, self._everybody)
            self._order_by_hidden_joins(event, clock)
            for source in self._edges.get(at, ()):
                _join(clock, self._at_step.get(source, {}))
            if event.is_access:
                self._access(at, step, clock)
            else:
                self._called_at[event.task] = clock[event.task]
                self._call(event, clock)
            self._latest[event.task] = event
            if at in self._sources:
                self._at_step[at] = dict(clock)
            clock[event.task] += 1
        return sorted(self._found.values(), key=lambda r: (r.second_step, r.first_step))

    # -- calls -----------------------------------------------------------------------------

    def _call(self, event: Event, clock: Clock) -> None:
        if event.kind == Kind.START or not event.call:
            return
        if event.call == "futex" and event.addr:
            # Whoever sleeps or wakes here has been in the lock's code: it orders as a lock does.
            self._order_by_lock(event, clock)
        if event.call in SIGNALS:
            # A handler may run at once.
            _join(self._everybody, clock)
        elif event.call in END_CALLS:
            if event.kind == Kind.CALL:
                self._ended[event.task] = dict(clock)
        elif event.call not in SILENT and event.call not in NEW_TASK_CALLS:
            if event.call not in ONLY_RELEASE:
                _join(clock, self._kernel)
            if event.call not in ONLY_ACQUIRE:
                _join(self._kernel, clock)

    def _order_by_lock(self, event: Event, clock: Clock) -> None:
        space = self._space(event)
        for word in range(event.objects.start - LOCK_WORDS, event.objects.stop + LOCK_WORDS):
            _join(clock, self._lock_words.get((space, word), {}))
        for word in event.objects:
            _join(self._lock_words.setdefault((space, word), {}), clock)

    # -- accesses --------------------------------------------------------------------------

    def _space(self, event: Event) -> int:
        """Which memory an address is of: a process's own, or (-1) everybody's."""
        if any(start <= event.addr < end for start, end in self._shared):
            return -1
        return self._processes.get(event.task, 0)

    def _access(self, at: int, step: Step, clock: Clock) -> None:
        event = step.event
        space = self._space(event)
        trusted = self._trusts(event)
        may_be_atomic = event.locked or trusted or (at not in self._halves and fits(event))
        cells = [
            self._bytes.setdefault((space, byte), _Byte())
            for byte in range(event.addr, event.addr + max(event.size, 1))
        ]
        if event.locked or trusted:
            self._order_by_hidden_release(step, space, clock, trusted)
        if trusted:
            self._order_by_lock(event, clock)
        else:
            self._judge(at, event, cells, clock, may_be_atomic)
        if may_be_atomic and event.reads:
            for cell in cells:
                _join(clock, cell.released)
        self._remember(at, event, cells, clock, may_be_atomic)
        self._remember_value(step, space)

    def _trusts(self, event: Event) -> bool:
        """Is it the library's own affair? A call's copies are not, wherever the call stands."""
        return not event.by_kernel and self._is_library(event.ip)

    def _judge(
        self, at: int, event: Event, cells: list[_Byte], clock: Clock, may_be_atomic: bool
    ) -> None:
        """Is there an earlier access that conflicts and is not before this one?"""
        others: dict[int, None] = {}
        for cell in cells:
            if cell.writer >= 0:
                writer = self._steps[cell.writer].event.task
                if writer != event.task and cell.written_at > clock.get(writer, 0):
                    others[cell.writer] = None
            if event.writes:
                for reader, (time, step) in cell.readers.items():
                    if reader != event.task and time > clock.get(reader, 0):
                        others[step] = None
        for other in others:
            verdict = self._verdict(other, at, event, cells, may_be_atomic)
            if verdict is Verdict.DATA_RACE or not event.locked:
                self._report(other, at, verdict)

    def _verdict(
        self, other: int, at: int, event: Event, cells: list[_Byte], may_be_atomic: bool
    ) -> Verdict:
        first = self._steps[other].event
        if self._trusts(first):
            return Verdict.UNORDERED
        if not may_be_atomic or not (first.locked or (other not in self._halves and fits(first))):
            return Verdict.DATA_RACE
        if (
            event.writes
            and first.writes
            and not self._atomic.intersection(event.objects)
            and any(cell.seen.get(event.task, at) < cell.writer == other for cell in cells)
            and self._steps[other].after is not None
            and self._steps[at].after is not None
            and (first.addr, first.size) == (event.addr, event.size)
            and self._steps[other].after != self._steps[at].after
        ):
            return Verdict.LOST_UPDATE
        return Verdict.UNORDERED

    def _report(self, other: int, at: int, verdict: Verdict) -> None:
        first, second = self._steps[other].event, self._steps[at].event
        word = max(first.objects.start, second.objects.start)
        race = Race(
            first,
            second,
            word,
            verdict,
            atomic_like=bool(self._atomic.intersection(second.objects)),
            first_step=other,
            second_step=at,
        )
        pair = frozenset(((first.ip, first.kind), (second.ip, second.kind)))
        key = (pair, word) if first.ip and second.ip else (other, at)
        known = self._found.get(key)
        if known is None or (race.accuses and not known.accuses):
            self._found[key] = race

    def _remember(
        self, at: int, event: Event, cells: list[_Byte], clock: Clock, may_be_atomic: bool
    ) -> None:
        task = event.task
        now = self._called_at.get(task, clock[task]) if event.by_kernel else clock[task]
        step = self._steps[at]
        changes = event.writes and not (
            event.kind == Kind.UPDATE and step.after is not None and step.after == event.value
        )
        released = dict(clock) if may_be_atomic else {}
        if event.locked:
            # One indivisible step more in a chain: who acquires it acquires the chain.
            for cell in cells:
                _join(released, cell.released)
        for cell in cells:
            if event.reads:
                cell.seen[task] = cell.writer
                cell.readers[task] = (now, at)
            if changes:
                cell.seen.pop(task, None)
                cell.writer, cell.written_at = at, now
                cell.readers.clear()
                cell.released = released

    # -- what the recording does not show --------------------------------------------------

    def _order_by_hidden_joins(self, event: Event, clock: Clock) -> None:
        """pthread_join of a thread that has ended may leave no trace. So a task may have joined
        every ended task that it can know of, unless it has called nothing since."""
        if not self._ended:
            return
        joined = self._joined.setdefault(event.task, set())
        for task, end in self._ended.items():
            if task == event.task or task in joined:
                continue
            parent, born = self._birth.get(task, (-1, 0))
            if parent >= 0 and clock.get(parent, 0) < born:
                continue
            if self._stays(self._latest.get(event.task), event):
                continue
            joined.add(task)
            _join(clock, end)

    def _stays(self, latest: Event | None, event: Event) -> bool:
        """Has the task surely called nothing since its latest event? Only of two accesses to one
        object, first read, then written, is it asked; all else may have come by another way."""
        if latest is None or latest.kind != Kind.READ or not event.writes or not event.is_access:
            return False
        if not latest.ip or (latest.addr, latest.size) != (event.addr, event.size):
            return False
        return latest.ip == event.ip or self._runs_straight(latest.ip, event.ip)

    def _order_by_hidden_release(self, step: Step, space: int, clock: Clock, trusted: bool) -> None:
        """A locked instruction that finds what no recorded write has left: somebody of those who
        have used the word has released it by a plain store that was not recorded."""
        event = step.event
        word = (space, event.objects.start)
        key = (space, event.addr)
        size, value = self._values.get(key, (event.size, None))
        explained = size == event.size and value == event.value
        if word in self._users and not explained:
            for user in self._users[word]:
                if user != event.task:
                    known = self._clocks[user]
                    # A task's own time is that of what it does next.
                    _join(clock, {**known, user: known[user] - 1})
        self._users.setdefault(word, set()).add(event.task)
        if trusted:
            for near in range(word[1] - LOCK_WORDS, word[1] + LOCK_WORDS + 1):
                if near != word[1]:
                    _join(clock, self._lock_words.get((space, near), {}))

    def _remember_value(self, step: Step, space: int) -> None:
        event = step.event
        key = (space, event.addr)
        if event.writes:
            for near in range(event.addr - WORD_BYTES + 1, event.addr + WORD_BYTES):
                self._values.pop((space, near), None)
            self._values[key] = (event.size, step.after)
        else:
            self._values[key] = (event.size, event.value)


def _join(clock: Clock, other: Mapping[int, int]) -> None:
    for task, time in other.items():
        if time > clock.get(task, 0):
            clock[task] = time
