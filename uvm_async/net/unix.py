"""Unix domain sockets: names, connections, and their end.

Linux: net/unix/af_unix.c, man 7 unix.  What is here serves all three types;
`unix_stream.py` and `unix_dgram.py` move the data.

A name is a path (a socket inode in the file system) or abstract (a table of the
machine).  A connection is a pair of sockets that are each other's `peer`; the one
at the accepting side stands on the listener's `backlog` queue until it is
accepted.

Invariants:
- a socket that is bound to a path holds the path until it is closed;
- a peer that is dead stays the peer, so that names and credentials can be asked.
"""

from __future__ import annotations

import stat
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from struct import Struct
from typing import TYPE_CHECKING, ClassVar, Final

from uvm_async.errors import Errno
from uvm_async.fs.dirops import mknod, unlink
from uvm_async.fs.file import touch_atime
from uvm_async.fs.lifetime import path_get, path_put
from uvm_async.fs.namei import AT_FDCWD, lookup
from uvm_async.fs.permission import MAY_WRITE, check_permission
from uvm_async.net.scm import own_creds
from uvm_async.net.socket import (
    AF_UNIX,
    CLOSE,
    ESTABLISHED,
    LISTEN,
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    SO_PASSCRED,
    SO_PASSPIDFD,
    Message,
    Packet,
    Socket,
    SockFs,
)
from uvm_async.net.unix_gc import collect
from uvm_async.sched.wait import WaitQueue

if TYPE_CHECKING:
    from uvm_async.fs.inode import Path
    from uvm_async.kernel.task import Task

__all__ = ["UnixSocket", "pair"]

FAMILY: Final = Struct("<H")
SUN_BYTES: Final = 110
"""sizeof(struct sockaddr_un)."""
AUTOBIND_NAMES: Final = 1 << 20
SIOCOUTQ, SIOCINQ = 0x5411, 0x541B


def check_address(addr: bytes) -> bytes:
    """The sun_path of a sockaddr_un, NUL-terminated names cut there. Raises EINVAL."""
    if not FAMILY.size < len(addr) <= SUN_BYTES or FAMILY.unpack_from(addr)[0] != AF_UNIX:
        raise Errno.EINVAL
    name = addr[FAMILY.size :]
    return name if name[0] == 0 else name.split(b"\0", 1)[0]


class UnixSocket(Socket):
    """Linux: struct unix_sock."""

    family: ClassVar[int] = AF_UNIX
    connects: ClassVar[bool] = True
    """Is it of the connection-oriented types?"""

    def __init__(self, sb: SockFs) -> None:
        super().__init__(sb)
        self.addr = b""
        """The sockaddr it is bound to; empty: none."""
        self.path: Path | None = None
        self.bound_inode = False
        self.peer: UnixSocket | None = None
        self.backlog: deque[UnixSocket] = deque()
        """Connections that were not accepted yet."""
        self.max_backlog = 10
        """More in the queue than this is full (/proc/sys/net/unix/max_dgram_qlen, or listen)."""
        self.peer_wait = WaitQueue()
        """Woken when somebody who sends or connects to it finds room (unix_sock.peer_wait)."""

    # -- names

    def getname(self, *, peer: bool) -> bytes:
        socket: UnixSocket | None = self
        if peer:
            socket = self.peer
            if socket is None:
                raise Errno.ENOTCONN
        assert socket is not None
        return socket.addr or FAMILY.pack(AF_UNIX)

    async def bind(self, task: Task, addr: bytes, mode: int) -> None:
        """Raises EINVAL (bound already), EADDRINUSE, and what making a name raises."""
        if addr == FAMILY.pack(AF_UNIX):
            self.autobind(task)
            return
        name = check_address(addr)
        if name[0]:
            await self._bind_path(task, name, mode)
        else:
            self._bind_abstract(addr)

    def _bind_abstract(self, addr: bytes) -> None:
        if self.addr:
            raise Errno.EINVAL
        key = (self.type, addr)
        if key in self.sb.unix_abstract:
            raise Errno.EADDRINUSE
        self.sb.unix_abstract[key] = self
        self.addr = addr

    def autobind(self, task: Task) -> None:
        """Take a free abstract name of five hexadecimal digits, unless it has a name."""
        if self.addr:
            return
        start = int.from_bytes(task.kernel.entropy.bytes(4), "little")
        for step in range(AUTOBIND_NAMES):
            name = b"\0%05x" % ((start + step) % AUTOBIND_NAMES)
            with suppress(Errno.EADDRINUSE):
                self._bind_abstract(FAMILY.pack(AF_UNIX) + name)
                return
        raise Errno.ENOSPC

    async def _bind_path(self, task: Task, name: bytes, mode: int) -> None:
        try:
            await mknod(task, AT_FDCWD, name, stat.S_IFSOCK | mode, 0)
        except Errno.EEXIST:
            raise Errno.EADDRINUSE from None
        if self.addr:
            await unlink(task, AT_FDCWD, name)
            raise Errno.EINVAL
        path = path_get(await lookup(task, AT_FDCWD, name, follow=False))
        self.path = path
        self.addr = FAMILY.pack(AF_UNIX) + name + b"\0"
        self.bound_inode = True
        self.sb.unix_inodes[path.inode] = self

    async def find(self, task: Task, addr: bytes) -> UnixSocket:
        """The socket that `addr` names. Raises ECONNREFUSED, EPROTOTYPE, EINVAL, ENOENT, EACCES."""
        name = check_address(addr)
        if not name[0]:
            found = self.sb.unix_abstract.get((self.type, addr))
            if found is None:
                raise Errno.ECONNREFUSED
        else:
            path = await lookup(task, AT_FDCWD, name)
            check_permission(task.cred, path.inode, MAY_WRITE)
            found = self.sb.unix_inodes.get(path.inode)
            if found is None:
                raise Errno.ECONNREFUSED
            if found.type != self.type:
                raise Errno.EPROTOTYPE
            touch_atime(path, path.inode, 0)
        assert isinstance(found, UnixSocket)
        return found

    # -- connections (streams and sequenced packets)

    def _is_full(self) -> bool:
        """No more connections, or datagrams of strangers."""
        return max(len(self.backlog), len(self.queue)) > self.max_backlog

    def take_peercred(self, task: Task) -> None:
        """Who it belongs to, for the other side's SO_PEERCRED."""
        self.peercred = (task.tgid, task.cred.euid, task.cred.egid)
        self.peergroups = task.cred.groups

    def listen(self, task: Task, backlog: int) -> None:
        """Raises EOPNOTSUPP, EINVAL (no name, connected)."""
        if not self.connects:
            raise Errno.EOPNOTSUPP
        if not self.addr or self.state not in (CLOSE, LISTEN):
            raise Errno.EINVAL
        if backlog > self.max_backlog:
            self.peer_wait.wake_up()
        self.max_backlog = backlog
        self.state = LISTEN
        self.take_peercred(task)

    async def connect(self, task: Task, addr: bytes, flags: int) -> None:
        """Raises ECONNREFUSED, EISCONN, EAGAIN (the backlog is full), EINVAL, EPROTOTYPE."""
        check_address(addr)
        if self.passes_creds:
            self.autobind(task)
        other = await self.find(task, addr)
        if other.state != LISTEN or other.shut & RCV_SHUTDOWN or other.dead:
            raise Errno.ECONNREFUSED
        if other._is_full():
            await self.sleep(task, other.peer_wait, flags=flags, timeout_ns=self.sndtimeo_ns)
        if self.state != CLOSE:
            raise Errno.EISCONN if self.state == ESTABLISHED else Errno.EINVAL
        embryo = type(self)(self.sb)
        embryo.addr, embryo.path = other.addr, other.path
        if embryo.path is not None:
            path_get(embryo.path)
        embryo.take_peercred(task)
        embryo.peer, embryo.state = self, ESTABLISHED
        for option in (SO_PASSCRED, SO_PASSPIDFD):
            if other.options.get(option):
                embryo.options[option] = 1
        self.peer, self.state = embryo, ESTABLISHED
        # Each side's record is of the process at the other: the listener's here, ours there.
        self.peercred, self.peergroups = other.peercred, other.peergroups
        other.backlog.append(embryo)
        other.read_wait.wake_up()

    async def accept(self, task: Task, flags: int) -> Socket:
        """Raises EINVAL (not listening, or shut down), EAGAIN."""
        if not self.connects:
            raise Errno.EOPNOTSUPP
        if self.state != LISTEN:
            raise Errno.EINVAL
        if not self.backlog:
            self.raise_error()
            if self.shut & RCV_SHUTDOWN:
                raise Errno.EINVAL
            await self.sleep(task, self.read_wait, flags=flags, timeout_ns=self.rcvtimeo_ns)
        self.peer_wait.wake_up()
        return self.backlog.popleft()

    def shutdown(self, how: int) -> None:
        mode = how + 1
        self.shut |= mode
        if self.connects and self.peer is not None:
            peer = self.peer
            if mode & RCV_SHUTDOWN:
                peer.shut |= SEND_SHUTDOWN
            if mode & SEND_SHUTDOWN:
                peer.shut |= RCV_SHUTDOWN
            peer.wakes_all()
        self.wakes_all()
        self.peer_wait.wake_up()

    # -- data

    @property
    def passes_creds(self) -> bool:
        """Does it want to know who sends (SO_PASSCRED, SO_PASSPIDFD)?"""
        return bool(self.options.get(SO_PASSCRED) or self.options.get(SO_PASSPIDFD))

    def enqueue(self, task: Task, other: UnixSocket, packet: Packet) -> None:
        """Hand a packet, which is charged for, to `other`. Raises EBADF."""
        scm = packet.scm
        scm.hold(self.sb)
        if scm.creds is None and (self.passes_creds or other.passes_creds):
            scm.creds = own_creds(task)
        other.queue.append(packet)
        if other.read_wait.waiters:
            other.read_wait.wake_up()

    def copy_name(self, msg: Message, packet: Packet) -> None:
        """Tell a receiver where a packet came from."""
        assert isinstance(packet.sender, UnixSocket)
        msg.name = packet.sender.addr

    def poll_queues(self) -> Iterable[WaitQueue]:
        return (self.read_wait, self.write_wait)

    async def ioctl(self, task: Task, cmd: int, arg: int) -> int:
        """SIOCINQ (FIONREAD) and SIOCOUTQ. Raises EINVAL (listening), ENOTTY, EFAULT."""
        if cmd == SIOCOUTQ:
            count = self.wmem_bytes
        elif cmd == SIOCINQ:
            if self.state == LISTEN:
                raise Errno.EINVAL
            if self.connects:
                count = sum(packet.left for packet in self.queue)
            else:
                count = self.queue[0].left if self.queue else 0
        else:
            raise Errno.ENOTTY
        await task.mm.copy_to_user(arg, count.to_bytes(4, "little"))
        return 0

    # -- the end

    async def release(self) -> None:
        """Linux: unix_release_sock. The peer sees the end; what nobody read is lost."""
        self._forget_name()
        self.dead, self.state = True, CLOSE
        self.shut = SHUTDOWN_MASK
        peer, backlog = self.peer, list(self.backlog)
        self.backlog.clear()
        if peer is not None and self.connects:
            peer.shut = SHUTDOWN_MASK
            if self.queue:
                peer.error = Errno.ECONNRESET
            peer.wakes_all()
        for embryo in backlog:
            if embryo.peer is not None:
                embryo.peer.error = Errno.ECONNRESET
            await embryo.release()
        self.wakes_all()
        self.peer_wait.wake_up()
        await self.purge()
        path, self.path = self.path, None
        if path is not None:
            await path_put(path)
        await collect(self.sb)

    async def purge(self) -> None:
        """Throw away what nobody has read."""
        while self.queue:
            packet = self.queue.popleft()
            packet.sender.uncharge(packet)
            files = packet.scm.detach(self.sb)
            if files:
                await self.sb.drop_files(files)

    def _forget_name(self) -> None:
        if self.bound_inode and self.path is not None:
            self.bound_inode = False
            self.sb.unix_inodes.pop(self.path.inode, None)
        elif self.sb.unix_abstract.get((self.type, self.addr)) is self:
            del self.sb.unix_abstract[self.type, self.addr]


def pair(task: Task, one: UnixSocket, other: UnixSocket) -> None:
    """socketpair(2): two sockets connected with each other."""
    one.peer, other.peer = other, one
    one.state = other.state = ESTABLISHED
    one.take_peercred(task)
    other.take_peercred(task)
