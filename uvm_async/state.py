"""What a machine at rest is made of: a graph of plain objects.

Everything that must survive a freeze is an `Entity` (an object with identity:
task, inode, file, vma ...) or a plain value held by one.  The graph is pickled
*flat*: each entity's attributes are one record in a stream, and references
between entities are numbers, so depth never matters (a plain pickle of 300
nested processes overflows the C stack).

Invariants:
- attributes named in a class's `TRANSIENT` are not state: they are left out of
  the record and set to None on thaw (`thawed()` may set them up again);
- no coroutine, descriptor, memoryview or cffi pointer is ever a state attribute;
- order of records is order of first reach, hence a function of the graph.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable
from typing import Any, ClassVar

__all__ = ["Entity", "dump_graph", "fields_of", "load_graph"]


class Entity:
    """An object with identity that survives a freeze.

    Subclasses may declare `__slots__`; all slots and `__dict__` entries are state
    but those in `TRANSIENT`.
    """

    __slots__ = ()
    TRANSIENT: ClassVar[frozenset[str]] = frozenset()

    def thawed(self) -> None:
        """Called once, after the whole graph is there again."""


_FIELDS: dict[type, tuple[tuple[str, ...], frozenset[str], bool]] = {}


def fields_of(cls: type) -> tuple[tuple[str, ...], frozenset[str], bool]:
    """An entity class's slots, which of its attributes are no state, whether it has a dict."""
    known = _FIELDS.get(cls)
    if known is None:
        slots: list[str] = []
        transient: set[str] = set()
        for base in reversed(cls.__mro__):
            declared = base.__dict__.get("__slots__", ())
            slots += [declared] if isinstance(declared, str) else list(declared)
            transient |= base.__dict__.get("TRANSIENT", frozenset())
        has_dict = bool(cls.__dictoffset__)
        names = tuple(s for s in slots if s not in ("__dict__", "__weakref__"))
        known = _FIELDS[cls] = (names, frozenset(transient), has_dict)
    return known


def _state(entity: Entity) -> dict[str, Any]:
    slots, transient, has_dict = fields_of(type(entity))
    state = {
        name: getattr(entity, name)
        for name in slots
        if name not in transient and hasattr(entity, name)
    }
    if has_dict:
        state.update((k, v) for k, v in entity.__dict__.items() if k not in transient)
    return state


def _ref(number: int) -> Entity:
    raise pickle.UnpicklingError("entity reference outside load_graph")


class _Pickler(pickle.Pickler):
    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, protocol=5)
        self.numbers: dict[int, int] = {}
        self.order: list[Entity] = []

    def number(self, entity: Entity) -> int:
        number = self.numbers.get(id(entity))
        if number is None:
            number = self.numbers[id(entity)] = len(self.order)
            self.order.append(entity)
        return number

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Entity):
            return _ref, (self.number(obj),)
        return NotImplemented


def dump_graph(root: Entity) -> bytes:
    """Pickle everything reachable from `root`, flat."""
    stream = io.BytesIO()
    pickler = _Pickler(stream)
    pickler.number(root)
    done = 0
    while done < len(pickler.order):
        pickler.dump(_state(pickler.order[done]))
        done += 1
    tail = io.BytesIO()
    pickle.dump([type(entity) for entity in pickler.order], tail, protocol=5)
    classes = tail.getvalue()
    return len(classes).to_bytes(8, "little") + classes + stream.getvalue()


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, entities: list[Entity]) -> None:
        super().__init__(stream)
        self._entities = entities

    def find_class(self, module: str, name: str) -> Any:
        if name == "_ref" and module == __name__:
            return self._entities.__getitem__
        return super().find_class(module, name)


def load_graph(data: bytes) -> Entity:
    """The inverse of `dump_graph`: fresh objects, the same graph; answers the root.

    Raises `pickle.UnpicklingError` on data that is no graph. Unpickling runs code:
    load only what you dumped.
    """
    size = int.from_bytes(data[:8], "little")
    classes: Iterable[type[Entity]] = pickle.loads(data[8 : 8 + size])
    entities = [cls.__new__(cls) for cls in classes]
    unpickler = _Unpickler(io.BytesIO(data[8 + size :]), entities)
    for entity in entities:
        state: dict[str, Any] = unpickler.load()
        for name, value in state.items():
            setattr(entity, name, value)
        for name in fields_of(type(entity))[1]:
            setattr(entity, name, None)
    for entity in entities:
        entity.thawed()
    return entities[0]
