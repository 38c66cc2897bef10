"""Which accesses race, on traces written by hand."""

from __future__ import annotations

import pytest

from uvm_async.race.happens_before import Race, Verdict, find_races
from uvm_async.race.model import Event, Kind
from uvm_async.race.trace import Step

X, Y, FLAG, LOCK = 0x4000, 0x4008, 0x4010, 0x4018
LIBC = 0x7F0000000000


class Script:
    """Writes a trace: one method per kind of step; memory holds what was written."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.memory: dict[int, int] = {}

    def _access(self, kind: Kind, task: int, addr: int, after: int | None, **more: int) -> None:
        before = self.memory.get(addr, 0)
        event = Event(
            task,
            kind,
            addr,
            more.get("size", 4),
            more.get("ip", 0x1000 + len(self.steps)),
            locked=bool(more.get("locked", 0)),
            value=before,
            by_kernel=bool(more.get("by_kernel", 0)),
        )
        if after is not None:
            self.memory[addr] = after
        self.steps.append(Step(event, after if after is not None else before))

    def read(self, task: int, addr: int, **more: int) -> None:
        self._access(Kind.READ, task, addr, None, **more)

    def write(self, task: int, addr: int, value: int, **more: int) -> None:
        self._access(Kind.WRITE, task, addr, value, **more)

    def locked(self, task: int, addr: int, value: int, **more: int) -> None:
        self._access(Kind.UPDATE, task, addr, value, locked=1, **more)

    def hidden(self, addr: int, value: int) -> None:
        """A store that the recording does not show."""
        self.memory[addr] = value

    def call(self, task: int, name: str, addr: int = 0) -> None:
        self.steps.append(Step(Event(task, Kind.CALL, addr, call=name)))

    def back(self, task: int, name: str, addr: int = 0, result: int = 0) -> None:
        self.steps.append(Step(Event(task, Kind.RETURN, addr, call=name), result=result))

    def start(self, task: int) -> None:
        self.steps.append(Step(Event(task, Kind.START)))

    def races(self) -> list[Race]:
        return find_races(self.steps, is_library=lambda ip: ip >= LIBC)

    def accused(self) -> list[tuple[int, int, Verdict]]:
        return [(r.first_step, r.second_step, r.verdict) for r in self.races() if r.accuses]

    def words(self) -> set[int]:
        return {race.word * 8 for race in self.races()}


@pytest.fixture
def script() -> Script:
    return Script()


def test_an_unlocked_add_beside_another_is_a_data_race(script: Script) -> None:
    script.read(1, X, ip=0x10)
    script.read(2, X, ip=0x10)
    script.write(2, X, 1, ip=0x10)
    script.write(1, X, 1, ip=0x10)
    assert (0, 2, Verdict.DATA_RACE) in script.accused()


def test_two_adds_one_after_the_other_race_as_well(script: Script) -> None:
    for task in (1, 2):
        script.read(task, X, ip=0x10)
        script.write(task, X, task, ip=0x10)
    assert [verdict for _, _, verdict in script.accused()]


def test_a_value_written_over_unseen_is_a_lost_update(script: Script) -> None:
    script.read(1, X)
    script.read(2, X)
    script.write(2, X, 5)
    script.write(1, X, 1)
    assert script.accused() == [(2, 3, Verdict.LOST_UPDATE)]
    assert (0, 2) in {(r.first_step, r.second_step) for r in script.races()}


def test_writing_the_same_value_twice_accuses_nobody(script: Script) -> None:
    for task in (1, 2):
        script.read(task, X)
    for task in (2, 1):
        script.write(task, X, 1)
    assert script.accused() == []


def test_neighbours_in_a_word_do_not_race(script: Script) -> None:
    script.write(1, X, 1, ip=0x10)
    script.write(2, X + 4, 1, ip=0x10)
    assert script.races() == []


@pytest.mark.parametrize("spins", [0, 1, 5])
def test_publication_by_a_flag_accuses_neither_data_nor_flag(script: Script, spins: int) -> None:
    for _ in range(spins):
        script.read(2, FLAG, ip=0x30)
    script.write(1, X, 42)
    script.write(1, FLAG, 1)
    script.read(2, FLAG, ip=0x30)
    script.read(2, X, ip=0x31)
    script.write(2, X, 43, ip=0x31)
    assert script.accused() == []
    assert script.words() <= {FLAG}
    if spins == 5:
        assert all(race.atomic_like for race in script.races())


def test_publication_before_the_data_is_shown(script: Script) -> None:
    script.write(1, FLAG, 1)
    script.read(2, FLAG)
    script.read(2, X)
    script.write(1, X, 42)
    assert X in script.words()


def test_a_futex_lock_orders_what_it_guards(script: Script) -> None:
    script.locked(1, LOCK, 1, ip=LIBC)
    script.read(1, X, ip=0x10)
    script.locked(2, LOCK, 2, ip=LIBC + 1)
    script.call(2, "futex", LOCK)
    script.write(1, X, 1, ip=0x10)
    script.locked(1, LOCK, 0, ip=LIBC + 2)
    script.call(1, "futex", LOCK)
    script.back(1, "futex", LOCK)
    script.back(2, "futex", LOCK)
    script.locked(2, LOCK, 2, ip=LIBC + 1)
    script.read(2, X, ip=0x10)
    script.write(2, X, 2, ip=0x10)
    assert script.races() == []


def test_a_release_that_was_not_recorded_orders(script: Script) -> None:
    """pthread_spin_unlock is a plain store in the C library."""
    for task in (1, 2):
        script.locked(task, LOCK, 1, ip=LIBC)
        script.read(task, X, ip=0x10)
        script.write(task, X, task, ip=0x10)
        script.hidden(LOCK, 0)
    assert script.races() == []


def test_without_the_value_left_a_locked_instruction_is_taken_to_order(script: Script) -> None:
    for task in (1, 2):
        script.locked(task, LOCK, 1)
        script.read(task, X, ip=0x10)
        script.write(task, X, task, ip=0x10)
        script.hidden(LOCK, 0)
    blind = [Step(step.event) for step in script.steps]
    assert not any(race.accuses for race in find_races(blind))


def test_counting_with_locked_instructions_does_not_order_what_is_not_after_them(
    script: Script,
) -> None:
    script.locked(1, LOCK, 1)
    script.read(1, X, ip=0x10)
    script.write(1, X, 1, ip=0x10)
    script.locked(2, LOCK, 2)
    script.read(2, X, ip=0x10)
    script.write(2, X, 2, ip=0x10)
    assert {race.word * 8 for race in script.races() if race.accuses} == {X}


def test_a_lock_that_is_not_taken_by_both_orders_nothing(script: Script) -> None:
    script.locked(1, LOCK, 1)
    script.read(1, X, ip=0x10)
    script.read(2, X, ip=0x20)
    script.write(2, X, 5, ip=0x20)
    script.write(1, X, 1, ip=0x10)
    script.locked(1, LOCK, 0)
    assert script.accused()


def test_a_barrier_orders_though_its_plain_reads_are_not_recorded(script: Script) -> None:
    arrived, generation, left = LOCK, LOCK + 4, LOCK + 16
    script.locked(2, arrived, 1, ip=LIBC)
    script.read(1, X, ip=0x10)
    script.write(1, X, 7, ip=0x10)
    script.locked(1, arrived, 2, ip=LIBC)
    script.locked(1, generation, 2, ip=LIBC + 1)
    script.locked(2, left, 1, ip=LIBC + 2)
    script.read(2, X, ip=0x20)
    script.write(2, X, 8, ip=0x20)
    assert script.races() == []


def test_a_thread_starts_after_its_clone_and_ends_before_what_follows(script: Script) -> None:
    script.read(0, X, ip=0x10)
    script.write(0, X, 1, ip=0x10)
    script.call(0, "clone3")
    script.start(1)
    script.back(0, "clone3", result=5)
    script.read(1, X, ip=0x20)
    script.write(1, X, 2, ip=0x20)
    script.call(1, "exit")
    script.read(0, X, ip=0x10)
    script.write(0, X, 3, ip=0x10)
    assert script.races() == []


def test_what_the_parent_does_after_clone_is_not_before_the_child(script: Script) -> None:
    script.call(0, "clone3")
    script.back(0, "clone3", result=5)
    script.read(0, X, ip=0x10)
    script.start(1)
    script.read(1, X, ip=0x10)
    script.write(0, X, 1, ip=0x10)
    script.write(1, X, 1, ip=0x10)
    assert script.accused()


def test_a_pipe_orders(script: Script) -> None:
    script.read(1, X, ip=0x10)
    script.write(1, X, 1, ip=0x10)
    script.call(1, "write")
    script.back(1, "write", result=1)
    script.call(2, "read")
    script.back(2, "read", result=1)
    script.read(2, X, ip=0x10)
    script.write(2, X, 2, ip=0x10)
    assert script.races() == []


def test_what_a_call_copies_is_ordered_with_the_call(script: Script) -> None:
    script.call(1, "write")
    script.read(1, X, size=8, ip=LIBC + 1, by_kernel=1)
    script.call(2, "read")
    script.back(2, "read")
    script.write(2, Y, 1, size=8, ip=LIBC + 2, by_kernel=1)
    script.write(2, X, 2, size=8)  # the writer's copy of X was before its release
    script.call(2, "write")
    script.call(1, "read")
    script.back(1, "read")
    script.read(1, Y, size=8)
    assert not script.races()


def test_what_a_call_copies_races_though_the_call_stands_in_the_library(script: Script) -> None:
    script.write(2, X, 1, size=8)
    script.call(1, "write")
    script.read(1, X, size=16, ip=LIBC + 1, by_kernel=1)
    script.write(2, X, 2, size=8)
    assert script.accused() == [(0, 2, Verdict.DATA_RACE), (2, 3, Verdict.DATA_RACE)]


def test_processes_have_memory_of_their_own(script: Script) -> None:
    script.read(0, X, ip=0x10)
    script.read(1, X, ip=0x10)
    script.write(0, X, 1, ip=0x10)
    script.write(1, X, 1, ip=0x10)
    apart = {0: 0, 1: 1}
    assert find_races(script.steps, processes=apart) == []
    assert find_races(script.steps, processes=apart, shared=[(X, X + 8)])


def test_peterson_is_never_accused(script: Script) -> None:
    """Plain moves and a fence on the stack: nothing of the words tells that they are atomics."""
    turn, mine = FLAG, (Y, LOCK)
    for round_ in range(3):
        for me in (0, 1):
            script.write(me, mine[me], 1, ip=0x100)
            script.write(me, turn, 2 - me, ip=0x101)
        # 1 wrote the turn last, so 0 goes first; 1 spins.
        for _ in range(4):
            script.read(1, mine[0], ip=0x102)
            script.read(1, turn, ip=0x103)
        script.read(0, mine[1], ip=0x102)
        script.read(0, turn, ip=0x103)
        script.read(0, X, ip=0x10)
        script.write(0, X, 2 * round_ + 1, ip=0x10)
        script.write(0, mine[0], 0, ip=0x104)
        script.read(1, mine[0], ip=0x102)
        script.read(1, X, ip=0x10)
        script.write(1, X, 2 * round_ + 2, ip=0x10)
        script.write(1, mine[1], 0, ip=0x104)
        script.read(0, mine[1], ip=0x105)
    assert script.accused() == []


def test_a_spinlock_of_the_programs_own_orders(script: Script) -> None:
    script.locked(1, LOCK, 1, ip=0x10)
    script.read(1, X, ip=0x11)
    script.locked(2, LOCK, 1, ip=0x10)
    for _ in range(3):
        script.read(2, LOCK, ip=0x12)
    script.write(1, X, 1, ip=0x11)
    script.write(1, LOCK, 0, ip=0x13)
    script.read(2, LOCK, ip=0x12)
    script.locked(2, LOCK, 1, ip=0x10)
    script.read(2, X, ip=0x11)
    script.write(2, X, 2, ip=0x11)
    assert script.accused() == []
    assert X not in script.words()


def test_a_wide_access_is_no_atomic(script: Script) -> None:
    script.write(1, X, 1, size=16, ip=0x10)
    script.read(2, X, size=16, ip=0x20)
    assert [verdict for _, _, verdict in script.accused()] == [Verdict.DATA_RACE]


def test_a_loop_is_reported_once(script: Script) -> None:
    for _ in range(50):
        for task in (1, 2):
            script.read(task, X, ip=0x10)
        for task in (1, 2):
            script.write(task, X, 1, ip=0x10)
    assert 1 <= len(script.accused()) <= 3


def test_a_join_that_left_no_trace_is_assumed_where_it_could_be(script: Script) -> None:
    """Thread 2 can know thread 1, its elder; that it joined it would not show."""
    for child in (1, 2):
        script.call(0, "clone3")
        script.back(0, "clone3", result=child)
        script.start(child)
    script.read(2, X, ip=0x100)
    script.write(1, X, 5)
    script.call(1, "exit")
    script.write(2, X, 1, ip=0x110)
    assert script.accused() == []
    straight = find_races(script.steps, runs_straight=lambda start, end: True)
    assert [race.verdict for race in straight if race.accuses] == [Verdict.LOST_UPDATE]


def test_nobody_joins_a_thread_that_it_cannot_know(script: Script) -> None:
    for child in (1, 2):
        script.call(0, "clone3")
        script.back(0, "clone3", result=child)
        script.start(child)
    script.read(1, X)
    script.read(2, X)
    script.write(2, X, 5)
    script.call(2, "exit")
    script.write(1, X, 1)
    assert [verdict for _, _, verdict in script.accused()] == [Verdict.LOST_UPDATE]
