"""Traces and the report in a terminal."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable

import pytest

from race.samples import Program, Writer, compile_bank, crowd, deadlock, lost_update
from uvm_async.race.model import Event, Kind
from uvm_async.race.report import print_report, render_report
from uvm_async.race.story import cycles, show_value, tell
from uvm_async.race.trace import Blocked, Step, Thread, Trace, reads_from, synchronisation

SAMPLES = [lost_update, deadlock, crowd]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return compile_bank(tmp_path_factory.mktemp("bank"))


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_trace_goes_to_json_and_back(
    program: Program, sample: Callable[[Program], Trace]
) -> None:
    trace = sample(program)
    assert Trace.from_json(json.loads(json.dumps(trace.to_json()))) == trace


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("width", [40, 80, 100, 133, 200])
def test_no_line_is_wider_than_the_terminal(
    program: Program, sample: Callable[[Program], Trace], width: int
) -> None:
    text = render_report(sample(program), width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text


@pytest.mark.parametrize("width", [80, 120])
def test_a_lost_update_is_told(program: Program, width: int) -> None:
    text = render_report(lost_update(program), width=width)
    assert text.startswith("SIGABRT after 14 steps and 4 context switches, 2 of them preemptions")
    assert "Assertion `balance == 130' failed" in text
    assert "thread 1 deposit" in text
    for words in (
        "reads balance = 100",
        "! writes balance: 120 → 110",
        "reads balance = 110 ← 10",
        "switch: thread 1 → thread 2",
        "bank.c:14  balance = seen;",
        "! SIGABRT",
        "lost update on balance",
        "uvm replay uvm-failure-1.json",
    ):
        assert words in text, text


def test_columns_stand_for_threads(program: Program) -> None:
    text = render_report(lost_update(program), width=120)
    rows = [line for line in text.splitlines() if re.match(r" *\d+ ", line)]
    where = {1: set(), 2: set()}
    for row in rows:
        for cell, task in ((row.split("│")[1], 1), (row.split("│")[2], 2)):
            if cell.strip():
                where[task].add(int(row.split()[0]))
    assert where == {1: {4, 5, 10, 11}, 2: {6, 7, 8, 9}}


def test_a_deadlock_names_locks_owners_and_the_ring(program: Program) -> None:
    text = render_report(deadlock(program), width=120)
    assert re.search(r"thread 1 waits for mutex at 0x\w+ `lock_b` held by thread 2 at bank.c", text)
    assert re.search(r"thread 2 waits for mutex at 0x\w+ `lock_a` held by thread 1 at bank.c", text)
    assert "ring: thread 1 → thread 2 → thread 1" in text


def test_a_crowd_is_cut_down_to_who_matters(program: Program) -> None:
    text = render_report(crowd(program), width=100)
    assert len(text.splitlines()) < 60
    assert "thread 17" in text
    assert "thread 42" in text
    assert re.search(r"⋮ \d+ steps of thread 17", text)
    assert "threads 1-16, 18-41, 43-99" in text
    assert "lost update on balance" in text


def test_a_long_execution_in_which_all_matters_is_still_short(program: Program) -> None:
    writer = Writer(program)
    balance = program.symbol("balance")
    for at in range(5_000):
        writer.access(at % 40, Kind.UPDATE, balance, 0x401000, at)
    text = render_report(writer.finish("SIGSEGV"), width=80)
    assert len(text.splitlines()) < 320
    assert max(map(len, text.splitlines())) <= 80


def test_colour_only_where_a_terminal_shows_it(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    trace = lost_update(program)
    for file, no_color, expected in (
        (Terminal(), "", True),
        (io.StringIO(), "", False),
        (Terminal(), "1", False),
    ):
        if no_color:
            monkeypatch.setenv("NO_COLOR", no_color)
        print_report(trace, file=file, width=100)
        assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]m", file.getvalue())) is expected
    assert "\x1b[" in render_report(trace, color=True)


def test_a_terminal_without_unicode_gets_ascii(program: Program) -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="latin-1")
    print_report(lost_update(program), file=file, width=80)
    file.flush()
    text = raw.getvalue().decode("ascii")
    assert "writes balance: 120 > 110" in text


def test_a_program_without_symbols_or_threads_is_told_by_addresses() -> None:
    trace = Trace(steps=[Step(Event(0, Kind.WRITE, 0x5000, 8, 0x1234), 1)], failure="SIGSEGV")
    text = render_report(trace, width=80)
    assert "writes 0x5000: 0 → 1" in text
    assert "0x1234" in text
    assert render_report(Trace(failure="exit status 1")).startswith("exit status 1 after 0 steps")


def test_reads_are_linked_with_writes() -> None:
    def step(kind: Kind, addr: int, size: int, after: int = 1) -> Step:
        return Step(Event(0, kind, addr, size), after)

    steps = [
        step(Kind.READ, 100, 4),
        step(Kind.WRITE, 100, 4),
        step(Kind.WRITE, 102, 1),
        step(Kind.READ, 100, 2),
        step(Kind.READ, 100, 8),
        step(Kind.UPDATE, 100, 4, after=0),
        step(Kind.UPDATE, 100, 4),
        step(Kind.READ, 100, 4),
    ]
    assert reads_from(steps) == {0: None, 3: 1, 4: 2, 5: 2, 6: 2, 7: 6}


def test_calls_are_linked_with_what_they_let_go_on() -> None:
    def call(task: int, name: str, addr: int = 0) -> Step:
        return Step(Event(task, Kind.CALL, addr, call=name))

    def back(task: int, name: str, result: int = 0) -> Step:
        return Step(Event(task, Kind.RETURN, call=name), result=result)

    steps = [
        call(0, "clone3"),
        back(0, "clone3", -11),
        call(0, "clone3"),
        Step(Event(1, Kind.START)),
        back(0, "clone3", 7),
        call(0, "futex", 0x10),
        call(1, "futex", 0x10),
        back(0, "futex"),
        call(0, "futex", 0x20),
        call(1, "exit"),
        back(0, "futex"),
    ]
    edges = [(edge.source, edge.target, edge.kind) for edge in synchronisation(steps)]
    assert edges == [(2, 3, "start"), (6, 7, "wake"), (9, 10, "join")]


@pytest.mark.parametrize(
    ("value", "size", "expected"),
    [
        (7, 4, "7"),
        (0xFFFFFFFF, 4, "-1"),
        (0xFF, 1, "255"),
        (0x7F0012345678, 8, "0x7f0012345678"),
        (2**64 - 110, 8, "-110"),
    ],
)
def test_values_are_shown_as_programmers_write_them(value: int, size: int, expected: str) -> None:
    assert show_value(value, size) == expected


def test_rings_are_found_among_tasks_that_wait() -> None:
    waits = [Blocked(0, 1, 1), Blocked(1, 2, 2), Blocked(2, 3, 3), Blocked(3, 4, 1), Blocked(4)]
    assert cycles(waits) == [[1, 2, 3]]
    assert cycles([Blocked(5, 1, 5)]) == [[5]]
    assert cycles([Blocked(5, 1, 6)]) == []


def test_a_step_of_the_library_is_shown_where_the_user_called_it(program: Program) -> None:
    lock, after_call = program.symbol("lock_a"), program.line("lock(&lock_b)")
    event = Event(0, Kind.UPDATE, lock, 4, 0x7F0000001234, locked=True)
    trace = Trace(steps=[Step(event, 1, user_ip=after_call)], maps=program.maps())
    assert Trace.from_json(trace.to_json()) == trace
    assert tell(trace).lines[0].place.text == "pthread_mutex_lock(&lock_a);"


def test_variables_on_a_stack_are_named_by_their_thread(program: Program) -> None:
    trace = Trace(
        steps=[Step(Event(1, Kind.WRITE, 0x7F0000000010, 4, 0x1234), 1)],
        threads=[Thread(1, stack=(0x7F0000000000, 0x7F0000001000))],
    )
    assert tell(trace).lines[0].name == "stack of thread 1+0x10"
