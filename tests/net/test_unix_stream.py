"""Unix streams that block: who sleeps, who wakes, and what a signal leaves."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from fs.driver import Sim
from net.rig import BUFFER_BYTES, DONTWAIT, NOSIGNAL, PEEK, WAITALL, NetShell
from uvm_async.errors import Errno
from uvm_async.sched.wait import Interrupted

SIGPIPE = 13


@pytest.fixture
def sh() -> Iterator[NetShell]:
    shell = NetShell(Sim.boot())
    yield shell
    shell.sim.close()


def test_a_receiver_sleeps_until_somebody_sends(sh: NetShell) -> None:
    one, other = sh.socketpair()
    receive = sh.begin("recvfrom", other, sh.room(10), 10, 0, 0, 0)
    assert receive.blocked
    sh.other().send(one, b"hello")
    assert receive.answer() == 5
    assert sh.peek(5) == b"hello"


def test_a_large_send_goes_on_where_it_was_after_every_sleep(sh: NetShell) -> None:
    one, other = sh.socketpair()
    content = os.urandom(700_000)
    sender = sh.other()
    send = sender.begin("sendto", one, sender.data(content), len(content), 0, 0, 0)
    got = b""
    while send.blocked:
        sh.task.mm.next_free = 0
        got += sh.receive(other, 60_000)
    while len(got) < len(content):
        sh.task.mm.next_free = 0
        got += sh.receive(other, 60_000)
    assert send.answer() == len(content)
    assert send.runs > 2
    assert got == content


def test_a_blocked_sender_is_woken_only_once_it_is_worth_it(sh: NetShell) -> None:
    one, other = sh.socketpair()
    sender = sh.other()
    size = 2 * BUFFER_BYTES
    send = sender.begin("sendto", one, sender.data(bytes(size)), size, 0, 0, 0)
    sh.receive(other, 40_000)
    assert send.runs == 1
    for _ in range(4):
        sh.task.mm.next_free = 0
        sh.receive(other, 40_000)
    assert send.runs == 2


def test_a_signal_ends_a_send_with_what_it_has_done(sh: NetShell) -> None:
    one, other = sh.socketpair()
    size = 2 * BUFFER_BYTES
    send = sh.begin("sendto", one, sh.data(bytes(size)), size, 0, 0, 0)
    assert send.blocked
    sh.sim.signal(sh.task)
    done = send.answer()
    assert 0 < done < size
    received = 0
    while received < done:
        sh.task.mm.next_free = 0
        received += len(sh.receive(other, 60_000))
    assert received == done


def test_a_signal_interrupts_a_receive_that_got_nothing(sh: NetShell) -> None:
    _, other = sh.socketpair()
    receive = sh.begin("recvfrom", other, sh.room(10), 10, 0, 0, 0)
    sh.sim.signal(sh.task)
    with pytest.raises(Interrupted):
        receive.answer()


def test_a_receive_of_all_waits_over_several_sends_and_a_signal_cuts_it(sh: NetShell) -> None:
    one, other = sh.socketpair()
    sender = sh.other()
    receive = sh.begin("recvfrom", other, sh.room(12), 12, WAITALL, 0, 0)
    for part in (b"abcd", b"efgh", b"ijkl"):
        assert receive.blocked
        sender.send(one, part)
    assert receive.answer() == 12
    assert sh.peek(12) == b"abcdefghijkl"
    receive = sh.begin("recvfrom", other, sh.room(12), 12, WAITALL, 0, 0)
    sender.send(one, b"part")
    sh.sim.signal(sh.task)
    assert receive.answer() == 4
    assert sh.peek(4) == b"part"


def test_a_time_limit_ends_a_receive_that_was_woken_in_vain(sh: NetShell) -> None:
    one, other = sh.socketpair()
    limit = (0).to_bytes(8, "little") + (50_000).to_bytes(8, "little")
    sh.do("setsockopt", other, 1, 20, sh.data(limit), 16)
    thief = sh.other()
    receive = sh.begin("recvfrom", other, sh.room(10), 10, 0, 0, 0)
    sh.sim.pass_time(30_000_000)
    assert receive.blocked
    sh.sim.pass_time(30_000_000)
    with pytest.raises(Errno.EAGAIN):
        receive.answer()
    thief.send(one, b"late")
    assert sh.receive(other) == b"late"


def test_looking_takes_nothing(sh: NetShell) -> None:
    one, other = sh.socketpair()
    sh.send(one, b"first ")
    sh.send(one, b"second")
    assert sh.receive(other, 100, PEEK) == b"first second"
    assert sh.receive(other, 3) == b"fir"
    assert sh.receive(other, 5, PEEK) == b"st se"
    assert sh.receive(other) == b"st second"


def test_a_send_to_nobody_signals_unless_told_not_to(sh: NetShell) -> None:
    one, other = sh.socketpair()
    sh.do("close", other)
    assert sh.error("sendto", one, sh.data(b"x"), 1, NOSIGNAL, 0, 0) == "EPIPE"
    assert sh.sim.kernel.signals == []
    assert sh.error("write", one, sh.data(b"x"), 1) == "EPIPE"
    assert sh.sim.kernel.signals == [(sh.task.pid, SIGPIPE)]


def test_a_sender_that_sleeps_when_the_other_end_closes_gets_an_error_but_no_signal(
    sh: NetShell,
) -> None:
    one, other = sh.socketpair()
    sh.send(one, bytes(BUFFER_BYTES), DONTWAIT)
    send = sh.begin("sendto", one, sh.data(b"x"), 1, 0, 0, 0)
    assert send.blocked
    sh.other(threads=True).do("close", other)
    with pytest.raises(Errno.ECONNRESET):
        send.answer()
    assert sh.sim.kernel.signals == []


def test_what_could_not_be_stored_can_be_received_again(sh: NetShell) -> None:
    one, other = sh.socketpair()
    sh.send(one, b"precious")
    end = sh.task.mm.BASE + sh.task.mm.SIZE
    assert sh.error("recvfrom", other, end - 4, 8, 0, 0, 0) == "EFAULT"
    assert sh.receive(other) == b"precious"
    sh.task.mm.absent[sh.room(9000) // 4096 + 1] = None
    sh.send(one, b"p" * 9000)
    assert sh.do("recvfrom", other, sh._last_room, 9000, 0, 0, 0) == 9000
    assert sh.peek(9000) == b"p" * 9000


def test_readiness_follows_the_data_and_the_ends(sh: NetShell) -> None:
    in_, out, hup, rdhup = 0x41, 0x304, 0x10, 0x2000
    one, other = sh.socketpair()
    assert sh.revents(one) == out
    sh.send(other, b"x")
    assert sh.revents(one) == in_ | out
    sh.receive(one)
    sh.do("shutdown", other, 1)
    assert sh.revents(one) == in_ | out | rdhup
    sh.do("close", other)
    assert sh.revents(one) == in_ | out | hup | rdhup
