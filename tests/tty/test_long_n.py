"""The line discipline does with every byte what the host's does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fs.driver import Sim
from support.ttyrig import Ours, Theirs
from uvm_async.tty.termios import DEFAULT_CC, Iflag, Lflag, Oflag, Termios


@pytest.fixture(scope="module")
def sim() -> Iterator[Sim]:
    sim = Sim.boot(4 << 20)
    yield sim
    sim.close()


def settings_of(
    iflag: int, oflag: int, lflag: int, *, minimum: int = 1, eol: int = 0, eol2: int = 0
) -> bytes:
    cc = bytearray(DEFAULT_CC)
    cc[6], cc[11], cc[16] = minimum, eol, eol2
    return Termios(iflag, oflag, Termios().cflag, lflag, 0, bytes(cc)).pack()


NORMAL = Termios()
IFLAGS = [
    Iflag.ICRNL,
    Iflag.IXON,
    Iflag.IUTF8,
    Iflag.INLCR,
    Iflag.IGNCR,
    Iflag.ISTRIP,
    Iflag.IXANY,
    Iflag.PARMRK,
    Iflag.IUCLC,
]
OFLAGS = [
    Oflag.OPOST,
    Oflag.ONLCR,
    Oflag.OCRNL,
    Oflag.ONOCR,
    Oflag.ONLRET,
    Oflag.XTABS,
    Oflag.OLCUC,
]
LFLAGS = [
    Lflag.ICANON,
    Lflag.ECHO,
    Lflag.ECHOE,
    Lflag.ECHOK,
    Lflag.ECHOKE,
    Lflag.ECHOCTL,
    Lflag.IEXTEN,
    Lflag.ISIG,
    Lflag.ECHONL,
    Lflag.NOFLSH,
    Lflag.ECHOPRT,
]


def mostly(flags: list[int], normal: int) -> st.SearchStrategy[int]:
    """The usual flags with a few of them turned over."""
    return st.lists(st.sampled_from(flags), max_size=3, unique=True).map(
        lambda turned: normal ^ sum(turned)
    )


modes = st.builds(
    settings_of,
    mostly(IFLAGS, NORMAL.iflag),
    mostly(OFLAGS, NORMAL.oflag),
    mostly(LFLAGS, NORMAL.lflag),
    minimum=st.sampled_from([0, 1, 1, 3]),
    eol=st.sampled_from([0, 0, ord("!")]),
    eol2=st.sampled_from([0, 0, ord("?")]),
)
KEYS = (
    b"aB_ .\t\t\n\r\x7f\x7f\x7f\x15\x17\x17\x12\x16\x04\x03\x1c\x1a\x13\x11\x01\x1b!?\xff\x00\x08"
)
keys = st.lists(
    st.one_of(
        st.sampled_from([bytes((key,)) for key in KEYS]),
        st.sampled_from(["é".encode(), "日本".encode(), b"word two", b"\x80", b"\xc3"]),
    ),
    min_size=1,
    max_size=12,
).map(b"".join)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("type"), keys),
        st.tuples(st.just("type"), keys),
        st.tuples(st.just("read"), st.integers(1, 20)),
        st.tuples(st.just("write"), keys),
        st.tuples(st.just("set"), modes),
    ),
    min_size=1,
    max_size=10,
)


def run(terminal: Any, start: bytes, todo: list[tuple[str, Any]], like: list[Any]) -> list[Any]:
    """What each step answers, what it shows and leaves; `like` is what is expected."""
    terminal.set(start)
    seen: list[Any] = []
    for at, (name, argument) in enumerate(todo):
        answer = getattr(terminal, name)(argument)
        expected = like[at] if like else (None, b"", 0)
        shown = terminal.screen(len(expected[1]))
        seen.append((answer, shown, terminal.pending(expected[2])))
    return seen


def agree(sim: Sim, start: bytes, todo: list[tuple[str, Any]]) -> None:
    """The host throws away output at a signal, of which more or less has been shown by then; so
    it may try again."""
    todo = [*todo, ("type", b"\x11"), ("read", 500), ("read", 500)]
    ours = run(Ours(sim), start, todo, [])
    for _ in range(4):
        terminal = Theirs()
        try:
            theirs = run(terminal, start, todo, ours)
        finally:
            terminal.close()
        if theirs == ours:
            break
    for step, mine, hosts in zip(todo, ours, theirs, strict=True):
        assert (step, *mine) == (step, *hosts)


@settings(max_examples=5000, deadline=None, suppress_health_check=list(HealthCheck))
@given(modes, steps)
@example(NORMAL.pack(), [("type", b"ab\tc\x7f\x7f\x7fd\n"), ("read", 2), ("read", 20)])
@example(NORMAL.pack(), [("type", b"one two\x17\x17x\x15y\x04"), ("read", 1), ("read", 1)])
@example(NORMAL.pack(), [("type", b"abc\x03def\n"), ("read", 20)])
@example(NORMAL.pack(), [("type", b"abc\x13"), ("write", b"x"), ("type", b"de\x11")])
@example(NORMAL.pack(), [("type", b"a\x16\x03\x16\x7f\n"), ("read", 20)])
@example(NORMAL.pack(), [("type", b"abc\x12d\n"), ("read", 20)])
def test_every_byte_does_what_it_does_on_the_host(
    sim: Sim, start: bytes, todo: list[tuple[str, Any]]
) -> None:
    agree(sim, start, todo)


def test_overlong_line_keeps_its_beginning_and_its_end(sim: Sim) -> None:
    quiet = Termios(lflag=NORMAL.lflag & ~Lflag.ECHO).pack()
    chunk = bytes(range(97, 123)) * 9
    todo: list[tuple[str, Any]] = [("type", chunk) for _ in range(20)]
    agree(sim, quiet, [*todo, ("type", b"\n"), ("read", 5000), ("type", b"next\n")])


def test_raw_input_that_finds_no_room_is_kept_for_later(sim: Sim) -> None:
    ours = Ours(sim)
    ours.set(Termios(iflag=0, lflag=0).pack())
    data = bytes(range(256)) * 40
    ours.type(data)
    got = b""
    while part := ours.read(1000):
        got += part
    assert got == data


@pytest.mark.parametrize("end", [b"\n", b"\x04"])
def test_line_read_in_exact_pieces_has_no_end_of_file_after_it(sim: Sim, end: bytes) -> None:
    agree(sim, NORMAL.pack(), [("type", b"x" * 100 + end), *[("read", 50)] * 4])
    agree(sim, NORMAL.pack(), [("type", b"x" * 64 + end), *[("read", 64)] * 3])


def test_minimum_beyond_a_chunk_counts_as_a_chunk(sim: Sim) -> None:
    raw = settings_of(0, 0, 0, minimum=100)
    agree(sim, raw, [("type", b"x" * 30), ("read", 200), ("type", b"y" * 150), ("read", 200)])
