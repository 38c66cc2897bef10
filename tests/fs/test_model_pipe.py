"""Random use of pipes, eventfds and epolls answers as the host does, call by call.

Everything is non-blocking or has a timeout of 0; what blocks is tested in test_pipe.py.
"""

from __future__ import annotations

import os
import struct
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fs.twins import Handle, Twins, twins

EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD = 1, 2, 3
F_SETPIPE_SZ, F_GETPIPE_SZ, FIONREAD = 1031, 1032, 0x541B
EPOLLET, EPOLLONESHOT = 1 << 31, 1 << 30
NONBLOCK = os.O_NONBLOCK

SIZES = st.sampled_from([0, 1, 2, 100, 4000, 4095, 4096, 4097, 5000, 8192, 10000, 65536, 70000])
WHICH = st.integers(0, 7)
EVENTS = st.builds(
    lambda events, bits: events | bits,
    st.sampled_from([1, 4, 5, 0, 0x2000, 0x41]),
    st.sampled_from([0, 0, EPOLLET, EPOLLONESHOT, EPOLLET | EPOLLONESHOT]),
)
SETTINGS = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)


class Descriptors:
    """Handles made so far, and what can be done to them."""

    def __init__(self, pair: Twins) -> None:
        self.pair = pair
        self.handles: list[Handle] = []
        self.filler = 0

    def play(self, operation: tuple[Any, ...]) -> None:
        getattr(self, "do_" + operation[0])(*operation[1:])

    def _at(self, which: int) -> Handle:
        return self.handles[which % len(self.handles)]

    def do_pipe(self, flags: int) -> None:
        self.handles += self.pair.pipe(NONBLOCK | flags)

    def do_write(self, which: int, size: int) -> None:
        self.filler += 1
        data = bytearray((b"%05d" % self.filler) * (size // 5 + 1))[:size]
        self.pair.agree("write", self._at(which), data, size)

    def do_read(self, which: int, size: int) -> None:
        self.pair.agree("read", self._at(which), bytearray(size), size)

    def do_close(self, which: int) -> None:
        if len(self.handles) > 2:
            self.pair.close_handle(self.handles.pop(which % len(self.handles)))

    def do_dup(self, which: int) -> None:
        handle = self.pair.make("dup", self._at(which))
        assert isinstance(handle, Handle)
        self.handles.append(handle)

    def do_resize(self, which: int, size: int) -> None:
        self.pair.agree("fcntl", self._at(which), F_SETPIPE_SZ, size)
        self.pair.agree("fcntl", self._at(which), F_GETPIPE_SZ, 0)

    def do_unread(self, which: int) -> None:
        self.pair.agree("ioctl", self._at(which), FIONREAD, bytearray(4))

    def do_poll(self, events: int) -> None:
        answers = []
        for side in self.pair.sides:
            fds = bytearray(
                b"".join(struct.pack("<ihh", handle.of(side), events, 0) for handle in self.handles)
            )
            answer = side.call("poll", fds, len(self.handles), 0)
            revents = [one[2] for one in struct.iter_unpack("<ihh", fds)]
            answers.append((answer, revents))
        assert answers[0] == answers[1], f"poll {self.handles}: {answers}"

    def do_splice(self, source: int, target: int, size: int) -> None:
        self.pair.agree("splice", self._at(source), 0, self._at(target), 0, size, 2)

    def do_tee(self, source: int, target: int, size: int) -> None:
        self.pair.agree("tee", self._at(source), self._at(target), size, 2)

    def do_eventfd(self, count: int, flags: int) -> None:
        handle = self.pair.make("eventfd2", count, NONBLOCK | flags)
        assert isinstance(handle, Handle)
        self.handles.append(handle)

    def do_add_to(self, which: int, value: int) -> None:
        self.pair.agree("write", self._at(which), bytearray(struct.pack("<Q", value)), 8)

    def do_epoll(self) -> None:
        handle = self.pair.make("epoll_create1", 0)
        assert isinstance(handle, Handle)
        self.handles.append(handle)

    def do_ctl(self, ep: int, op: int, which: int, events: int) -> None:
        event = bytearray(struct.pack("<IQ", events, which))
        self.pair.agree("epoll_ctl", self._at(ep), op, self._at(which), event)

    def do_epoll_wait(self, ep: int, most: int) -> None:
        self.pair.agree("epoll_wait", self._at(ep), bytearray(12 * most), most, 0)


PIPE_OPERATIONS = st.one_of(
    st.tuples(st.just("write"), WHICH, SIZES),
    st.tuples(st.just("write"), WHICH, SIZES),
    st.tuples(st.just("read"), WHICH, SIZES),
    st.tuples(st.just("read"), WHICH, SIZES),
    st.tuples(st.just("pipe"), st.sampled_from([0, os.O_DIRECT])),
    st.tuples(st.just("close"), WHICH),
    st.tuples(st.just("dup"), WHICH),
    st.tuples(st.just("resize"), WHICH, st.sampled_from([0, 1, 4096, 5000, 16384, 65536, 200000])),
    st.tuples(st.just("unread"), WHICH),
    st.tuples(st.just("poll"), st.sampled_from([0, 1, 4, 5, 0x7FFF])),
)

EVENT_OPERATIONS = st.one_of(
    st.tuples(st.just("write"), WHICH, st.sampled_from([1, 4096, 60000])),
    st.tuples(st.just("read"), WHICH, st.sampled_from([1, 8, 4096, 70000])),
    st.tuples(st.just("close"), WHICH),
    st.tuples(st.just("dup"), WHICH),
    st.tuples(st.just("eventfd"), st.sampled_from([0, 1, 5]), st.sampled_from([0, 1])),
    st.tuples(st.just("add_to"), WHICH, st.sampled_from([0, 1, 7, (1 << 64) - 2, (1 << 64) - 1])),
    st.tuples(st.just("epoll")),
    st.tuples(st.just("ctl"), WHICH, st.sampled_from([1, 1, 1, 2, 3, 4]), WHICH, EVENTS),
    st.tuples(st.just("ctl"), st.just(2), st.just(1), WHICH, EVENTS),
    st.tuples(st.just("epoll_wait"), WHICH, st.sampled_from([1, 2, 5])),
    st.tuples(st.just("epoll_wait"), st.just(2), st.sampled_from([1, 5])),
    st.tuples(st.just("poll"), st.just(5)),
)


@SETTINGS
@given(st.lists(PIPE_OPERATIONS, min_size=1, max_size=30))
def test_any_use_of_pipes_answers_as_on_the_host(operations: list[tuple[Any, ...]]) -> None:
    with twins() as pair:
        player = Descriptors(pair)
        player.do_pipe(0)
        for operation in operations:
            player.play(operation)
        player.do_poll(0x7FFF)


@SETTINGS
@given(st.lists(EVENT_OPERATIONS, min_size=1, max_size=40))
def test_any_use_of_epoll_answers_as_on_the_host(operations: list[tuple[Any, ...]]) -> None:
    with twins() as pair:
        player = Descriptors(pair)
        player.do_pipe(0)
        player.do_epoll()
        player.do_eventfd(0, 0)
        for operation in operations:
            player.play(operation)
        for which in range(len(player.handles)):
            player.do_epoll_wait(which, 5)
