"""What a strategy is: it answers which task goes on at a choice point, and for how long.

One object lives through a whole exploration.  For each execution it is told
`begin`, asked `choose` and then `lease` at each choice point that no earlier
lease covers, and told `end`.  An answer may depend on nothing but the seed and
what the strategy was shown, so that an exploration is a function of its seed.

A lease of n lets the chosen task pass n further choice points unasked.  It ends
early when the enabled tasks are no longer those of the choice: the chosen one
cannot go on (it sleeps, has ended, or spins), another was born or woken.  So
nobody is passed over whom the strategy has not seen, and a lease says no more
than the strategy would have answered had it been asked: with leases or
without, the schedules are the same.

Invariants: memory is bounded (corpora, tables and logs have limits); nothing
unordered is iterated.
"""

from __future__ import annotations

import importlib
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any, ClassVar, Final, TypeVar

from uvm_async.errors import UsageError
from uvm_async.race.model import Point, Profile, Result

__all__ = ["FOREVER", "Strategy", "make_strategy", "strategy", "strategy_names", "successor"]

FOREVER: Final = 1 << 30
"""A lease without end: as long as the same tasks are enabled. Fits a C int."""


class Strategy:
    """Base: whoever runs goes on; if it cannot, the first that can."""

    name: ClassVar[str] = ""
    """As `--strategy` takes it; set by the decorator."""
    systematic: ClassVar[bool] = False
    """It covers schedules one by one, each following from those before, and ends: the words that
    are watched stand still, and the search is not split among jobs."""
    uses_events: ClassVar[bool] = False
    """Wants `Result.events` (of what has happened after its last question)."""
    finished: bool = False
    """A systematic search has covered all it promised. Further executions are allowed, and idle."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def begin(self, profile: Profile) -> None:
        """A new execution starts."""

    def choose(self, point: Point) -> int:
        """The task, a member of `point.enabled`, that runs next."""
        if point.current is not None and point.current in point.enabled:
            return point.current
        return point.enabled[0]

    def lease(self) -> int:
        """Called right after `choose`: choice points that the chosen task may pass unasked."""
        return 0

    def end(self, result: Result) -> None:
        """The execution is over. Events after the last question are in `result.events` alone."""

    def claim(self) -> str:
        """What may be said of coverage once `finished`; empty if nothing may."""
        return ""


def successor(enabled: tuple[int, ...], after: int | None) -> int:
    """The enabled task with the next higher number than `after`, cyclically."""
    if after is not None:
        for task in enabled:
            if task > after:
                return task
    return enabled[0]


S = TypeVar("S", bound=type[Strategy])
_STRATEGIES: dict[str, type[Strategy]] = {}


def strategy(name: str) -> Callable[[S], S]:
    """Register a strategy class under the name that `--strategy` takes."""

    def register(cls: S) -> S:
        cls.name = name
        _STRATEGIES[name] = cls
        return cls

    return register


def strategy_names() -> list[str]:
    """Registered names."""
    return sorted(_STRATEGIES)


def make_strategy(name_with_options: str, seed: int) -> Strategy:
    """A fresh strategy from `name`, `name:option=value,...` or `package.module:Class[:options]`.

    Options are the constructor's keyword-only arguments.  Raises UsageError for a name nobody
    has registered, a class that cannot be found, and an option that is unknown or ill-spelt.
    """
    name, _, rest = name_with_options.partition(":")
    cls = _STRATEGIES.get(name)
    if cls is None:
        attribute, _, options = rest.partition(":")
        if not attribute.isidentifier():
            raise UsageError(
                f"unknown strategy {name!r}: choose one of {', '.join(strategy_names())}, "
                "or name your own as package.module:Class"
            )
        cls, rest = _find(name, attribute), options
    return cls(seed, **_parse(name_with_options, cls, rest))


def _find(module: str, attribute: str) -> type[Strategy]:
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except Exception as error:  # the user's module runs here: it may raise anything
        reason = str(error).splitlines()[0] if str(error) else ""
        raise UsageError(
            f"unknown strategy '{module}:{attribute}': cannot import {module!r} "
            f"({type(error).__name__}: {reason}); built in are {', '.join(strategy_names())}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Strategy)):
        raise UsageError(
            f"{module}:{attribute} is not a strategy: "
            "write a subclass of uvm_async.race.strategies.Strategy"
        )
    return found


def _parse(spelling: str, cls: type[Strategy], text: str) -> dict[str, Any]:
    takes = _options_of(cls)
    options: dict[str, Any] = {}
    for item in text.split(",") if text else []:
        key, equals, value = item.partition("=")
        if not equals or key not in takes:
            known = ", ".join(f"{k}=<{t.__name__}>" for k, t in takes.items()) or "none"
            raise UsageError(f"strategy {spelling!r}: no option {item!r}; its options: {known}")
        try:
            options[key] = takes[key](value)
        except ValueError:
            raise UsageError(
                f"strategy {spelling!r}: {key} must be <{takes[key].__name__}>, not {value!r}"
            ) from None
    return options


def _options_of(cls: type[Strategy]) -> dict[str, type[Any]]:
    """Keyword-only arguments of the constructor, and the type each is read as."""
    hints = typing.get_type_hints(cls.__init__)
    takes: dict[str, type[Any]] = {}
    for name, parameter in inspect.signature(cls.__init__).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            takes[name] = _plain(hints.get(name, str))
    return takes


def _plain(hint: Any) -> type[Any]:
    """int, float or str, whichever `hint` (possibly `... | None`) names; str for all else."""
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    for kind in (int, float):
        if hint is kind or (union and kind in typing.get_args(hint)):
            return kind
    return str
