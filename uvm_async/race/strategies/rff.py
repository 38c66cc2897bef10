"""RFF, the reads-from fuzzer: which write does each read see?

Wolff, Shi, Duck, Mathur, Roychoudhury, "Greybox Fuzzing for Concurrency
Testing", ASPLOS 2024.

What a program computes depends on its schedule only through which write each
read takes its value from.  So a schedule is described *abstractly*, by a few
constraints: "this read takes from that write", "this read does not take from
that write".  An abstract event is an instruction and the word it touches (an
address, as the machine shows no other name of an object); the write may be
"what stood there at the start".

Each execution is given an abstract schedule, and pushed towards it: a task is
held back while its next event would break a constraint, and preferred where its
next event is what a constraint waits for (one small automaton per constraint,
below).  Held back is never blocked: if everybody is, all may go, and a
constraint that has held somebody back for too long is given up.  All else is
decided as in POS.

Feedback: an execution that shows a reads-from pair never seen before, or a
failure of a new kind, adds its abstract schedule to the corpus.  New ones are mutations of those:
a constraint inserted, deleted, swapped for another, or negated.  How many a
parent gets doubles each time it is chosen, up to 32, but none while what it led to is
commoner than the average (the cut-off exponential power schedule).  The empty one is
run as it is when its turn comes, and then always mutated.

Guarantee: none on probability.  POS's holds for the empty abstract schedule, which
stays in the corpus; no schedule is ruled out.

No leases: what pends decides.  Only a task that is alone goes on unasked.
"""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass
from typing import TypeAlias

from uvm_async.race.model import Event, Point, Profile, Result
from uvm_async.race.strategies.base import FOREVER, Strategy, strategy
from uvm_async.race.strategies.handovers import Handovers
from uvm_async.race.strategies.pos import EventPriorities

__all__ = ["Constraint", "Rff"]

MAX_CONSTRAINTS = 16
MAX_CORPUS = 256
MAX_WORDS = 4096
MAX_SIDES = 64
"""Abstract reads, and abstract writes, that are remembered of one word."""
MAX_PAIRS = 65_536
MAX_CLASSES = 4096
MAX_ENERGY = 32
PATIENCE = 1000
"""Choice points for which a constraint may hold somebody back, at least."""

Abstract: TypeAlias = tuple[int, int]
"""(address of the instruction, or 0 for what stood there at the start; word)"""


@dataclass(frozen=True, slots=True)
class Constraint:
    """`reader` takes (or does not take) its value from `writer`."""

    positive: bool
    writer: Abstract
    reader: Abstract

    @property
    def word(self) -> int:
        """The word it is about."""
        return self.reader[1]

    def negated(self) -> Constraint:
        """The same pair, the other way."""
        return Constraint(not self.positive, self.writer, self.reader)


class _State(enum.Enum):
    WRITE = enum.auto()
    """Positive: the write is yet to come; hold readers back."""
    READ = enum.auto()
    """Positive: the word holds what was written; hold other writers back."""
    AVOID = enum.auto()
    """Negative: as long as it lasts."""
    DONE = enum.auto()


class _Automaton:
    """Pushes one execution towards one constraint."""

    def __init__(self, constraint: Constraint) -> None:
        self.constraint = constraint
        self.held = 0
        """Choice points at which it has held somebody back."""
        initial = constraint.writer[0] == 0
        if not constraint.positive:
            self.state = _State.AVOID
        else:
            self.state = _State.READ if initial else _State.WRITE

    def push(self, event: Event, holds: Abstract, awaited: bool) -> int:
        """-1: hold `event`, on the word, back; 1: prefer it; 0: no matter.

        `holds` is who wrote the word last; `awaited`: the reader pends somewhere.
        """
        rule, here = self.constraint, (event.ip, self.constraint.word)
        is_reader = event.reads and here == rule.reader
        is_writer = event.writes and here == rule.writer
        if self.state is _State.WRITE:
            if is_writer:
                return int(awaited)
            return -int(is_reader)
        if self.state is _State.READ:
            if is_reader:
                return 1
            return -int(event.writes)
        if self.state is _State.AVOID:
            if is_reader:
                return -1 if holds == rule.writer else 1
            return -int(is_writer and awaited)
        return 0

    def saw(self, event: Event, held: Abstract) -> None:
        """`event`, on the word, has happened; before, the word held what `held` wrote."""
        rule, here = self.constraint, (event.ip, self.constraint.word)
        if self.state not in (_State.WRITE, _State.READ):
            return
        if event.reads and here == rule.reader and held == rule.writer:
            self.state = _State.DONE
        elif event.writes:
            if here == rule.writer:
                self.state = _State.READ
            else:
                self.state = _State.DONE if rule.writer[0] == 0 else _State.WRITE


@dataclass(slots=True)
class _Entry:
    """An abstract schedule that has shown something new."""

    constraints: tuple[Constraint, ...]
    shown: int
    """Class of the execution (its set of reads-from pairs) that put it here."""
    chosen: int = 0


@strategy("rff")
class Rff(Strategy):
    """Greybox fuzzing over reads-from constraints."""

    uses_events = True

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._rng = random.Random(f"{seed}-rff")
        self._priorities = EventPriorities(random.Random(f"{seed}-rff-pos"))
        # What is known of the program. Dicts serve as ordered sets.
        self._readers: dict[int, dict[Abstract, None]] = {}
        self._writers: dict[int, dict[Abstract, None]] = {}
        self._contended: list[int] = []
        """Words that have been both read and written."""
        self._handovers = Handovers()
        self._seen: set[tuple[Abstract, Abstract]] = set()
        self._failures: set[str] = set()
        self._classes: dict[int, int] = {}
        """Set of reads-from pairs, hashed -> executions that showed it."""
        # The corpus, and who is being mutated.
        self._corpus: list[_Entry] = [_Entry((), 0)]
        self._turn = 0
        self._energy = 0
        # This execution.
        self._constraints: tuple[Constraint, ...] = ()
        self._automata: dict[int, list[_Automaton]] = {}
        self._last: dict[int, Abstract] = {}
        self._pairs: set[tuple[Abstract, Abstract]] = set()
        self._told = 0
        """Events that have been observed."""
        self._patience = PATIENCE
        self._alone = False

    # -- the protocol ------------------------------------------------------------------------

    def begin(self, profile: Profile) -> None:
        self._constraints = self._next_schedule()
        self._automata = {}
        for rule in self._constraints:
            self._automata.setdefault(rule.word, []).append(_Automaton(rule))
        self._last = {}
        self._handovers.begin()
        self._pairs = set()
        self._told = 0
        self._patience = max(PATIENCE, profile.steps)
        self._priorities.clear()

    def choose(self, point: Point) -> int:
        self._told += len(point.executed)
        for event in point.executed:
            self._observe(event)
        self._priorities.update(point, conflicts=True)
        self._alone = len(point.enabled) == 1
        if self._alone or not self._automata:
            return self._priorities.highest(point.enabled)
        pushes = self._pushes(point)
        return max(point.enabled, key=lambda task: (pushes.get(task, 0), self._priorities[task]))

    def lease(self) -> int:
        return FOREVER if self._alone else 0

    def end(self, result: Result) -> None:
        for event in result.events[self._told :]:
            self._observe(event)
        shown = hash(frozenset(self._pairs))
        if shown in self._classes or len(self._classes) < MAX_CLASSES:
            self._classes[shown] = self._classes.get(shown, 0) + 1
        new = not self._pairs <= self._seen
        if new and len(self._seen) < MAX_PAIRS:
            self._seen |= self._pairs
        if result.failure and result.failure not in self._failures:
            new = True
            if len(self._failures) < MAX_CLASSES:
                self._failures.add(result.failure)
        if new and self._constraints:
            self._keep(_Entry(self._constraints, shown))

    # -- one execution -----------------------------------------------------------------------

    def _pushes(self, point: Point) -> dict[int, int]:
        """task -> -1 if any constraint holds it back, else 1 if any prefers it."""
        pending = {t: e for t, e in point.pending.items() if e.is_access and t in point.enabled}
        awaited = {(e.ip, word) for e in pending.values() if e.reads for word in e.objects}
        pushes: dict[int, int] = {}
        holding: dict[Constraint, _Automaton] = {}
        for task in point.enabled:
            event = pending.get(task)
            if event is None:
                continue
            for word in event.objects:
                holds = self._last.get(word, (0, word))
                for automaton in self._automata.get(word, ()):
                    push = automaton.push(event, holds, automaton.constraint.reader in awaited)
                    if push < 0:
                        holding[automaton.constraint] = automaton
                    before = pushes.get(task, 0)
                    pushes[task] = -1 if push < 0 or before < 0 else max(push, before)
        for automaton in holding.values():
            automaton.held += 1
            if automaton.held > self._patience:
                automaton.state = _State.DONE
        return pushes

    def _observe(self, event: Event) -> None:
        if not event.is_access:
            return
        self._handovers.saw(event)
        for word in event.objects:
            here = (event.ip, word)
            held = self._last.get(word, (0, word))
            for automaton in self._automata.get(word, ()):
                automaton.saw(event, held)
            if event.reads:
                self._learn(self._readers, word, here)
                if len(self._pairs) < MAX_PAIRS:
                    self._pairs.add((held, here))
            if event.writes:
                self._learn(self._writers, word, here)
                self._last[word] = here

    def _learn(self, sides: dict[int, dict[Abstract, None]], word: int, here: Abstract) -> None:
        known = sides.get(word)
        if known is None:
            if len(sides) >= MAX_WORDS:
                return
            known = sides[word] = {}
            other = self._writers if sides is self._readers else self._readers
            if word in other:
                self._contended.append(word)
        if len(known) < MAX_SIDES:
            known[here] = None

    # -- the corpus --------------------------------------------------------------------------

    def _next_schedule(self) -> tuple[Constraint, ...]:
        """The empty one when its turn comes, else a mutation of the one whose turn it is."""
        while self._energy == 0:
            self._turn = (self._turn + 1) % len(self._corpus)
            entry = self._corpus[self._turn]
            self._energy = self._assign(entry)  # the empty one always gets some
            if not entry.constraints:
                return ()
        self._energy -= 1
        return self._mutate(self._corpus[self._turn].constraints)

    def _assign(self, entry: _Entry) -> int:
        """How many mutations `entry` gets."""
        total = sum(self._classes.values())
        if entry.constraints and self._classes.get(entry.shown, 0) * len(self._classes) > total:
            return 0
        energy = min(1 << min(entry.chosen, 10), MAX_ENERGY)
        entry.chosen += 1
        return energy

    def _keep(self, entry: _Entry) -> None:
        if len(self._corpus) >= MAX_CORPUS:
            del self._corpus[1]  # the oldest; the first is the empty one
            self._turn = max(self._turn - 1, 0)
        self._corpus.append(entry)

    def _mutate(self, constraints: tuple[Constraint, ...]) -> tuple[Constraint, ...]:
        """`constraints` with one change, or several: each further one with probability 1/2."""
        changed = list(constraints)
        while True:
            self._change(changed)
            if self._rng.random() < 0.5:
                return tuple(changed)

    def _change(self, rules: list[Constraint]) -> None:
        operators = ("insert", "swap", "delete", "negate") if rules else ("insert",)
        operator = self._rng.choice(operators)
        at = self._rng.randrange(len(rules)) if rules else 0
        if operator == "delete":
            del rules[at]
        elif operator == "negate":
            rules[at] = rules[at].negated()
        else:
            drawn = self._draw()
            if drawn is None or drawn in rules:
                return
            if operator == "swap":
                rules[at] = drawn
            elif len(rules) < MAX_CONSTRAINTS:
                rules.append(drawn)

    def _draw(self) -> Constraint | None:
        """A random constraint on a random word that is both read and written, mostly one that
        hands values from task to task."""
        if not self._contended:
            return None
        word = self._rng.choice(self._handovers.among(self._contended, self._rng))
        reader = self._rng.choice(list(self._readers[word]))
        writer = self._rng.choice([(0, word), *self._writers[word]])
        return Constraint(self._rng.random() < 0.5, writer, reader)
