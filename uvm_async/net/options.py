"""Socket options at the level SOL_SOCKET.

Linux: net/core/sock.c (sk_setsockopt, sk_getsockopt), man 7 socket.  Options that
only matter to networks are kept and answered, as Linux does for Unix sockets.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.fs.fdtable import fd_install
from uvm_async.fs.pidfd import PidFile
from uvm_async.net.scm import UCRED
from uvm_async.net.socket import LISTEN, SO_PASSCRED, SO_PASSPIDFD, SO_RCVLOWAT, Socket
from uvm_async.net.unix import UnixSocket

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

__all__ = ["get_option", "set_option"]

(SO_DEBUG, SO_REUSEADDR, SO_TYPE, SO_ERROR, SO_DONTROUTE, SO_BROADCAST, SO_SNDBUF, SO_RCVBUF,
 SO_KEEPALIVE, SO_OOBINLINE, SO_NO_CHECK, SO_PRIORITY, SO_LINGER, SO_BSDCOMPAT,
 SO_REUSEPORT) = range(1, 16)  # fmt: skip
SO_PEERCRED, SO_SNDLOWAT, SO_RCVTIMEO, SO_SNDTIMEO = 17, 19, 20, 21
SO_DETACH_FILTER, SO_PEERNAME, SO_TIMESTAMP, SO_ACCEPTCONN = 27, 28, 29, 30
SO_SNDBUFFORCE, SO_RCVBUFFORCE, SO_PASSSEC, SO_TIMESTAMPNS, SO_MARK = 32, 33, 34, 35, 36
SO_PROTOCOL, SO_DOMAIN, SO_PEERGROUPS, SO_PEERPIDFD = 38, 39, 59, 77
SO_RCVTIMEO_NEW, SO_SNDTIMEO_NEW = 66, 67

FLAGS: Final = (
    SO_DEBUG, SO_REUSEADDR, SO_DONTROUTE, SO_BROADCAST, SO_KEEPALIVE, SO_OOBINLINE,
    SO_NO_CHECK, SO_PASSCRED, SO_TIMESTAMP, SO_PASSSEC, SO_TIMESTAMPNS, SO_PASSPIDFD,
)  # fmt: skip
"""On or off."""
NUMBERS: Final = (SO_PRIORITY, SO_RCVLOWAT, SO_MARK)
TIMEOUTS: Final = (SO_RCVTIMEO, SO_SNDTIMEO, SO_RCVTIMEO_NEW, SO_SNDTIMEO_NEW)
INT: Final = Struct("<i")
TIMEVAL: Final = Struct("<qq")
LINGER: Final = Struct("<ii")
INT_MAX: Final = (1 << 31) - 1
MAX_BUFFER_BYTES: Final = 4194304
"""/proc/sys/net/core/wmem_max and rmem_max."""
MIN_SNDBUF_BYTES, MIN_RCVBUF_BYTES = 4608, 2304
NO_PEER: Final = (0, 0xFFFFFFFF, 0xFFFFFFFF)
CAP_NET_ADMIN: Final = 12


async def set_option(task: Task, socket: Socket, option: int, addr: int, size: int) -> None:
    """Raises EINVAL, EFAULT, EDOM, ENOPROTOOPT, EPERM, EACCES, EOPNOTSUPP, ENOENT."""
    if size < INT.size:
        raise Errno.EINVAL
    (value,) = INT.unpack(await task.mm.copy_from_user(addr, INT.size))
    if option in FLAGS:
        if option == SO_DEBUG and value and not task.cred.capable(CAP_NET_ADMIN):
            raise Errno.EACCES
        socket.options[option] = int(bool(value))
    elif option in NUMBERS:
        _set_number(task, socket, option, value)
    elif option in (SO_SNDBUF, SO_SNDBUFFORCE):
        socket.sndbuf_bytes = _buffer(task, value, MIN_SNDBUF_BYTES, option == SO_SNDBUFFORCE)
        socket.write_wait.wake_up()
    elif option in (SO_RCVBUF, SO_RCVBUFFORCE):
        socket.rcvbuf_bytes = _buffer(task, value, MIN_RCVBUF_BYTES, option == SO_RCVBUFFORCE)
    elif option in TIMEOUTS:
        await _set_timeout(task, socket, option, addr, size)
    elif option == SO_LINGER:
        if size < LINGER.size:
            raise Errno.EINVAL
        on, seconds = LINGER.unpack(await task.mm.copy_from_user(addr, LINGER.size))
        socket.linger = (int(bool(on)), seconds if on else socket.linger[1])
    elif option == SO_REUSEPORT:
        if value:
            raise Errno.EOPNOTSUPP
    elif option == SO_DETACH_FILTER:
        raise Errno.ENOENT
    elif option != SO_BSDCOMPAT:
        raise Errno.ENOPROTOOPT


def _set_number(task: Task, socket: Socket, option: int, value: int) -> None:
    if option == SO_RCVLOWAT:
        value = INT_MAX if value < 0 else value or 1
    elif not task.cred.capable(CAP_NET_ADMIN) and not (option == SO_PRIORITY and 0 <= value <= 6):
        raise Errno.EPERM
    socket.options[option] = value


def _buffer(task: Task, value: int, least: int, forced: bool) -> int:
    """What a buffer size becomes: doubled, within limits. Raises EPERM."""
    if forced:
        if not task.cred.capable(CAP_NET_ADMIN):
            raise Errno.EPERM
        value = min(max(value, 0), INT_MAX // 2)
    else:
        # Compared as unsigned: a negative size is the largest.
        value = min(value & 0xFFFFFFFF, MAX_BUFFER_BYTES)
    return max(value * 2, least)


async def _set_timeout(task: Task, socket: Socket, option: int, addr: int, size: int) -> None:
    if size < TIMEVAL.size:
        raise Errno.EINVAL
    seconds, micro = TIMEVAL.unpack(await task.mm.copy_from_user(addr, TIMEVAL.size))
    if not 0 <= micro < 1_000_000:
        raise Errno.EDOM
    if seconds < 0:
        # Linux: a negative timeout is none at all, so the next wait is over at once.
        timeout = 1
    else:
        timeout = min(seconds * 10**9 + micro * 1000, 1 << 62)
    if option in (SO_RCVTIMEO, SO_RCVTIMEO_NEW):
        socket.rcvtimeo_ns = timeout
    else:
        socket.sndtimeo_ns = timeout


async def get_option(task: Task, socket: Socket, option: int, addr: int, addr_size: int) -> None:
    """Store an option's value at `addr` and its size at `addr_size`. Raises ENOPROTOOPT, EFAULT."""
    (room,) = INT.unpack(await task.mm.copy_from_user(addr_size, INT.size))
    if room < 0:
        raise Errno.EINVAL
    if option == SO_PEERGROUPS:
        await _get_groups(task, socket, addr, addr_size, room)
        return
    data = _value(task, socket, option)
    data = data[:room]
    await task.mm.copy_to_user(addr, data)
    await task.mm.copy_to_user(addr_size, INT.pack(len(data)))


def _value(task: Task, socket: Socket, option: int) -> bytes:
    if option in FLAGS:
        return INT.pack(socket.options.get(option, 0))
    if option in NUMBERS:
        return INT.pack(socket.options.get(option, int(option == SO_RCVLOWAT)))
    if option in TIMEOUTS:
        receiving = option in (SO_RCVTIMEO, SO_RCVTIMEO_NEW)
        seconds, rest = divmod(socket.rcvtimeo_ns if receiving else socket.sndtimeo_ns, 10**9)
        return TIMEVAL.pack(seconds, rest // 1000)
    if option == SO_LINGER:
        return LINGER.pack(*socket.linger)
    if option == SO_PEERCRED:
        pid, uid, gid = socket.peercred or NO_PEER
        return UCRED.pack(pid, uid, gid)
    if option == SO_PEERNAME:
        return socket.getname(peer=True)
    if option == SO_PEERPIDFD:
        return INT.pack(_peer_pidfd(task, socket))
    if option == SO_ERROR:
        error, socket.error = socket.error, None
        return INT.pack(error.errno if error is not None else 0)
    simple = {
        SO_TYPE: socket.type,
        SO_SNDBUF: socket.sndbuf_bytes,
        SO_RCVBUF: socket.rcvbuf_bytes,
        SO_BSDCOMPAT: 0,
        SO_REUSEPORT: 0,
        SO_SNDLOWAT: 1,
        SO_ACCEPTCONN: int(socket.state == LISTEN),
        SO_PROTOCOL: socket.protocol,
        SO_DOMAIN: socket.family,
    }
    if option not in simple:
        raise Errno.ENOPROTOOPT
    return INT.pack(simple[option])


async def _get_groups(task: Task, socket: Socket, addr: int, addr_size: int, room: int) -> None:
    """Supplementary groups of the peer. Raises ENODATA, ERANGE."""
    if not isinstance(socket, UnixSocket) or socket.peercred is None:
        raise Errno.ENODATA
    data = b"".join(gid.to_bytes(4, "little") for gid in socket.peergroups)
    await task.mm.copy_to_user(addr_size, INT.pack(len(data)))
    if room < len(data):
        raise Errno.ERANGE
    await task.mm.copy_to_user(addr, data)


def _peer_pidfd(task: Task, socket: Socket) -> int:
    if socket.peercred is None:
        raise Errno.ENODATA
    process = task.kernel.processes.get(socket.peercred[0])
    if process is None:
        raise Errno.ESRCH
    return fd_install(task, PidFile(task.kernel, process, None, 0), cloexec=True)
