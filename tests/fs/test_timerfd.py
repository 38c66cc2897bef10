"""Descriptors of timers and of signals."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import pytest

from fs.driver import Sim
from fs.shell import Shell
from uvm_async.fs.signalfd import SIGINFO
from uvm_async.kernel.signal import SigInfo

MS = 1_000_000
SECOND = 1000 * MS


@pytest.fixture
def sh() -> Iterator[Shell]:
    shell = Shell(Sim.boot())
    yield shell
    shell.sim.close()


def spec(value_ns: int, interval_ns: int = 0) -> bytes:
    return struct.pack("<4q", *divmod(interval_ns, SECOND), *divmod(value_ns, SECOND))


def settime(sh: Shell, fd: int, value_ns: int, interval_ns: int = 0, flags: int = 0) -> int:
    return sh.do("timerfd_settime", fd, flags, sh.data(spec(value_ns, interval_ns)), 0)


def left(sh: Shell, fd: int) -> tuple[int, int]:
    """(nanoseconds left, interval)."""
    sh.do("timerfd_gettime", fd, sh.room(32))
    values = struct.unpack("<4q", sh.peek(32))
    return values[2] * SECOND + values[3], values[0] * SECOND + values[1]


def test_a_timer_wakes_its_reader_once(sh: Shell) -> None:
    fd = sh.do("timerfd_create", 1, 0)
    settime(sh, fd, 10 * MS)
    read = sh.begin("read", fd, sh.room(8), 8)
    sh.sim.pass_time(9 * MS)
    assert read.blocked
    sh.sim.pass_time(2 * MS)
    assert read.answer() == 8
    assert sh.peek(8) == struct.pack("<Q", 1)
    assert left(sh, fd) == (0, 0)
    assert sh.begin("read", fd, sh.room(8), 8).blocked


def test_a_periodic_timer_counts_what_nobody_read(sh: Shell) -> None:
    fd = sh.do("timerfd_create", 1, os.O_NONBLOCK)
    settime(sh, fd, 5 * MS, 10 * MS)
    assert sh.error("read", fd, sh.room(8), 8) == "EAGAIN"
    sh.sim.pass_time(48 * MS)
    assert sh.read(fd, 8) == struct.pack("<Q", 5)
    assert sh.error("read", fd, sh.room(8), 8) == "EAGAIN"
    remaining, interval = left(sh, fd)
    assert 6 * MS < remaining <= 7 * MS
    assert interval == 10 * MS
    sh.sim.pass_time(7 * MS)
    assert sh.read(fd, 8) == struct.pack("<Q", 1)


def test_an_absolute_time_is_on_the_timers_own_clock(sh: Shell) -> None:
    clock = sh.sim.kernel.clock
    for number, now in ((0, clock.realtime_ns()), (1, clock.monotonic_ns())):
        fd = sh.do("timerfd_create", number, os.O_NONBLOCK)
        settime(sh, fd, now + 10 * MS, flags=1)
        remaining, _ = left(sh, fd)
        assert 9 * MS < remaining <= 10 * MS
        settime(sh, fd, now - SECOND, flags=1)
        assert sh.read(fd, 8) == struct.pack("<Q", 1)


def test_a_timer_that_is_set_to_nothing_is_silent(sh: Shell) -> None:
    fd = sh.do("timerfd_create", 1, os.O_NONBLOCK)
    settime(sh, fd, 5 * MS, 5 * MS)
    sh.sim.pass_time(20 * MS)
    settime(sh, fd, 0)
    sh.sim.pass_time(20 * MS)
    assert sh.error("read", fd, sh.room(8), 8) == "EAGAIN"


def test_what_timers_refuse(sh: Shell) -> None:
    assert sh.error("timerfd_create", 99, 0) == "EINVAL"
    assert sh.error("timerfd_create", 1, 1) == "EINVAL"
    fd = sh.do("timerfd_create", 1, 0)
    good, bad = sh.data(spec(MS)), sh.data(struct.pack("<4q", 0, 0, 0, SECOND))
    reader, _ = sh.pipe()
    assert sh.error("timerfd_settime", fd, 0, bad, 0) == "EINVAL"
    assert sh.error("timerfd_settime", fd, 0x100, good, 0) == "EINVAL"
    assert sh.error("timerfd_settime", reader, 0, good, 0) == "EINVAL"
    assert sh.error("timerfd_settime", 99, 0, good, 0) == "EBADF"
    assert sh.error("timerfd_settime", fd, 0, 8, 0) == "EFAULT"
    assert sh.error("read", fd, sh.room(4), 4) == "EINVAL"
    assert sh.error("write", fd, sh.room(8), 8) == "EINVAL"


def test_a_closed_timer_does_not_expire(sh: Shell) -> None:
    fd = sh.do("timerfd_create", 1, 0)
    settime(sh, fd, 5 * MS)
    sh.do("close", fd)
    assert sh.sim.kernel.timers.next_deadline_ns() is None


# -- signals


def send(sh: Shell, signo: int, value: int = 0) -> None:
    sh.task.process.pending.add(SigInfo(signo, -1, pid=7, value=value & (1 << 64) - 1))
    sh.task.process.pending.wait.wake_up()
    sh.sim.settle()


def signalfd(sh: Shell, mask: int, fd: int = -1, flags: int = 0) -> int:
    return sh.do("signalfd4", fd, sh.data(struct.pack("<Q", mask)), 8, flags)


def test_signals_are_read_in_order_as_many_as_fit(sh: Shell) -> None:
    fd = signalfd(sh, 1 << 9 | 1 << 33, flags=os.O_NONBLOCK)
    assert sh.error("read", fd, sh.room(128), 128) == "EAGAIN"
    assert sh.error("read", fd, sh.room(127), 127) == "EINVAL"
    send(sh, 34, 5)
    send(sh, 34, -6)
    send(sh, 10)
    send(sh, 12)
    records = [SIGINFO.unpack(raw) for raw in chunks(sh.read(fd, 1000))]
    assert [(one[0], one[3], one[11]) for one in records] == [(10, 7, 0), (34, 7, 5), (34, 7, -6)]
    assert sh.task.process.pending.mask == 1 << 11


def chunks(raw: bytes) -> list[bytes]:
    return [raw[at : at + 128] for at in range(0, len(raw), 128)]


def test_a_reader_of_signals_sleeps_until_one_comes_or_the_mask_changes(sh: Shell) -> None:
    fd = signalfd(sh, 1 << 9)
    thread = sh.other(threads=True)
    read = thread.begin("read", fd, thread.room(128), 128)
    send(sh, 12)
    assert read.blocked
    assert signalfd(sh, 1 << 11, fd) == fd
    assert read.answer() == 128


def test_a_signal_descriptor_can_be_watched(sh: Shell) -> None:
    fd = signalfd(sh, 1 << 9)
    ep = sh.do("epoll_create1", 0)
    sh.do("epoll_ctl", ep, 1, fd, sh.data(struct.pack("<IQ", 1, 3)))
    wait = sh.begin("epoll_wait", ep, sh.room(12), 1, -1)
    poller = sh.other(threads=True)
    poll = poller.begin("poll", poller.data(struct.pack("<ihh", fd, 1, 0)), 1, -1)
    assert wait.blocked and poll.blocked
    send(sh, 10)
    assert wait.answer() == 1
    assert poll.answer() == 1


def test_what_signal_descriptors_refuse(sh: Shell) -> None:
    mask = sh.data(bytes(8))
    reader, _ = sh.pipe()
    assert sh.error("signalfd4", -1, mask, 4, 0) == "EINVAL"
    assert sh.error("signalfd4", -1, mask, 8, 1) == "EINVAL"
    assert sh.error("signalfd4", 99, mask, 8, 0) == "EBADF"
    assert sh.error("signalfd4", reader, mask, 8, 0) == "EINVAL"
    assert sh.error("signalfd4", -1, 8, 8, 0) == "EFAULT"
