"""Pipes and FIFOs that block: who sleeps, who wakes, and what a signal leaves."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import pytest

from fs.driver import Sim
from fs.shell import Shell
from uvm_async.errors import Errno
from uvm_async.sched.wait import Interrupted

PIPE_BYTES = 65536


@pytest.fixture
def sh() -> Iterator[Shell]:
    shell = Shell(Sim.boot())
    yield shell
    shell.sim.close()


def test_a_reader_sleeps_until_somebody_writes(sh: Shell) -> None:
    reader, writer = sh.pipe()
    read = sh.begin("read", reader, sh.room(10), 10)
    assert read.blocked
    sh.other().write(writer, b"hello")
    assert read.answer() == 5
    assert sh.peek(5) == b"hello"


def test_a_reader_sees_the_end_when_the_last_writer_goes(sh: Shell) -> None:
    reader, writer = sh.pipe()
    other = sh.other()
    read = sh.begin("read", reader, sh.room(10), 10)
    sh.do("close", writer)
    assert read.blocked
    other.do("close", writer)
    assert read.answer() == 0


def test_a_large_write_goes_on_where_it_was_after_every_sleep(sh: Shell) -> None:
    reader, writer = sh.pipe()
    data = os.urandom(3 * PIPE_BYTES + 100)
    other = sh.other()
    write = other.begin("write", writer, other.data(data), len(data))
    got = b""
    while write.blocked:
        got += sh.read(reader, 30000)
    got += sh.read(reader, PIPE_BYTES)
    assert write.answer() == len(data)
    assert write.runs > 3
    assert got == data


def test_a_write_of_a_page_is_never_torn(sh: Shell) -> None:
    reader, writer = sh.pipe()
    sh.write(writer, b"x" * (PIPE_BYTES - 4000))
    other = sh.other()
    write = other.begin("write", writer, other.data(b"y" * 4096), 4096)
    assert sh.read(reader, 100) == b"x" * 100
    taken = sh.read(reader, PIPE_BYTES)
    assert write.answer() == 4096
    assert (taken + sh.read(reader, PIPE_BYTES)).endswith(b"y" * 4096)


def test_a_signal_ends_a_write_with_what_it_has_done(sh: Shell) -> None:
    reader, writer = sh.pipe()
    size = PIPE_BYTES + 5000
    write = sh.begin("write", writer, sh.data(b"z" * size), size)
    assert write.blocked
    sh.sim.signal(sh.task)
    assert write.answer() == PIPE_BYTES
    assert len(sh.read(reader, 2 * PIPE_BYTES)) == PIPE_BYTES


def test_a_signal_interrupts_a_read_and_a_write_that_did_nothing(sh: Shell) -> None:
    reader, writer = sh.pipe()
    read = sh.begin("read", reader, sh.room(1), 1)
    sh.sim.signal(sh.task)
    with pytest.raises(Interrupted):
        read.answer()
    sh.write(writer, b"f" * PIPE_BYTES)
    write = sh.begin("write", writer, sh.data(b"z"), 1)
    sh.sim.signal(sh.task)
    with pytest.raises(Interrupted):
        write.answer()


def test_a_blocked_writer_gets_sigpipe_when_the_last_reader_goes(sh: Shell) -> None:
    reader, writer = sh.pipe()
    sh.write(writer, b"f" * PIPE_BYTES)
    other = sh.other()
    other.do("close", reader)
    write = other.begin("write", writer, other.data(b"z"), 1)
    assert write.blocked
    sh.do("close", reader)
    with pytest.raises(Errno.EPIPE):
        write.answer()
    assert sh.sim.kernel.signals == [(other.task.pid, 13)]


def test_memory_that_is_not_there_yet_is_brought_in(sh: Shell) -> None:
    reader, writer = sh.pipe()
    data = os.urandom(20000)
    source, target = sh.data(data), sh.room(20000)
    for addr in (source, target):
        for page in range(addr // 4096, (addr + 20000) // 4096 + 1):
            sh.task.mm.absent[page] = None
    assert sh.do("write", writer, source, 20000) == 20000
    assert sh.do("read", reader, target, 20000) == 20000
    assert sh.task.mm.peek(target, 20000) == data


def test_a_bad_address_takes_nothing_out_of_the_pipe(sh: Shell) -> None:
    reader, writer = sh.pipe()
    sh.write(writer, b"precious")
    assert sh.error("read", reader, 64, 8) == "EFAULT"
    assert sh.error("write", writer, 64, 8) == "EFAULT"
    assert sh.read(reader, 100) == b"precious"


def test_a_pipe_that_was_made_smaller_holds_less(sh: Shell) -> None:
    _, writer = sh.pipe()
    assert sh.do("fcntl", writer, 1031, 5000) == 8192
    sh.write(writer, b"1" * 8192)
    assert sh.begin("write", writer, sh.data(b"2"), 1).blocked


# -- FIFOs


@pytest.mark.parametrize("first", [os.O_RDONLY, os.O_WRONLY])
def test_opening_a_fifo_waits_for_the_other_end(sh: Shell, first: int) -> None:
    sh.do("mknod", b"/fifo", 0o010666, 0)
    opening = sh.begin("open", sh.text(b"/fifo"), first, 0)
    assert opening.blocked
    other = sh.other()
    fd = other.do("open", b"/fifo", os.O_RDONLY + os.O_WRONLY - first, 0)
    mine = opening.answer()
    ends = ((sh, mine), (other, fd))
    (reader, from_fd), (writer, to_fd) = ends if first == os.O_RDONLY else reversed(ends)
    writer.write(to_fd, b"met")
    assert reader.read(from_fd, 10) == b"met"


def test_a_fifo_opened_for_reading_waits_even_if_the_writer_has_gone_again(sh: Shell) -> None:
    sh.do("mknod", b"/fifo", 0o010666, 0)
    other = sh.other()
    writing = other.begin("open", other.text(b"/fifo"), os.O_WRONLY, 0)
    reader = sh.do("open", b"/fifo", os.O_RDONLY | os.O_NONBLOCK, 0)
    other.do("close", writing.answer())
    assert sh.read(reader, 10) == b""


def test_an_interrupted_open_of_a_fifo_leaves_no_trace(sh: Shell) -> None:
    sh.do("mknod", b"/fifo", 0o010666, 0)
    opening = sh.begin("open", sh.text(b"/fifo"), os.O_RDONLY, 0)
    sh.sim.signal(sh.task)
    with pytest.raises(Interrupted):
        opening.answer()
    assert sh.error("open", b"/fifo", os.O_WRONLY | os.O_NONBLOCK, 0) == "ENXIO"
    sh.do("close", sh.do("open", b"/", os.O_RDONLY, 0))
    assert sh.inode(b"/fifo").opens == 0


def test_a_fifo_that_is_unlinked_while_it_is_opened_can_still_be_met(sh: Shell) -> None:
    sh.do("mknod", b"/fifo", 0o010666, 0)
    sh.do("link", b"/fifo", b"/other")
    opening = sh.begin("open", sh.text(b"/fifo"), os.O_RDONLY, 0)
    other = sh.other()
    other.do("unlink", b"/fifo")
    assert opening.blocked
    other.do("open", b"/other", os.O_WRONLY, 0)
    assert opening.answer() >= 0


# -- poll


def test_poll_sleeps_until_one_descriptor_is_ready(sh: Shell) -> None:
    reader, writer = sh.pipe()
    fds = sh.data(struct.pack("<ihh", reader, 1, 0))
    poll = sh.begin("poll", fds, 1, -1)
    assert poll.blocked
    sh.other().write(writer, b"x")
    assert poll.answer() == 1
    assert sh.task.mm.peek(fds, 8) == struct.pack("<ihh", reader, 1, 1)


def test_poll_ends_at_its_deadline_however_often_it_was_woken(sh: Shell) -> None:
    reader, writer = sh.pipe()
    other = sh.other()
    start = sh.sim.kernel.clock.monotonic_ns()
    poll = sh.begin("poll", sh.data(struct.pack("<ihh", writer, 0, 0)), 1, 100)
    for _ in range(3):
        sh.sim.pass_time(30_000_000)
        other.write(writer, b"x")
        other.read(reader, 1)
        assert poll.blocked
    sh.sim.pass_time(30_000_000)
    assert poll.answer() == 0
    assert sh.sim.kernel.clock.monotonic_ns() - start < 130_000_000


def test_ppoll_blocks_signals_only_while_it_sleeps(sh: Shell) -> None:
    reader, writer = sh.pipe()
    sh.task.blocked = 0b1000
    mask = sh.data(struct.pack("<Q", 1 << 8 | 1 << 1))
    poll = sh.begin("ppoll", sh.data(struct.pack("<ihh", reader, 1, 0)), 1, 0, mask, 8)
    assert sh.task.blocked == 1 << 1, "SIGKILL cannot be blocked"
    sh.other().write(writer, b"x")
    assert poll.answer() == 1
    assert sh.task.blocked == 0b1000


def test_select_writes_back_the_time_that_is_left(sh: Shell) -> None:
    reader, writer = sh.pipe()
    fds = sh.data(struct.pack("<Q", 1 << reader))
    timeout = sh.data(struct.pack("<qq", 10, 0))
    select = sh.begin("select", reader + 1, fds, 0, 0, timeout)
    sh.sim.pass_time(4_000_000_000)
    sh.other().write(writer, b"x")
    assert select.answer() == 1
    assert sh.task.mm.peek(fds, 8) == struct.pack("<Q", 1 << reader)
    seconds, micro = struct.unpack("<qq", sh.task.mm.peek(timeout, 16))
    assert (seconds, micro > 999_000) == (5, True)


def test_epoll_wait_sleeps_until_an_edge(sh: Shell) -> None:
    reader, writer = sh.pipe()
    ep = sh.do("epoll_create1", 0)
    event = sh.data(struct.pack("<IQ", 1 | 1 << 31, 77))
    assert sh.do("epoll_ctl", ep, 1, reader, event) == 0
    other = sh.other()
    other.write(writer, b"x")
    out = sh.room(12)
    assert sh.do("epoll_wait", ep, out, 1, -1) == 1
    assert sh.task.mm.peek(out, 12) == struct.pack("<IQ", 1, 77)
    wait = sh.begin("epoll_wait", ep, out, 1, -1)
    assert wait.blocked, "no new edge"
    other.write(writer, b"y")
    assert wait.answer() == 1


def test_a_signal_ends_epoll_wait_whatever_restart_says(sh: Shell) -> None:
    ep = sh.do("epoll_create1", 0)
    wait = sh.begin("epoll_wait", ep, sh.room(12), 1, -1)
    sh.sim.signal(sh.task)
    with pytest.raises(Interrupted) as caught:
        wait.answer()
    assert caught.value.restart == "intr"


def test_an_eventfd_that_is_full_takes_the_next_count_when_it_was_read(sh: Shell) -> None:
    fd = sh.do("eventfd2", 0, 0)
    sh.write(fd, struct.pack("<Q", (1 << 64) - 2))
    other = sh.other()
    write = other.begin("write", fd, other.data(struct.pack("<Q", 3)), 8)
    assert write.blocked
    assert sh.read(fd, 8) == struct.pack("<Q", (1 << 64) - 2)
    assert write.answer() == 8
    assert sh.read(fd, 8) == struct.pack("<Q", 3)


def test_descriptors_without_contents_have_a_position_that_stays(sh: Shell) -> None:
    fds = [sh.do("eventfd2", 0, 0), sh.do("epoll_create1", 0), sh.do("timerfd_create", 1, 0)]
    for fd in fds:
        assert sh.do("lseek", fd, 5, 0) == 0
        assert sh.error("lseek", fd, 5, 9) == "EINVAL"
        assert sh.error("pread64", fd, sh.room(8), 8, 0) == "ESPIPE"
