"""Going back: a machine's objects and memory as they were, in place.

A snapshot (uvm_async.snapshot) makes a new machine; exploring needs the same one
again, a thousand times a second.  So `Rewind` notes, for every mutable object of
the kernel's graph, what it holds, and puts that back into the very same object;
identities, and with them all links to hardware and to the outside, stay.

Memory is copied out and back range by range: allocator state, page tables in
use, frames in use.  What was allocated since is free again because the
allocator's own state lies in what is put back.

Counterpart in the field: snapshot fuzzing (Schumilo et al., "Nyx", USENIX Security 2021).
"""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING, Any

from uvm_async._host import ffi, lib
from uvm_async.arch.physmem import PAGE_SIZE, Physmem
from uvm_async.state import Entity, fields_of

if TYPE_CHECKING:
    from uvm_async.mm.frames import Frames

__all__ = ["MemoryRewind", "ObjectRewind"]


class ObjectRewind:
    """What every object reachable from `root` holds now."""

    def __init__(self, root: Entity) -> None:
        self._attributes: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._empty: list[dict[Any, Any] | list[Any] | bytearray] = []
        """Most are, and stay it."""
        self._dicts: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
        self._lists: list[tuple[list[Any] | bytearray, list[Any] | bytes]] = []
        self._deques: list[tuple[deque[Any], list[Any]]] = []
        self._sets: list[tuple[set[Any], set[Any]]] = []
        self._slots: list[tuple[Any, str, Any]] = []
        self._randoms: list[tuple[random.Random, Any]] = []
        self._keep: list[Any] = []
        self._walk(root)

    def _walk(self, root: Entity) -> None:
        seen: set[int] = set()
        todo: list[Any] = [root]
        while todo:
            obj = todo.pop()
            if id(obj) in seen or isinstance(obj, (int, str, bytes, float, type, type(None))):
                continue
            seen.add(id(obj))
            self._keep.append(obj)
            if isinstance(obj, Entity):
                slots, transient, has_dict = fields_of(type(obj))
                for name in slots:
                    if hasattr(obj, name):
                        value = getattr(obj, name)
                        self._slots.append((obj, name, value))
                        if name not in transient:
                            todo.append(value)
                if has_dict:
                    self._attributes.append((obj.__dict__, dict(obj.__dict__)))
                    todo += [v for k, v in obj.__dict__.items() if k not in transient]
            elif isinstance(obj, (dict, list, bytearray)) and not obj:
                self._empty.append(obj)
            elif isinstance(obj, dict):
                self._dicts.append((obj, dict(obj)))
                todo += obj.keys()
                todo += obj.values()
            elif isinstance(obj, list):
                self._lists.append((obj, list(obj)))
                todo += obj
            elif isinstance(obj, bytearray):
                self._lists.append((obj, bytes(obj)))
            elif isinstance(obj, deque):
                self._deques.append((obj, list(obj)))
                todo += obj
            elif isinstance(obj, set):
                self._sets.append((obj, set(obj)))
                todo += obj
            elif isinstance(obj, (tuple, frozenset)):
                todo += obj
            elif isinstance(obj, random.Random):
                self._randoms.append((obj, obj.getstate()))
            elif hasattr(obj, "__dict__"):
                self._attributes.append((obj.__dict__, dict(obj.__dict__)))
                todo += obj.__dict__.values()
            elif hasattr(obj, "__dataclass_fields__"):
                for name in obj.__dataclass_fields__:
                    todo.append(getattr(obj, name))
                    if not obj.__dataclass_params__.frozen:
                        self._slots.append((obj, name, getattr(obj, name)))

    def back(self) -> None:
        """Everything holds again what it held."""
        for attributes, values in self._attributes:
            attributes.update(values)
            if len(attributes) != len(values):
                for name in attributes.keys() - values.keys():
                    del attributes[name]
        for container in self._empty:
            if container:
                container.clear()
        for target, saved in self._dicts:
            target.clear()  # order counts, too
            target.update(saved)
        for sequence, items in self._lists:
            sequence[:] = items
        for queue, members in self._deques:
            queue.clear()
            queue.extend(members)
        for group, had in self._sets:
            if group != had:
                group.clear()
                group.update(had)
        for obj, name, value in self._slots:
            setattr(obj, name, value)
        for generator, state in self._randoms:
            generator.setstate(state)


class MemoryRewind:
    """What physical memory holds now, but for slots and the run of frames from `skip` on.

    Page caches of the host's files are put back only if some of them were dropped meanwhile:
    nobody writes to them.
    """

    def __init__(self, frames: Frames, skip: tuple[int, int]) -> None:
        """`skip`: byte offset and length of the race area."""
        physmem = frames.physmem
        handle = physmem.handle
        cached = {
            pfn
            for cache in frames.caches
            if not cache.dirty and not cache.writing
            for pfn in cache.pages.values()
        }
        first = physmem.slot_offset + _slots_bytes(physmem)
        used = [
            pfn
            for pfn in range(first // PAGE_SIZE, physmem.size // PAGE_SIZE)
            if not skip[0] <= pfn * PAGE_SIZE < sum(skip) and lib.uvm_frame_refs(handle, pfn) > 0
        ]
        ours = [pfn for pfn in used if pfn not in cached]
        self._frames = frames
        self._dropped = frames.dropped
        self._always = _Copy(physmem, [(0, physmem.slot_offset), *_runs(ours)])
        self._caches = _Copy(physmem, _runs([pfn for pfn in used if pfn in cached]))
        self.bytes = self._always.bytes + self._caches.bytes

    def back(self) -> None:
        """Memory holds again what it held. Before the kernel's objects are put back."""
        self._always.back()
        if self._frames.dropped != self._dropped:
            self._caches.back()


class _Copy:
    """Some ranges of physical memory, copied out."""

    def __init__(self, physmem: Physmem, ranges: list[tuple[int, int]]) -> None:
        self._physmem = physmem
        self._count = len(ranges)
        self._ranges = ffi.new("uint64_t[]", [word for pair in ranges for word in pair])
        self.bytes = sum(length for _, length in ranges)
        self._saved = ffi.new("uint8_t[]", max(self.bytes, 1))
        lib.uvm_copy_ranges(physmem.handle, self._ranges, self._count, self._saved, 0)

    def back(self) -> None:
        lib.uvm_copy_ranges(self._physmem.handle, self._ranges, self._count, self._saved, 1)


def _runs(pfns: list[int]) -> list[tuple[int, int]]:
    """Ascending frame numbers as (byte offset, bytes)."""
    runs: list[tuple[int, int]] = []
    for pfn in pfns:
        at = pfn * PAGE_SIZE
        if runs and sum(runs[-1]) == at:
            runs[-1] = (runs[-1][0], runs[-1][1] + PAGE_SIZE)
        else:
            runs.append((at, PAGE_SIZE))
    return runs


def _slots_bytes(physmem: Physmem) -> int:
    return int(lib.uvm_slot_count(physmem.handle)) * int(lib.UVM_SLOT_SIZE)
