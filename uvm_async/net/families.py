"""Which sockets there are: socket(2)'s family, type and protocol to a class.

Linux: net/socket.c (__sock_create), net/unix/af_unix.c (unix_create).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.net.socket import (
    AF_UNIX,
    SOCK_DGRAM,
    SOCK_RAW,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    Socket,
    sockfs,
)
from uvm_async.net.unix_dgram import UnixDatagram, UnixSeqpacket
from uvm_async.net.unix_stream import UnixStream

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

__all__ = ["create_socket"]

NPROTO: Final = 46
SOCK_MAX: Final = 11
UNIX_TYPES: Final[dict[int, type[Socket]]] = {
    SOCK_STREAM: UnixStream,
    SOCK_DGRAM: UnixDatagram,
    SOCK_RAW: UnixDatagram,
    SOCK_SEQPACKET: UnixSeqpacket,
}


def create_socket(task: Task, family: int, kind: int, protocol: int) -> Socket:
    """Raises EAFNOSUPPORT, EINVAL, ESOCKTNOSUPPORT, EPROTONOSUPPORT."""
    if not 0 <= family < NPROTO:
        raise Errno.EAFNOSUPPORT
    if not 0 <= kind < SOCK_MAX:
        raise Errno.EINVAL
    if family != AF_UNIX:
        raise Errno.EAFNOSUPPORT
    if protocol not in (0, AF_UNIX):
        raise Errno.EPROTONOSUPPORT
    cls = UNIX_TYPES.get(kind)
    if cls is None:
        raise Errno.ESOCKTNOSUPPORT
    return cls(sockfs(task.kernel))
