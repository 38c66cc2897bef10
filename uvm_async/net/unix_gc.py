"""Sockets that only messages to themselves keep alive.

Linux: net/unix/garbage.c.  A socket may be sent over itself and closed: then
nothing but its own queue refers to it.  Whenever a Unix socket is closed while
sockets travel, those that cannot be reached any more are emptied, and end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvm_async.net.socket import Socket, SocketFile, SockFs

if TYPE_CHECKING:
    from uvm_async.fs.inode import File

__all__ = ["collect"]


def _queued_files(socket: Socket) -> list[SocketFile]:
    """Sockets in the messages that wait in `socket`, or in connections that wait in it."""
    found: list[File] = []
    todo = [socket]
    while todo:
        current = todo.pop()
        for packet in current.queue:
            found += packet.scm.files
        todo += getattr(current, "backlog", ())
    return [file for file in found if isinstance(file, SocketFile)]


async def collect(sb: SockFs) -> None:
    """End the sockets that only other such sockets refer to."""
    if not sb.inflight:
        return
    suspects = {file: 0 for file, count in sb.inflight.items() if file.refs == count}
    for file in suspects:
        for inner in _queued_files(file.socket):
            if inner in suspects:
                suspects[inner] += 1
    alive = [file for file, inside in suspects.items() if inside < file.refs]
    while alive:
        file = alive.pop()
        if suspects.pop(file, None) is not None:
            alive += [inner for inner in _queued_files(file.socket) if inner in suspects]
    if not suspects:
        return
    garbage: list[File] = []
    for file in suspects:
        for packet in file.socket.queue:
            garbage += packet.scm.detach(sb)
        for embryo in getattr(file.socket, "backlog", ()):
            for packet in embryo.queue:
                garbage += packet.scm.detach(sb)
    await sb.drop_files(garbage)
