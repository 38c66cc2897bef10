"""Sockets: what all families have in common.

Linux: net/socket.c, net/core/sock.c.  A `SocketFile` is the open file (struct
socket), a `Socket` the protocol's side of it (struct sock), which may live longer
or, on a listener's queue, before it has a file.

Sleeps are interruptible; what a call has done before it slept is in
`task.restart` (`SocketWait`).

Invariants:
- `wmem_bytes` is the sum of `Packet.charge` of all packets sent and not yet freed;
- `read_wait` is woken whenever there may be something to receive or accept, or
  nothing will come any more; `write_wait` when there is room again.
"""

from __future__ import annotations

import stat
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final, NoReturn

from uvm_async.errors import Errno
from uvm_async.fs.anon import PseudoSuperBlock, internal_mount, pseudo_path
from uvm_async.fs.inode import File, Inode
from uvm_async.fs.lifetime import fput
from uvm_async.net.scm import Creds, Scm
from uvm_async.sched.wait import WaitQueue, block_on
from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.kernel.kernel import Kernel
    from uvm_async.kernel.task import Task
    from uvm_async.mm.iov import IovIter

__all__ = [
    "Message",
    "Packet",
    "SockFs",
    "Socket",
    "SocketFile",
    "SocketWait",
    "earlier_run",
    "new_socket_file",
    "sockfs",
]

AF_UNSPEC, AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 0, 1, 2, 10, 16
SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET = 1, 2, 3, 5

MSG_OOB, MSG_PEEK, MSG_CTRUNC, MSG_TRUNC = 0x1, 0x2, 0x8, 0x20
MSG_DONTWAIT, MSG_EOR, MSG_WAITALL = 0x40, 0x80, 0x100
MSG_NOSIGNAL, MSG_WAITFORONE, MSG_CMSG_CLOEXEC = 0x4000, 0x10000, 0x40000000

CLOSE, LISTEN, ESTABLISHED = "close", "listen", "established"
RCV_SHUTDOWN, SEND_SHUTDOWN, SHUTDOWN_MASK = 1, 2, 3

O_RDWR: Final = 2
O_NONBLOCK: Final = 0o4000
SIGPIPE: Final = 13
DEFAULT_BUFFER_BYTES: Final = 212992
"""/proc/sys/net/core/wmem_default and rmem_default."""

POLLIN, POLLOUT, POLLERR, POLLHUP = 0x1, 0x4, 0x8, 0x10
POLLRDNORM, POLLWRNORM, POLLWRBAND, POLLRDHUP = 0x40, 0x100, 0x200, 0x2000
READABLE: Final = POLLIN | POLLRDNORM
WRITABLE: Final = POLLOUT | POLLWRNORM | POLLWRBAND

SO_PASSCRED, SO_RCVLOWAT, SO_PASSPIDFD = 16, 18, 76


@dataclass(slots=True)
class Message:
    """One message on its way between a call and a socket (Linux: struct msghdr)."""

    it: IovIter
    name: bytes = b""
    """To be sent: the destination; received: where it came from. A sockaddr, or empty."""
    scm: Scm = field(default_factory=Scm)
    flags: int = 0
    """Received: MSG_TRUNC and its like."""


@dataclass(slots=True)
class Packet:
    """Data in a receive queue (Linux: struct sk_buff)."""

    data: bytes
    sender: Socket
    charge: int
    """Bytes of memory that the sender is charged for it (skb->truesize)."""
    scm: Scm
    read: int = 0

    @property
    def left(self) -> int:
        return len(self.data) - self.read


@dataclass(slots=True)
class SocketWait:
    """`task.restart` of a call on a socket that slept."""

    messages: int = 0
    """Messages that sendmmsg or recvmmsg has done."""
    sleeping: bool = False
    deadline_ns: int | None = None
    done: int = 0
    """Bytes of the message that are done."""
    creds: Creds | None = None
    """Whose bytes a stream's receiver has got so far (SO_PASSCRED)."""
    has_creds: bool = False
    name: bytes = b""


def earlier_run(task: Task) -> SocketWait | None:
    """What earlier runs of this call have done."""
    wait = task.restart
    return wait if isinstance(wait, SocketWait) else None


class SockFs(PseudoSuperBlock):
    """Of all sockets, and of what a machine knows about them."""

    fs_type: ClassVar[bytes] = b"sockfs"
    magic: ClassVar[int] = 0x534F434B

    def __init__(self, kernel: Kernel, dev: int) -> None:
        super().__init__(kernel, dev)
        self.unix_abstract: dict[tuple[int, bytes], Socket] = {}
        """Unix sockets by (type, abstract address)."""
        self.unix_inodes: dict[Inode, Socket] = {}
        """Unix sockets by the inode they are bound to."""
        self.inflight: dict[SocketFile, int] = {}
        """Sockets that travel in messages, and how many times each."""
        self.doomed: list[File] = []
        self.dropping = False

    async def drop_files(self, files: list[File]) -> None:
        """Messages with these files are thrown away. Never nests, however sockets do."""
        self.doomed += files
        if self.dropping:
            return
        self.dropping = True
        try:
            while self.doomed:
                await fput(self.doomed.pop())
        finally:
            self.dropping = False


def sockfs(kernel: Kernel) -> SockFs:
    """The machine's."""
    sb = internal_mount(kernel, SockFs).sb
    assert isinstance(sb, SockFs)
    return sb


class Socket(Entity):
    """The protocol's side of a socket (Linux: struct sock). Families override."""

    family: ClassVar[int] = AF_UNSPEC
    type: ClassVar[int] = 0

    def __init__(self, sb: SockFs) -> None:
        self.sb = sb
        self.protocol = 0
        self.state = CLOSE
        self.error: type[Errno] | None = None
        """Reported once, by the next call that can (sk_err)."""
        self.shut = 0
        self.dead = False
        """Its file is gone, or it never got one."""
        self.sndbuf_bytes = DEFAULT_BUFFER_BYTES
        self.rcvbuf_bytes = DEFAULT_BUFFER_BYTES
        self.wmem_bytes = 0
        self.rcvtimeo_ns = 0
        """0: wait for ever."""
        self.sndtimeo_ns = 0
        self.options: dict[int, int] = {}
        """Socket level options that are only kept, or looked at elsewhere."""
        self.linger = (0, 0)
        self.peercred: Creds | None = None
        self.peergroups: tuple[int, ...] = ()
        self.queue: deque[Packet] = deque()
        self.read_wait = WaitQueue()
        self.write_wait = WaitQueue()

    # -- operations

    async def bind(self, task: Task, addr: bytes, mode: int) -> None:
        """bind(2); `mode` is the socket's own, for a name in the file system."""
        raise Errno.EOPNOTSUPP

    def listen(self, task: Task, backlog: int) -> None:
        raise Errno.EOPNOTSUPP

    async def connect(self, task: Task, addr: bytes, flags: int) -> None:
        raise Errno.EOPNOTSUPP

    async def accept(self, task: Task, flags: int) -> Socket:
        raise Errno.EOPNOTSUPP

    def getname(self, *, peer: bool) -> bytes:
        """A sockaddr. Raises ENOTCONN."""
        raise Errno.EOPNOTSUPP

    async def send(self, task: Task, msg: Message, flags: int) -> int:
        raise Errno.EOPNOTSUPP

    async def receive(self, task: Task, msg: Message, flags: int) -> int:
        raise Errno.EOPNOTSUPP

    def shutdown(self, how: int) -> None:
        raise Errno.EOPNOTSUPP

    def poll(self, task: Task) -> int:
        return 0

    def poll_queues(self) -> Iterable[WaitQueue]:
        return (self.read_wait, self.write_wait)

    async def ioctl(self, task: Task, cmd: int, arg: int) -> int:
        raise Errno.ENOTTY

    async def release(self) -> None:
        """Nobody can use it any more."""

    # -- for families

    @property
    def writable(self) -> bool:
        """Is there room enough to be worth a wake-up? (Linux: unix_writable)"""
        return self.wmem_bytes * 4 <= self.sndbuf_bytes

    def wakes_all(self) -> None:
        """Its state has changed (sk_state_change)."""
        self.read_wait.wake_up()
        self.write_wait.wake_up()

    def raise_error(self) -> None:
        """Report a pending error, once."""
        if self.error is not None:
            error, self.error = self.error, None
            raise error

    def uncharge(self, packet: Packet) -> None:
        """A packet that this socket has sent is freed."""
        self.wmem_bytes -= packet.charge
        if self.write_wait.waiters and self.writable:
            self.write_wait.wake_up()

    async def sleep(
        self,
        task: Task,
        *queues: WaitQueue,
        flags: int,
        timeout_ns: int,
        progress: SocketWait | None = None,
    ) -> NoReturn:
        """Sleep interruptibly until woken; the call runs again with `progress`.

        Raises EAGAIN (MSG_DONTWAIT, or `timeout_ns`, if not 0, is over), Interrupted.
        """
        if flags & MSG_DONTWAIT:
            raise Errno.EAGAIN
        now = task.kernel.clock.monotonic_ns()
        before = earlier_run(task)
        wait = progress or SocketWait()
        if before is not None:
            wait.messages = before.messages
        if before is not None and before.sleeping:
            wait.deadline_ns = before.deadline_ns
            if wait.deadline_ns is not None and now >= wait.deadline_ns:
                raise Errno.EAGAIN
        elif timeout_ns:
            wait.deadline_ns = now + timeout_ns
        wait.sleeping = True
        task.restart = wait
        await block_on(
            *queues, deadline_ns=wait.deadline_ns, restart="intr" if timeout_ns else "sys"
        )


class SocketFile(File):
    """An open socket."""

    def __init__(self, socket: Socket, flags: int) -> None:
        kernel = socket.sb.kernel
        mount = internal_mount(kernel, SockFs)
        ino = socket.sb.new_ino()
        inode = Inode(socket.sb, ino, stat.S_IFSOCK | 0o777, now_ns=kernel.clock.realtime_ns())
        super().__init__(pseudo_path(mount, inode, b"socket:[%d]" % ino), O_RDWR | flags)
        self.socket = socket

    def call_flags(self, flags: int = 0) -> int:
        """MSG_* of a call, with what the file's own flags add."""
        return flags | MSG_DONTWAIT if self.flags & O_NONBLOCK else flags

    async def read_iter(self, task: Task, it: IovIter, pos: int | None = None) -> int:
        """recv(2) without flags."""
        if pos is not None:
            raise Errno.ESPIPE
        if not it.count:
            return 0
        msg = Message(it)
        done = await self.socket.receive(task, msg, self.call_flags())
        if msg.scm.files:
            files, msg.scm.files = msg.scm.files, []
            await self.socket.sb.drop_files(files)
        return done

    async def write_iter(self, task: Task, it: IovIter, pos: int | None = None) -> int:
        """send(2) without flags. Raises EPIPE (with SIGPIPE)."""
        if pos is not None:
            raise Errno.ESPIPE
        return await self.socket.send(task, Message(it), self.call_flags())

    def poll(self, task: Task) -> int:
        return self.socket.poll(task)

    def poll_queues(self) -> Iterable[WaitQueue]:
        return self.socket.poll_queues()

    async def ioctl(self, task: Task, cmd: int, arg: int) -> int:
        return await self.socket.ioctl(task, cmd, arg)

    async def release(self) -> None:
        await self.socket.release()


def new_socket_file(task: Task, socket: Socket, flags: int) -> SocketFile:
    """A file of its own for `socket`, owned by the task; `flags` may have O_NONBLOCK."""
    file = SocketFile(socket, flags & O_NONBLOCK)
    file.inode.uid, file.inode.gid = task.cred.fsuid, task.cred.fsgid
    return file
