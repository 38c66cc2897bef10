"""Files and credentials that travel: how long they live, and when they are let go."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fs.driver import Sim
from net.rig import DGRAM, DONTWAIT, PASSCRED, SOL_SOCKET, NetShell
from uvm_async.net.socket import SockFs


@pytest.fixture
def sh() -> Iterator[NetShell]:
    shell = NetShell(Sim.boot())
    yield shell
    shell.sim.close()


def inflight(sh: NetShell) -> int:
    sb = sh.sim.kernel.mounts.internal[b"sockfs"].sb
    assert isinstance(sb, SockFs)
    return sum(sb.inflight.values())


def is_hung_up(sh: NetShell, reader: int) -> bool:
    return bool(sh.revents(reader) & 0x10)


def test_a_file_lives_while_it_travels_and_arrives_under_a_new_number(sh: NetShell) -> None:
    one, other = sh.socketpair()
    reader, writer = sh.pipe()
    sh.send_files(one, b"here", writer)
    sh.do("close", writer)
    assert not is_hung_up(sh, reader)
    content, (fd,) = sh.receive_files(other)
    assert content == b"here"
    sh.write(fd, b"through")
    assert sh.read(reader, 20) == b"through"
    sh.do("close", fd)
    assert is_hung_up(sh, reader)


@pytest.mark.parametrize("kind", [1, DGRAM])
def test_files_nobody_asked_for_are_closed(sh: NetShell, kind: int) -> None:
    one, other = sh.socketpair(kind)
    reader, writer = sh.pipe()
    sh.send_files(one, b"x", writer)
    sh.do("close", writer)
    assert sh.receive(other) == b"x"
    assert is_hung_up(sh, reader)


def test_files_in_a_closed_sockets_queue_are_closed(sh: NetShell) -> None:
    one, other = sh.socketpair()
    reader, writer = sh.pipe()
    sh.send_files(one, b"x", writer, writer)
    for fd in (writer, one, other):
        sh.do("close", fd)
    assert is_hung_up(sh, reader)


def test_looking_at_a_message_gives_its_files_too(sh: NetShell) -> None:
    one, other = sh.socketpair()
    reader, writer = sh.pipe()
    sh.send_files(one, b"x", writer)
    sh.do("close", writer)
    _, (seen,) = sh.receive_files(other, flags=2)
    _, (taken,) = sh.receive_files(other)
    sh.do("close", seen)
    assert not is_hung_up(sh, reader)
    sh.do("close", taken)
    assert is_hung_up(sh, reader)


def test_a_send_that_sleeps_sends_its_files_once(sh: NetShell) -> None:
    one, other = sh.socketpair()
    reader, writer = sh.pipe()
    sender = sh.other()
    sender.do("fcntl", one, 4, 0)
    content = sender.data(bytes(400_000))
    control = (20).to_bytes(8, "little") + b"\1\0\0\0\1\0\0\0" + writer.to_bytes(4, "little")
    header = sender.header(content, 400_000, sender.data(control), len(control))
    send = sender.begin("sendmsg", one, header, 0)
    assert send.blocked
    arrived: list[int] = []
    total = 0
    while total < 400_000:
        sh.task.mm.next_free = 0
        data, files = sh.receive_files(other, 60_000, DONTWAIT)
        total += len(data)
        arrived += files
    assert send.answer() == 400_000
    assert len(arrived) == 1
    for fd in (writer, arrived[0]):
        sh.do("close", fd)
    sender.do("close", writer)
    assert is_hung_up(sh, reader)


def test_sockets_that_only_their_own_queues_hold_are_collected(sh: NetShell) -> None:
    reader, writer = sh.pipe()
    one, other = sh.socketpair()
    third, fourth = sh.socketpair(DGRAM)
    sh.send_files(one, b"self", other, writer)
    sh.send_files(third, b"cross", fourth, one)
    sh.send_files(fourth, b"cross", third)
    for fd in (writer, one, other, third, fourth):
        sh.do("close", fd)
    # As in Linux, it is done when the next socket ends.
    for fd in sh.socketpair():
        sh.do("close", fd)
    assert is_hung_up(sh, reader)
    assert inflight(sh) == 0


def test_sockets_that_can_still_be_received_are_not_collected(sh: NetShell) -> None:
    outer, out = sh.socketpair()
    one, other = sh.socketpair()
    sh.send(one, b"kept")
    sh.send_files(one, b"!", one)
    sh.send_files(outer, b"carrier", other)
    sh.do("close", one)
    sh.do("close", other)
    sh.do("close", sh.socketpair()[0])
    _, (fd,) = sh.receive_files(out)
    assert sh.receive(fd, 4) == b"kept"
    _, (again,) = sh.receive_files(fd)
    sh.send(again, b"alive")
    assert sh.receive(fd) == b"alive"


def test_a_chain_of_a_thousand_sockets_in_each_others_queues_ends(sh: NetShell) -> None:
    reader, writer = sh.pipe()
    carried = writer
    for _ in range(1000):
        sh.task.mm.next_free = 0
        one, other = sh.socketpair()
        sh.send_files(one, b"x", carried)
        sh.do("close", carried)
        sh.do("close", one)
        carried = other
    assert not is_hung_up(sh, reader)
    sh.do("close", carried)
    assert is_hung_up(sh, reader)
    assert inflight(sh) == 0


def test_credentials_are_of_whoever_sent_and_streams_stop_where_they_change(sh: NetShell) -> None:
    one, other = sh.socketpair()
    child = sh.other()
    sh.do("setsockopt", other, SOL_SOCKET, PASSCRED, sh.data(b"\1\0\0\0"), 4)
    sh.send(one, b"parent")
    child.send(one, b"child")
    child.send(one, b" again")
    seen = []
    for _ in range(2):
        buffer, control = sh.task.mm.alloc(50), sh.task.mm.alloc(64)
        count = sh.do("recvmsg", other, sh.header(buffer, 50, control, 64), 0)
        pid = int.from_bytes(sh.task.mm.peek(control + 16, 4), "little")
        seen.append((sh.task.mm.peek(buffer, count), pid))
    assert seen == [(b"parent", sh.task.pid), (b"child again", child.task.pid)]
