"""Listening and connecting: who waits for whom, and when names come and go."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fs.driver import Sim, user
from net.rig import AF_UNIX, DGRAM, DONTWAIT, STREAM, NetShell
from uvm_async.errors import Errno


@pytest.fixture
def sh() -> Iterator[NetShell]:
    shell = NetShell(Sim.boot())
    yield shell
    shell.sim.close()


def test_an_accept_sleeps_until_somebody_connects(sh: NetShell) -> None:
    listener = sh.listener(b"/sock")
    accept = sh.begin("accept", listener, 0, 0)
    assert accept.blocked
    client = sh.other()
    fd = client.connected(b"/sock")
    served = accept.answer()
    client.send(fd, b"question")
    assert sh.receive(served) == b"question"


def test_a_connect_to_a_full_backlog_sleeps_until_somebody_is_accepted(sh: NetShell) -> None:
    listener = sh.listener(b"/sock", 0)
    client = sh.other()
    client.connected(b"/sock")
    fd = client.do("socket", AF_UNIX, STREAM, 0)
    connect = client.begin("connect", fd, *client.address(b"/sock"))
    assert connect.blocked
    sh.do("accept", listener, 0, 0)
    assert connect.answer() == 0


def test_a_connect_that_sleeps_is_refused_when_the_listener_goes(sh: NetShell) -> None:
    client = sh.other()
    listener = sh.listener(b"/sock", 0)
    first = client.connected(b"/sock")
    fd = client.do("socket", AF_UNIX, STREAM, 0)
    connect = client.begin("connect", fd, *client.address(b"/sock"))
    sh.do("close", listener)
    with pytest.raises(Errno.ECONNREFUSED):
        connect.answer()
    assert client.error("recvfrom", first, client.room(1), 1, 0, 0, 0) == "ECONNRESET"


def test_a_thread_that_accepts_wakes_when_another_shuts_the_listener_down(sh: NetShell) -> None:
    listener = sh.listener(b"/sock")
    accept = sh.begin("accept", listener, 0, 0)
    sh.other(threads=True).do("shutdown", listener, 0)
    with pytest.raises(Errno.EINVAL):
        accept.answer()


def test_a_name_needs_the_right_to_write_it(sh: NetShell) -> None:
    sh.listener(b"/sock")
    sh.do("chmod", b"/sock", 0o600)
    stranger = sh.other()
    stranger.task.cred = user(7, 7)
    fd = stranger.do("socket", AF_UNIX, STREAM, 0)
    with pytest.raises(Errno.EACCES):
        stranger.do("connect", fd, *stranger.address(b"/sock"))
    fd = stranger.do("socket", AF_UNIX, STREAM, 0)
    with pytest.raises(Errno.EACCES):
        stranger.do("bind", fd, *stranger.address(b"/other"))
    sh.do("chmod", b"/sock", 0o602)
    stranger.connected(b"/sock")


def test_a_bound_socket_keeps_its_inode_without_a_name(sh: NetShell) -> None:
    fd = sh.listener(b"/sock")
    inode = sh.inode(b"/sock")
    sh.do("unlink", b"/sock")
    assert inode.opens == 1
    sh.do("close", fd)
    assert inode.opens == 0
    assert inode not in sh.sim.kernel.mounts.internal[b"sockfs"].sb.unix_inodes  # type: ignore[attr-defined]


def test_an_abstract_name_is_free_again_after_the_last_close(sh: NetShell) -> None:
    fd = sh.listener(b"\0name")
    child = sh.other()
    sh.do("close", fd)
    again = sh.do("socket", AF_UNIX, STREAM, 0)
    with pytest.raises(Errno.EADDRINUSE):
        sh.do("bind", again, *sh.address(b"\0name"))
    child.do("close", fd)
    sh.do("bind", again, *sh.address(b"\0name"))


def test_autobind_finds_the_next_free_name(sh: NetShell) -> None:
    taken = sh.do("socket", AF_UNIX, DGRAM, 0)
    sh.do("bind", taken, *sh.address(b"\x0000001"))
    fd = sh.do("socket", AF_UNIX, DGRAM, 0)
    sh.do("bind", fd, *sh.address(b""))
    sh.do("getsockname", fd, sh.room(20), sh.data((20).to_bytes(4, "little")))
    assert sh.peek(8) == b"\x01\x00\x0000002"


def test_a_datagram_to_a_full_queue_waits_for_the_receiver(sh: NetShell) -> None:
    receiver = sh.do("socket", AF_UNIX, DGRAM, 0)
    sh.do("bind", receiver, *sh.address(b"/box"))
    sender = sh.other()
    fd = sender.connected(b"/box", DGRAM)
    for number in range(11):
        sender.send(fd, b"%d" % number)
    assert sender.error("sendto", fd, sender.data(b"x"), 1, DONTWAIT, 0, 0) == "EAGAIN"
    assert not sender.revents(fd) & 4
    send = sender.begin("sendto", fd, sender.data(b"last"), 4, 0, 0, 0)
    assert send.blocked
    assert sh.receive(receiver) == b"0"
    assert send.answer() == 4


def test_a_connected_datagram_socket_hears_of_its_peers_end_once(sh: NetShell) -> None:
    receiver = sh.do("socket", AF_UNIX, DGRAM, 0)
    sh.do("bind", receiver, *sh.address(b"/box"))
    fd = sh.connected(b"/box", DGRAM)
    sh.do("close", receiver)
    assert sh.error("sendto", fd, sh.data(b"x"), 1, 0, 0, 0) == "ECONNREFUSED"
    assert sh.error("sendto", fd, sh.data(b"x"), 1, 0, 0, 0) == "ENOTCONN"
