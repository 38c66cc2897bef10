"""Systematic search within a bound: depth first, by running the program again.

A *base scheduler* orders the enabled tasks at each choice point; taking another
than its first costs something.  The search makes every choice sequence that
costs no more than the bound, bound 0 first, then 1, and so on: cheap schedules,
which is where most bugs are, come before dear ones, and memory is one path.

Nothing is assumed of the program but that the same choices lead to the same
choice point: a path of branches is kept (those points where more than one
choice was affordable), and an execution follows it, then the base scheduler,
noting new branches as it goes; afterwards the deepest branch with a choice left
takes it, and all below is forgotten.  So points that exist only under some choices are found
where they exist.  An execution that does not repeat its path (other tasks enabled
at a branch, or before other events) is noticed, counted and named in the claim.

Each round repeats those of the round before: about c in k*(n-1) at cost c, k
points and n tasks.  When a round was nowhere held back by its bound, that was all.

A task that passes `patience` choice points in a row while others could run has
to give way, at no cost: a poll that is never answered is not a schedule that
ends.  The claim names it where it happened.

Leases: over the path, up to its next departure from the base scheduler; after
it, without end once nothing can be afforded.  Between, the search must see who is enabled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from uvm_async.errors import UsageError
from uvm_async.race.model import Point, Profile, Result
from uvm_async.race.strategies.base import FOREVER, Strategy

__all__ = ["BoundedSearch"]


@dataclass(slots=True)
class _Branch:
    """A choice point at which more than one choice can be afforded."""

    step: int
    choices: tuple[tuple[int, int], ...]
    """(task, what it costs), the base scheduler's choice first."""
    pending: tuple[tuple[int, int, int], ...]
    """(kind, instruction, address) of what each enabled task was about to do."""
    taken: int = 0

    @property
    def departs(self) -> bool:
        return self.taken > 0


def _pending(point: Point) -> tuple[tuple[int, int, int], ...]:
    events = [point.pending[task] for task in point.enabled]
    return tuple((int(event.kind), event.ip, event.addr) for event in events)


class BoundedSearch(Strategy):
    """Every schedule that costs at most `bound`."""

    systematic = True
    unit: ClassVar[tuple[str, str]] = ("departure", "departures")
    """What is counted: one, several."""

    def __init__(self, seed: int, *, bound: int, patience: int) -> None:
        super().__init__(seed)
        if bound < 0 or patience < 1:
            raise UsageError(f"strategy {self.name}: bound is 0 or more, patience 1 or more")
        self.bound = bound
        self.patience = patience
        self.executions = 0
        self.nondeterministic = 0
        """Executions that did not repeat the path they were to follow."""
        self._round = 0
        """The bound of this round."""
        self._held_back = False
        """In this round something could not be afforded."""
        self._impatient = False
        """A task had to give way for polling."""
        self._path: list[_Branch] = []
        self._next = 0
        self._departures: list[int] = []
        """Steps at which this execution leaves the base scheduler, the next one last."""
        self._left = 0
        self._lost = False
        self._turn: int | None = None
        """Whose turn it is, that is who was chosen last,"""
        self._since = 0
        """and from which step on."""
        self._step = 0

    # -- what a base scheduler is ------------------------------------------------------------

    def costs(self, order: tuple[int, ...], goes_on: bool) -> tuple[int, ...]:
        """What each task of `order` costs. `goes_on`: the first runs now and could go on."""
        raise NotImplementedError

    # -- the protocol ------------------------------------------------------------------------

    def begin(self, profile: Profile) -> None:
        self._next, self._left = 0, self._round
        self._departures = [branch.step for branch in reversed(self._path) if branch.departs]
        self._lost = self.finished
        self._turn, self._since = None, 0

    def choose(self, point: Point) -> int:
        self._step = point.step
        choices = self._choices(point)
        task, cost = choices[self._which(point, choices)]
        self._left -= cost
        if task != self._turn or point.step - self._since >= self.patience:
            self._since = point.step
        self._turn = task
        return task

    def lease(self) -> int:
        tired = self._since + self.patience
        while self._departures and self._departures[-1] <= self._step:
            self._departures.pop()
        if self._departures and not self._lost:
            return min(self._departures[-1], tired) - self._step - 1
        if self._left > 0 and not self._lost:
            return 0
        return tired - self._step - 1

    def end(self, result: Result) -> None:
        if self.finished:
            return
        self.executions += 1
        self._pass_by(FOREVER)
        if self._lost:
            self.nondeterministic += 1
        while self._path and self._path[-1].taken + 1 == len(self._path[-1].choices):
            self._path.pop()
        if self._path:
            self._path[-1].taken += 1
        elif self._held_back and self._round < self.bound:
            self._round += 1
            self._held_back = False
        else:
            self.finished = True

    def claim(self) -> str:
        if not self._held_back:
            said = "every schedule"
        else:
            unit = self.unit[self._round != 1]
            said = f"every schedule with at most {self._round} {unit}"
        if self._impatient:
            said += f" in which no task passes {self.patience} choice points in a row"
        if self.nondeterministic:
            said += (
                f", but for what {self.nondeterministic} of {self.executions} executions hid "
                "by not repeating themselves"
            )
        return said

    # -- the search --------------------------------------------------------------------------

    def _choices(self, point: Point) -> tuple[tuple[int, int], ...]:
        """The enabled tasks in the base scheduler's order, with their costs."""
        enabled, last = point.enabled, point.last
        goes_on = point.current is not None
        order = tuple(t for t in enabled if t >= last) + tuple(t for t in enabled if t < last)
        if (
            goes_on
            and len(order) > 1
            and last == self._turn
            and point.step - self._since >= self.patience
        ):
            order, goes_on, self._impatient = order[1:], False, True
        return tuple(zip(order, self.costs(order, goes_on), strict=True))

    def _which(self, point: Point, choices: tuple[tuple[int, int], ...]) -> int:
        """Which of the choices this execution takes."""
        self._pass_by(point.step)
        if self._lost:
            return 0
        if self._next < len(self._path):
            branch = self._path[self._next]
            if branch.step > point.step:
                return 0
            affordable = tuple(c for c in choices if c[1] <= self._left)
            if affordable != branch.choices or _pending(point) != branch.pending:
                self._lose()
                return 0
            self._next += 1
            return choices.index(branch.choices[branch.taken])
        affordable = tuple(c for c in choices if c[1] <= self._left)
        if len(affordable) < len(choices) or self._left == 0:
            self._held_back = True
        if len(affordable) > 1:
            self._path.append(_Branch(point.step, affordable, _pending(point)))
            self._next += 1
        return 0

    def _pass_by(self, step: int) -> None:
        """Leave behind the branches before `step` that a lease has covered."""
        while not self._lost and self._next < len(self._path):
            branch = self._path[self._next]
            if branch.step >= step:
                return
            if branch.departs:
                self._lose()
                return
            self._next += 1

    def _lose(self) -> None:
        """The execution has left the path: what was to come below is not there."""
        del self._path[self._next :]
        self._lost = True
