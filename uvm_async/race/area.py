"""The race area: what kernel and shims of a controlled machine share (cshim/include/uvm_race.h)."""

from __future__ import annotations

import itertools
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, overload
from zlib import crc32

from uvm_async._host import ffi, lib
from uvm_async.arch.physmem import PAGE_SIZE
from uvm_async.errors import MachineError
from uvm_async.race.model import Event, Kind

if TYPE_CHECKING:
    from uvm_async.arch.physmem import Physmem

__all__ = ["AREA_BYTES", "NEVER", "Happened", "RaceArea", "Summary"]

NEVER: Final = (1 << 64) - 1
EVENT: Final = struct.Struct("<QQQQIHBB")
LOCKED, AFTER_KNOWN = int(lib.UVM_EVENT_LOCKED), int(lib.UVM_EVENT_SETTLED)
BY_KERNEL: Final = int(lib.UVM_EVENT_KERNEL)
KIND_MASK: Final = 0xFF & ~(LOCKED | AFTER_KNOWN | BY_KERNEL)
VALUE_AT: Final = int(ffi.offsetof("struct uvm_race_event", "value"))
TASK_AT: Final = int(ffi.offsetof("struct uvm_race_event", "task"))
KIND_AT: Final = int(ffi.offsetof("struct uvm_race_event", "kind"))
READ, WRITE, CALL = int(Kind.READ), int(Kind.WRITE), int(Kind.CALL)
PATIENCE: Final = 50_000
RUN_BYTES: Final = PAGE_SIZE << lib.UVM_MAX_ORDER
AREA_BYTES: Final = 6 * RUN_BYTES
"""What a controlled machine needs beside the guest's memory."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What is kept of an execution's events."""

    counts: dict[int, int]
    """task -> its events"""
    calls: int
    """A hash of the order of calls."""
    reads_from: frozenset[tuple[int, int]]
    """(ip of the writer, or 0 for what stood there at first, ip of the reader)"""


def _aligned(size: int) -> int:
    return -(-size // PAGE_SIZE) * PAGE_SIZE


class RaceArea:
    """Allocated once, on a fresh machine; lives as long as that."""

    def __init__(self, physmem: Physmem) -> None:
        runs = [
            lib.uvm_frame_alloc(physmem.handle, lib.UVM_ZONE_DATA, lib.UVM_MAX_ORDER)
            for _ in range(AREA_BYTES // RUN_BYTES)
        ]
        if 0 in runs or any(b != a + RUN_BYTES // PAGE_SIZE for a, b in itertools.pairwise(runs)):
            raise MachineError("no contiguous memory for the race area")
        self.physmem = physmem
        self.offset: int = runs[0] * PAGE_SIZE
        self.size = AREA_BYTES
        race = self.race = ffi.cast("struct uvm_race *", physmem.base + self.offset)
        self._frames = (physmem.size - physmem.data_offset) // PAGE_SIZE
        tables = (
            ("owner_at", 8 * self._frames),
            ("pages_at", 8 * lib.UVM_RACE_PAGES),
            ("words_at", ffi.sizeof("struct uvm_race_word") * lib.UVM_RACE_WORDS),
            ("active_at", ffi.sizeof("struct uvm_race_active") * lib.UVM_RACE_ACTIVE),
            ("insns_at", ffi.sizeof("struct uvm_race_insn") * lib.UVM_RACE_INSNS),
            ("events_at", EVENT.size * lib.UVM_RACE_EVENTS),
            ("slots_at", ffi.sizeof("struct uvm_race_slot") * lib.UVM_RACE_SLOTS),
            ("tlbs_at", ffi.sizeof("struct uvm_race_tlb") * lib.UVM_RACE_SLOTS),
            ("code_at", lib.UVM_RACE_CODE_BYTES * lib.UVM_RACE_INSNS),
        )
        at = PAGE_SIZE
        for name, size in tables:
            setattr(race, name, at)
            at += _aligned(size)
        if at > self.size:
            raise MachineError("a controlled machine may not have that much memory")
        race.data_offset = physmem.data_offset
        physmem.handle.race = race
        race.ask_at = NEVER
        race.code_count = 1
        self.code = int(race.code_at)
        """Byte offset of the part that is executable in stubs."""
        self._slots = ffi.cast(
            "struct uvm_race_slot *", physmem.base + self.offset + int(race.slots_at)
        )
        self._active = ffi.cast(
            "struct uvm_race_active *", physmem.base + self.offset + int(race.active_at)
        )
        self._tlbs = ffi.cast(
            "struct uvm_race_tlb *", physmem.base + self.offset + int(race.tlbs_at)
        )
        self._events = self.offset + int(race.events_at)
        self._was_mode = 0
        self._paused_mode: int | None = None

    # -- an execution

    def begin(self, mode: int) -> None:
        """A new execution; `mode` is UVM_RACE_OFF, _ALL or _LISTED."""
        self._paused_mode = None
        lib.uvm_race_begin(self.race, mode, self._frames)

    def set_task(self, slot: int, task: int) -> None:
        """The stub of `slot` runs task number `task` from now on."""
        self._slots[slot].task = task

    def works_for(self, slot: int, ip: int) -> None:
        """What the kernel copies from now on is accessed by the task of `slot`, whose call stands
        at `ip`."""
        self.race.actor = slot + 1
        self.race.actor_ip = ip

    def handles(self, slot: int, handlers: int) -> None:
        """The task of `slot` enters a handler of a signal (1) or leaves one (-1)."""
        state = self._slots[slot]
        state.handling = max(state.handling + handlers, 0)
        self.race.contexts = 1

    def forked(self, slot: int, by: int | None) -> None:
        """The task of `slot` has a copy of the memory that task number `by` has; None: no more."""
        self._slots[slot].forked = 0 if by is None else by + 1
        self.race.contexts = 1

    def begins_anew(self, slot: int) -> None:
        """The instruction that the task of `slot` is about to run, it runs from its beginning."""
        self._slots[slot].passed = self._slots[slot].loaded = 0

    def check_tlb(self, slot: int) -> None:
        """Before the stub of `slot` runs guest code again it drops from its Tlb what page tables do
        not say any more: it has been blank, or everything was put back."""
        self._tlbs[slot].check = 1

    def rested(self, slot: int) -> None:
        """The task of `slot` has been waiting: what it reads again may have changed."""
        self._slots[slot].events.repeats = 0
        self._slots[slot].others.repeats = 0

    def watch_everything_of(self, slot: int) -> None:
        """Whatever the task of `slot` touches is watched for a while: it does not trap, and may
        spin on something that is not known to be shared. Its Tlb is to be dropped by the caller."""
        self.race.greedy = slot
        self.race.patience = PATIENCE
        self._was_mode = int(self.race.mode)
        self.race.mode = lib.UVM_RACE_GREEDY

    @property
    def paused(self) -> bool:
        """Is nothing watched, for a while?"""
        return self._paused_mode is not None

    def pause(self) -> None:
        """There is nobody to share memory with."""
        self._paused_mode = int(self.race.mode)
        self.race.mode = lib.UVM_RACE_OFF

    def go_on(self) -> None:
        """There will be. Whoever has run meanwhile has to drop its Tlb."""
        if self._paused_mode is not None:
            self.race.mode, self._paused_mode = self._paused_mode, None

    def calm(self) -> None:
        """It does not spin: it computes."""
        self.race.mode = self._was_mode
        if self._was_mode == lib.UVM_RACE_LISTED:
            lib.uvm_race_relist(self.race)

    # -- words

    def active_words(self) -> list[int]:
        """Words (addr // 8) that are active; sorted."""
        table = self._active
        return sorted(
            int(table[i].key)
            for i in range(lib.UVM_RACE_ACTIVE)
            if table[i].key and table[i].active == lib.UVM_WORD_ACTIVE
        )

    def found(self) -> list[tuple[int, bool]]:
        """Words that tasks have turned out to share, and whether user code touches them; sorted."""
        keys = ffi.new("uint64_t[]", lib.UVM_RACE_ACTIVE)
        user = ffi.new("uint8_t[]", lib.UVM_RACE_ACTIVE)
        count = lib.uvm_race_found(self.race, keys, user, lib.UVM_RACE_ACTIVE)
        return sorted((int(keys[i]), bool(user[i])) for i in range(count))

    def settle(self, word: int, *, active: bool) -> None:
        """A word that was found is active from now on, or ignored."""
        state = lib.UVM_WORD_ACTIVE if active else lib.UVM_WORD_IGNORED
        if lib.uvm_race_set_word(self.race, word, state):
            raise MachineError("too many words are watched")

    def set_active(self, words: Iterable[int]) -> None:
        """Exactly these words are active. Raises MachineError if they are too many."""
        ffi.memmove(self._active, bytes(ffi.sizeof("struct uvm_race_active") * lib.UVM_RACE_ACTIVE),
                    ffi.sizeof("struct uvm_race_active") * lib.UVM_RACE_ACTIVE)  # fmt: skip
        self.race.active_count = 0
        for word in words:
            self.settle(word, active=True)
        lib.uvm_race_relist(self.race)

    def relist(self) -> None:
        """Watch the pages of active words, and no others."""
        lib.uvm_race_relist(self.race)

    # -- instructions

    def install(self, insn: Any, code: bytes) -> None:
        """Enter a decoded instruction with its out-of-line code (UVM_RACE_CODE_BYTES)."""
        race = self.race
        if race.code_count >= lib.UVM_RACE_INSNS:
            raise MachineError("too many different instructions touch shared memory")
        insn.number = race.code_count
        race.code_count += 1
        at = self.offset + self.code + insn.number * lib.UVM_RACE_CODE_BYTES
        self.physmem.bytes[at : at + len(code)] = code
        if lib.uvm_race_add_insn(race, insn):
            raise MachineError("too many different instructions touch shared memory")

    def code_address(self, number: int) -> int:
        """Where a stub sees the code of instruction `number`."""
        return int(lib.UVM_RACE_BASE) + self.code + number * int(lib.UVM_RACE_CODE_BYTES)

    # -- events

    def note(self, event: Event) -> None:
        """Add an event of the kernel's own to the log."""
        self._append(event.task, event.kind, event.ip, event.addr, event.value, event.size)

    def note_call(self, task: int, kind: int, nr: int, addr: int, ip: int) -> None:
        """As `note`, for a call, of which there need be no object."""
        self._append(task, kind, ip, addr, nr, 4 if addr else 0)

    def _append(self, task: int, kind: int, ip: int, addr: int, value: int, size: int) -> None:
        race = self.race
        index = race.events
        if index >= lib.UVM_RACE_EVENTS:
            race.lost += 1
            return
        race.events = index + 1
        EVENT.pack_into(
            self.physmem.bytes, self._events + index * EVENT.size, ip, addr, value, 0,
            race.step & 0xFFFFFFFF, task, kind, min(size, 255),
        )  # fmt: skip

    def events(self, names: dict[int, str], start: int = 0, stop: int | None = None) -> list[Event]:
        """Events number `start` up to `stop`, or to the last. `names` are the calls' by number."""
        return [event for event, _ in self._log(names, start, stop)]

    def summary(self, max_pairs: int) -> Summary:
        """The log in short, without making an object of each event; pairs only of executions of at
        most `max_pairs` events."""
        count = int(self.race.events)
        data = self.physmem.bytes[self._events : self._events + count * EVENT.size]
        tasks = data.cast("H")[TASK_AT // 2 :: EVENT.size // 2].tolist()
        values = data.cast("Q")
        calls = b"".join(
            b"%d %d;" % (tasks[at], values[at * EVENT.size // 8 + VALUE_AT // 8])
            for at, kind in enumerate(data[KIND_AT :: EVENT.size])
            if kind & KIND_MASK == CALL
        )
        pairs = self._pairs(data) if count <= max_pairs else frozenset()
        return Summary(dict(Counter(tasks)), crc32(calls), pairs)

    @staticmethod
    def _pairs(data: memoryview) -> frozenset[tuple[int, int]]:
        pairs: set[tuple[int, int]] = set()
        writer: dict[int, int] = {}
        for ip, addr, _, _, _, _, kind, size in EVENT.iter_unpack(data):
            kind &= KIND_MASK
            if kind < CALL:
                for word in range(addr >> 3, (addr + size - 1 >> 3) + 1):
                    if kind != WRITE:
                        pairs.add((writer.get(word, 0), ip))
                    if kind != READ:
                        writer[word] = ip
        return frozenset(pairs)

    def log(self, names: dict[int, str]) -> list[tuple[Event, int | None]]:
        """The whole log, each event with what stood at its address after it, if that is known."""
        return list(self._log(names))

    def _log(
        self, names: dict[int, str], start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[Event, int | None]]:
        at = self._events + start * EVENT.size
        end = self._events + (self.race.events if stop is None else stop) * EVENT.size
        for ip, addr, value, after, _, task, kind, size in EVENT.iter_unpack(
            self.physmem.bytes[at:end]
        ):
            what = Kind(kind & KIND_MASK)
            call = names.get(value & 0xFFFF, "") if what in (Kind.CALL, Kind.RETURN) else ""
            event = Event(
                task, what, addr, size, ip, call, bool(kind & LOCKED), value, bool(kind & BY_KERNEL)
            )
            yield event, after if kind & AFTER_KNOWN else None


class Happened(Sequence[Event]):
    """Events number `start` up to `stop` of this execution, made into objects when somebody looks:
    many strategies do not. RuntimeError if that is first after the execution."""

    def __init__(self, area: RaceArea, names: dict[int, str], start: int, stop: int) -> None:
        self._area = area
        self._names = names
        self._start = start
        self._stop = stop
        self._execution = int(area.race.execution)
        self._events: list[Event] | None = None

    def __len__(self) -> int:
        return self._stop - self._start

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Event]: ...
    def __getitem__(self, index: int | slice) -> Event | Sequence[Event]:
        return self._all()[index]

    def __iter__(self) -> Iterator[Event]:
        return iter(self._all())

    def __repr__(self) -> str:
        return repr(self._all())

    def _all(self) -> list[Event]:
        if self._events is None:
            if self._area.race.execution != self._execution:
                raise RuntimeError("what was executed before a choice is gone: look at it earlier")
            self._events = self._area.events(self._names, self._start, self._stop)
        return self._events
