"""Sockets are plain state: a frozen graph has connections, messages and sleepers in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fs.driver import Sim
from net.rig import BUFFER_BYTES, NetShell
from uvm_async.net.socket import Socket, SocketFile, SocketWait
from uvm_async.state import Entity, dump_graph, load_graph


class Root(Entity):
    """What is frozen: tasks as a machine has them."""

    def __init__(self, *tasks: Entity) -> None:
        self.tasks = list(tasks)


@pytest.fixture
def sh() -> Iterator[NetShell]:
    shell = NetShell(Sim.boot())
    yield shell
    shell.sim.close()


def thawed_socket(root: Entity, task: int, fd: int) -> Socket:
    assert isinstance(root, Root)
    file = root.tasks[task].files.fds[fd]  # type: ignore[attr-defined]
    assert isinstance(file, SocketFile)
    return file.socket


def test_messages_files_names_and_sleepers_survive(sh: NetShell) -> None:
    one, other = sh.socketpair()
    _, writer = sh.pipe()
    sh.send_files(one, b"message", writer)
    sh.do("close", writer)
    listener = sh.listener(b"/sock")
    client = sh.other()
    fd = client.connected(b"/sock")
    client.send(fd, b"early")
    sleeper = sh.other()
    size = 2 * BUFFER_BYTES
    send = sleeper.begin("sendto", other, sleeper.data(bytes(size)), size, 0, 0, 0)
    assert send.blocked

    sh.sim.kernel.frames = None  # type: ignore[assignment]
    root = load_graph(dump_graph(Root(sh.task, client.task, sleeper.task)))

    (packet,) = thawed_socket(root, 0, other).queue
    assert packet.data == b"message"
    assert packet.sender is thawed_socket(root, 0, one)
    assert [file.pipe.writers for file in packet.scm.files] == [1]  # type: ignore[attr-defined]
    listening = thawed_socket(root, 0, listener)
    (embryo,) = listening.backlog  # type: ignore[attr-defined]
    assert embryo.peer is thawed_socket(root, 1, fd)
    assert [queued.data for queued in embryo.queue] == [b"early"]
    assert list(listening.sb.unix_inodes.values()) == [listening]
    assert isinstance(root, Root)
    waiting = root.tasks[2]
    assert isinstance(waiting.restart, SocketWait)  # type: ignore[attr-defined]
    assert 0 < waiting.restart.done < size  # type: ignore[attr-defined]
    assert list(thawed_socket(root, 0, other).write_wait.waiters) == [waiting]
