"""Sockets: making, naming and connecting them, and their options.

Linux: net/socket.c.  Messages are in `syscalls/messages.py`.  Order of checks: the
descriptor (EBADF, ENOTSOCK), the address (EINVAL, EFAULT), then the family.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.fs.fdtable import fd_install, nofile_limit
from uvm_async.fs.lifetime import fput, held_fd
from uvm_async.net.families import create_socket
from uvm_async.net.options import get_option, set_option
from uvm_async.net.socket import Socket, SocketFile, new_socket_file
from uvm_async.net.unix import UnixSocket, pair
from uvm_async.syscalls.abi import INT
from uvm_async.syscalls.table import Addr, Fd, Flags, Int, syscall

if TYPE_CHECKING:
    from uvm_async.fs.inode import File
    from uvm_async.kernel.task import Task

__all__ = ["SOCKADDR_MAX", "copy_sockaddr_to_user", "read_sockaddr", "socket_of"]

SOCK_CLOEXEC, SOCK_NONBLOCK = 0o2000000, 0o4000
SOCK_FLAGS: Final = SOCK_CLOEXEC | SOCK_NONBLOCK
SOCK_TYPE_MASK: Final = 0xF
SOCKADDR_MAX: Final = 128
"""sizeof(struct sockaddr_storage)."""
SOMAXCONN: Final = 4096
SOL_SOCKET: Final = 1
FD_PAIR: Final = Struct("<ii")
NO_INTERNET: Final = "Unix sockets only: AF_INET, AF_INET6, AF_NETLINK and others are EAFNOSUPPORT."


def socket_of(file: File) -> SocketFile:
    """Raises ENOTSOCK."""
    if not isinstance(file, SocketFile):
        raise Errno.ENOTSOCK
    return file


async def read_sockaddr(task: Task, addr: int, size: int) -> bytes:
    """A sockaddr of `size` bytes. Raises EINVAL, EFAULT."""
    if not 0 <= size <= SOCKADDR_MAX:
        raise Errno.EINVAL
    return await task.mm.copy_from_user(addr, size) if size else b""


async def copy_sockaddr_to_user(task: Task, name: bytes, addr: int, addr_size: int) -> None:
    """Store `name`, cut to the size at `addr_size`, which becomes its full size.

    Raises EFAULT, EINVAL.
    """
    (room,) = INT.unpack(await task.mm.copy_from_user(addr_size, INT.size))
    if room < 0:
        raise Errno.EINVAL
    await task.mm.copy_to_user(addr_size, INT.pack(len(name)))
    if room and name:
        await task.mm.copy_to_user(addr, name[:room])


def _split_type(kind: int) -> tuple[int, int]:
    """(type, SOCK_CLOEXEC and SOCK_NONBLOCK). Raises EINVAL."""
    flags = kind & ~SOCK_TYPE_MASK
    if flags & ~SOCK_FLAGS:
        raise Errno.EINVAL
    return kind & SOCK_TYPE_MASK, flags


def _install(task: Task, socket: Socket, flags: int) -> int:
    file = new_socket_file(task, socket, flags)
    return fd_install(task, file, cloexec=bool(flags & SOCK_CLOEXEC))


@syscall("socket", missing=NO_INTERNET)
def sys_socket(task: Task, family: Int, kind: Int, protocol: Int) -> int:
    """Create a socket. man 2 socket."""
    number, flags = _split_type(kind)
    socket = create_socket(task, family, number, protocol)
    task.files.check_room(nofile_limit(task))
    return _install(task, socket, flags)


@syscall("socketpair", missing=NO_INTERNET)
async def sys_socketpair(task: Task, family: Int, kind: Int, protocol: Int, usockvec: Addr) -> int:
    """Create two connected sockets. man 2 socketpair."""
    number, flags = _split_type(kind)
    files = task.files
    files.check_room(nofile_limit(task))
    # Linux reserves the descriptors, and makes sure that they can be told, before all else.
    first = files.lowest_free()
    await task.mm.copy_to_user(usockvec, FD_PAIR.pack(first, files.lowest_free(first + 1)))
    one = create_socket(task, family, number, protocol)
    other = create_socket(task, family, number, protocol)
    if not isinstance(one, UnixSocket) or not isinstance(other, UnixSocket):
        raise Errno.EOPNOTSUPP
    pair(task, one, other)
    fds = [_install(task, one, flags)]
    try:
        fds.append(_install(task, other, flags))
        await task.mm.copy_to_user(usockvec, FD_PAIR.pack(*fds))
    except (Errno.EMFILE, Errno.EFAULT):
        for fd in fds:
            await files.close(task, fd)
        raise
    return 0


@syscall("bind")
async def sys_bind(task: Task, fd: Fd, umyaddr: Addr, addrlen: Int) -> int:
    """Give a socket a name. man 2 bind."""
    async with held_fd(task, fd) as held:
        file = socket_of(held)
        addr = await read_sockaddr(task, umyaddr, addrlen)
        await file.socket.bind(task, addr, file.inode.mode & 0o777)
    return 0


@syscall("listen")
def sys_listen(task: Task, fd: Fd, backlog: Int) -> int:
    """Wait for connections. man 2 listen."""
    file = socket_of(task.files.get(fd))
    file.socket.listen(task, min(backlog & 0xFFFFFFFF, SOMAXCONN))
    return 0


@syscall("connect")
async def sys_connect(task: Task, fd: Fd, uservaddr: Addr, addrlen: Int) -> int:
    """Connect to a name. man 2 connect."""
    async with held_fd(task, fd) as held:
        file = socket_of(held)
        addr = await read_sockaddr(task, uservaddr, addrlen)
        await file.socket.connect(task, addr, file.call_flags())
    return 0


@syscall("accept")
async def sys_accept(task: Task, fd: Fd, upeer: Addr, upeer_addrlen: Addr) -> int:
    """Accept a connection. man 2 accept."""
    return await _accept(task, fd, upeer, upeer_addrlen, 0)


@syscall("accept4")
async def sys_accept4(task: Task, fd: Fd, upeer: Addr, upeer_addrlen: Addr, flags: Flags) -> int:
    """Accept a connection. man 2 accept."""
    return await _accept(task, fd, upeer, upeer_addrlen, flags)


async def _accept(task: Task, fd: int, upeer: int, upeer_addrlen: int, flags: int) -> int:
    async with held_fd(task, fd) as held:
        if flags & ~SOCK_FLAGS:
            raise Errno.EINVAL
        file = socket_of(held)
        task.files.check_room(nofile_limit(task))
        socket = await file.socket.accept(task, file.call_flags())
        accepted = new_socket_file(task, socket, flags)
        try:
            if upeer:
                name = socket.getname(peer=True)
                await copy_sockaddr_to_user(task, name, upeer, upeer_addrlen)
            return fd_install(task, accepted, cloexec=bool(flags & SOCK_CLOEXEC))
        except Errno:
            await fput(accepted)
            raise


async def _getname(task: Task, fd: int, addr: int, addr_size: int, *, peer: bool) -> int:
    async with held_fd(task, fd) as held:
        name = socket_of(held).socket.getname(peer=peer)
        await copy_sockaddr_to_user(task, name, addr, addr_size)
    return 0


@syscall("getsockname")
async def sys_getsockname(task: Task, fd: Fd, usockaddr: Addr, usockaddr_len: Addr) -> int:
    """The name a socket is bound to. man 2 getsockname."""
    return await _getname(task, fd, usockaddr, usockaddr_len, peer=False)


@syscall("getpeername")
async def sys_getpeername(task: Task, fd: Fd, usockaddr: Addr, usockaddr_len: Addr) -> int:
    """The name of whom a socket is connected to. man 2 getpeername."""
    return await _getname(task, fd, usockaddr, usockaddr_len, peer=True)


@syscall("shutdown")
def sys_shutdown(task: Task, fd: Fd, how: Int) -> int:
    """Shut down part of a connection. man 2 shutdown."""
    file = socket_of(task.files.get(fd))
    if not 0 <= how <= 2:
        raise Errno.EINVAL
    file.socket.shutdown(how)
    return 0


@syscall(
    "setsockopt",
    missing="SOL_SOCKET of Unix sockets only; no filters, SO_PEEK_OFF, SO_BUSY_POLL, SO_INCOMING_*;"
    " time stamps are asked for but never sent.",
)
async def sys_setsockopt(
    task: Task, fd: Fd, level: Int, optname: Int, optval: Addr, optlen: Int
) -> int:
    """Set an option. man 2 setsockopt."""
    if optlen < 0:
        raise Errno.EINVAL
    async with held_fd(task, fd) as held:
        socket = socket_of(held).socket
        if level != SOL_SOCKET:
            raise Errno.EOPNOTSUPP
        await set_option(task, socket, optname, optval, optlen)
    return 0


@syscall(
    "getsockopt", missing="SOL_SOCKET of Unix sockets only; SO_PEERSEC, SO_MEMINFO, SO_COOKIE."
)
async def sys_getsockopt(
    task: Task, fd: Fd, level: Int, optname: Int, optval: Addr, optlen: Addr
) -> int:
    """Get an option. man 2 getsockopt."""
    async with held_fd(task, fd) as held:
        socket = socket_of(held).socket
        if level != SOL_SOCKET:
            raise Errno.EOPNOTSUPP
        await get_option(task, socket, optname, optval, optlen)
    return 0
