"""Unix datagram sockets, and sequenced packets, which are datagrams over a connection.

Linux: net/unix/af_unix.c (unix_dgram_sendmsg, unix_dgram_recvmsg, unix_seqpacket_*).
A datagram is received whole or cut; a receiver whose queue is full makes strangers
wait (`peer_wait`), but not the socket that it is itself connected to.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Final

from uvm_async.errors import Errno
from uvm_async.net.socket import (
    AF_UNSPEC,
    CLOSE,
    ESTABLISHED,
    LISTEN,
    MSG_DONTWAIT,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    POLLERR,
    POLLHUP,
    POLLRDHUP,
    RCV_SHUTDOWN,
    READABLE,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    SOCK_DGRAM,
    SOCK_SEQPACKET,
    WRITABLE,
    Message,
    Packet,
)
from uvm_async.net.unix import FAMILY, UnixSocket, check_address
from uvm_async.net.unix_stream import head_charge
from uvm_async.sched.wait import WaitQueue

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

__all__ = ["UnixDatagram", "UnixSeqpacket"]

PAGE_BYTES: Final = 4096
HEAD_MAX: Final = 4 * PAGE_BYTES - 320
"""SKB_MAX_ALLOC: what is more is in pages, at most 17 of them."""
PAGES_MAX: Final = 17 * PAGE_BYTES


def _charge(count: int) -> int:
    """Linux's truesize for a datagram of `count` bytes."""
    pages = 0
    if count > HEAD_MAX:
        pages = -(-min(count - HEAD_MAX, PAGES_MAX) // PAGE_BYTES) * PAGE_BYTES
    return head_charge(count - pages) + pages


class UnixDatagram(UnixSocket):
    """AF_UNIX, SOCK_DGRAM."""

    type: ClassVar[int] = SOCK_DGRAM
    connects: ClassVar[bool] = False

    def may_send(self, other: UnixSocket) -> bool:
        """A connected datagram socket takes datagrams from its peer only."""
        return other.peer is None or other.peer is self

    async def connect(self, task: Task, addr: bytes, flags: int) -> None:
        """Set where datagrams go, and from where they come; AF_UNSPEC: nowhere in particular.

        Raises EPERM, ECONNREFUSED, EPROTOTYPE, EINVAL.
        """
        other: UnixSocket | None = None
        if len(addr) < FAMILY.size:
            raise Errno.EINVAL
        if FAMILY.unpack_from(addr)[0] != AF_UNSPEC:
            check_address(addr)
            if self.passes_creds:
                self.autobind(task)
            other = await self.find(task, addr)
            if not self.may_send(other):
                raise Errno.EPERM
        old, self.peer = self.peer, other
        self.state = ESTABLISHED if other is not None else CLOSE
        if other is not None:
            other.state = ESTABLISHED
        if old is not None and old is not other:
            await self._disconnected(old)
        self.wakes_all()

    async def _disconnected(self, old: UnixSocket) -> None:
        """What the old peer has sent is thrown away, and it is told (unix_dgram_disconnected)."""
        if self.queue:
            await self.purge()
            self.peer_wait.wake_up()
            if not old.dead and old.peer is self:
                old.error = Errno.ECONNRESET
                old.wakes_all()

    # -- sending

    async def send(self, task: Task, msg: Message, flags: int) -> int:
        """Raises ENOTCONN, EMSGSIZE, ECONNREFUSED, EPERM, EPIPE, EAGAIN, EFAULT."""
        if flags & MSG_OOB:
            raise Errno.EOPNOTSUPP
        if msg.name:
            check_address(msg.name)
        elif self.peer is None:
            raise Errno.ENOTCONN
        if self.passes_creds:
            self.autobind(task)
        size = msg.it.count
        if size > self.sndbuf_bytes - 32:
            raise Errno.EMSGSIZE
        self.raise_error()
        if self.shut & SEND_SHUTDOWN:
            raise Errno.EPIPE
        if self.wmem_bytes >= self.sndbuf_bytes:
            await self.sleep(task, self.write_wait, flags=flags, timeout_ns=self.sndtimeo_ns)
        data = await msg.it.copy_from(size)
        if len(data) < size:
            raise Errno.EFAULT
        other = await self._destination(task, msg)
        if other is not self and other.peer is not self and other._is_full():
            await self.sleep(task, other.peer_wait, flags=flags, timeout_ns=self.sndtimeo_ns)
        packet = Packet(data, self, _charge(size), msg.scm)
        self.enqueue(task, other, packet)
        self.wmem_bytes += packet.charge
        return size

    async def _destination(self, task: Task, msg: Message) -> UnixSocket:
        """Who gets it. Raises ECONNREFUSED, EPERM, EPIPE, and what `find` raises."""
        if msg.name:
            other = await self.find(task, msg.name)
        else:
            assert self.peer is not None
            other = self.peer
        if not self.may_send(other):
            raise Errno.EPERM
        if other.dead:
            if self.peer is other:
                self.peer = None
                self.state = CLOSE
                await self._disconnected(other)
            raise Errno.ECONNREFUSED
        if other.shut & RCV_SHUTDOWN:
            raise Errno.EPIPE
        return other

    # -- receiving

    async def receive(self, task: Task, msg: Message, flags: int) -> int:
        """Raises EAGAIN, ECONNRESET, EFAULT (the datagram is lost)."""
        if flags & MSG_OOB:
            raise Errno.EOPNOTSUPP
        if not self.queue:
            self.raise_error()
            if self.shut & RCV_SHUTDOWN and (self.connects or not flags & MSG_DONTWAIT):
                return 0
            await self.sleep(task, self.read_wait, flags=flags, timeout_ns=self.rcvtimeo_ns)
        packet = self.queue[0]
        if flags & MSG_PEEK:
            msg.scm.files = packet.scm.peek()
        else:
            self.queue.popleft()
            packet.sender.uncharge(packet)
            self.peer_wait.wake_up()
            msg.scm.files = packet.scm.detach(self.sb)
        msg.scm.creds = packet.scm.creds
        self.copy_name(msg, packet)
        size = min(len(packet.data), msg.it.count)
        if size < len(packet.data):
            msg.flags |= MSG_TRUNC
        try:
            stored = await msg.it.copy_to(memoryview(packet.data)[:size])
        except Errno.EFAULT:
            stored = -1
        if stored < size:
            await self.sb.drop_files(msg.scm.files)
            msg.scm.files = []
            raise Errno.EFAULT
        return len(packet.data) if flags & MSG_TRUNC else size

    # -- waiting for both

    def poll(self, task: Task) -> int:
        """Linux: unix_dgram_poll."""
        mask = POLLERR if self.error is not None else 0
        if self.shut & RCV_SHUTDOWN:
            mask |= POLLRDHUP | READABLE
        if self.shut == SHUTDOWN_MASK or (self.connects and self.state == CLOSE):
            mask |= POLLHUP
        if self.queue or self.backlog:
            mask |= READABLE
        if self.state != LISTEN and self.writable and not self._peer_is_full():
            mask |= WRITABLE
        return mask

    def _peer_is_full(self) -> bool:
        peer = self.peer
        return peer is not None and peer.peer is not self and peer._is_full()

    def poll_queues(self) -> Iterable[WaitQueue]:
        if self.peer is not None and self.peer.peer is not self:
            return (self.read_wait, self.write_wait, self.peer.peer_wait)
        return (self.read_wait, self.write_wait)


class UnixSeqpacket(UnixDatagram):
    """AF_UNIX, SOCK_SEQPACKET: connected as streams are."""

    type: ClassVar[int] = SOCK_SEQPACKET
    connects: ClassVar[bool] = True

    async def connect(self, task: Task, addr: bytes, flags: int) -> None:
        await UnixSocket.connect(self, task, addr, flags)

    async def send(self, task: Task, msg: Message, flags: int) -> int:
        """Raises ENOTCONN, and as datagrams: EPIPE comes without SIGPIPE."""
        self.raise_error()
        if self.state != ESTABLISHED:
            raise Errno.ENOTCONN
        msg.name = b""
        return await super().send(task, msg, flags)

    async def receive(self, task: Task, msg: Message, flags: int) -> int:
        """Raises ENOTCONN, and as datagrams."""
        if self.state != ESTABLISHED:
            raise Errno.ENOTCONN
        return await super().receive(task, msg, flags)
