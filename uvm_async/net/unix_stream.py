"""Unix stream sockets: bytes, and what travels at certain of them.

Linux: net/unix/af_unix.c (unix_stream_sendmsg, unix_stream_read_generic).  A send
is cut into packets; a receive takes from as many as it needs, but never across
files that were passed, nor, with SO_PASSCRED, across writers.

Invariant: `done` bytes of a call that blocked are in `task.restart`; files are
sent with the first packet only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from uvm_async.errors import Errno
from uvm_async.net.scm import NO_CREDS, Creds, Scm
from uvm_async.net.socket import (
    CLOSE,
    ESTABLISHED,
    LISTEN,
    MSG_NOSIGNAL,
    MSG_OOB,
    MSG_PEEK,
    MSG_WAITALL,
    POLLERR,
    POLLHUP,
    POLLRDHUP,
    RCV_SHUTDOWN,
    READABLE,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    SIGPIPE,
    SO_RCVLOWAT,
    SOCK_STREAM,
    WRITABLE,
    Message,
    Packet,
    SocketWait,
    earlier_run,
)
from uvm_async.net.unix import UnixSocket
from uvm_async.sched.wait import Interrupted

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

__all__ = ["UnixStream", "head_charge"]

PAGE_BYTES: Final = 4096
HEAD_MAX: Final = PAGE_BYTES - 320
"""Most bytes in a packet's first part (SKB_MAX_HEAD(0)); the rest is in pages."""
PACKET_MAX: Final = HEAD_MAX + 32768


def head_charge(count: int) -> int:
    """What the first part of a packet costs its sender: the allocator's size for data and
    skb_shared_info, plus sk_buff."""
    return max(1 << (count + 320 - 1).bit_length(), 512) + 256


def _charge(count: int) -> int:
    """Linux's truesize for a stream's packet of `count` bytes."""
    pages = 0
    if count > HEAD_MAX:
        pages = -(-(count - HEAD_MAX) // PAGE_BYTES) * PAGE_BYTES
    return head_charge(count - min(count, pages)) + pages


class UnixStream(UnixSocket):
    """AF_UNIX, SOCK_STREAM."""

    type: ClassVar[int] = SOCK_STREAM

    # -- sending

    async def send(self, task: Task, msg: Message, flags: int) -> int:
        """Raises EPIPE (with SIGPIPE), ENOTCONN, EISCONN, EAGAIN, ECONNRESET, EFAULT."""
        if flags & MSG_OOB:
            raise Errno.EOPNOTSUPP
        if msg.name:
            raise Errno.EISCONN if self.state == ESTABLISHED else Errno.EOPNOTSUPP
        other = self.peer
        if other is None:
            raise Errno.ENOTCONN
        before = earlier_run(task)
        done = before.done if before is not None else 0
        it = msg.it
        if done:
            it.advance(done)
        slept = before is not None and before.sleeping
        if self.shut & SEND_SHUTDOWN and not slept:
            return self._broken(task, done, flags)
        try:
            while it.count:
                size = min(it.count, (self.sndbuf_bytes >> 1) - 64, PACKET_MAX)
                await self._wait_for_room(task, flags, done)
                sent = await self._send_packet(task, other, msg, size, done)
                if not sent:
                    return self._broken(task, done, flags)
                done += sent
        except (Errno.EAGAIN, Errno.EFAULT, Errno.EPIPE, Errno.ECONNRESET, Interrupted):
            if not done:
                raise
        return done

    async def _wait_for_room(self, task: Task, flags: int, done: int) -> None:
        """Linux: sock_alloc_send_pskb. An end that comes while waiting is EPIPE without signal."""
        self.raise_error()
        if self.shut & SEND_SHUTDOWN:
            raise Errno.EPIPE
        if self.wmem_bytes >= self.sndbuf_bytes:
            await self.sleep(
                task,
                self.write_wait,
                flags=flags,
                timeout_ns=self.sndtimeo_ns,
                progress=SocketWait(done=done),
            )

    async def _send_packet(
        self, task: Task, other: UnixSocket, msg: Message, size: int, done: int
    ) -> int:
        """Send the next `size` bytes; 0: the other side is gone. Raises EFAULT, EBADF."""
        charge = _charge(size)
        self.wmem_bytes += charge
        try:
            data = msg.it.take(size)
            if len(data) < size:
                data += await msg.it.copy_from(size - len(data))
                if len(data) < size:
                    raise Errno.EFAULT
            if other.dead or other.shut & RCV_SHUTDOWN:
                self.wmem_bytes -= charge
                return 0
            scm = msg.scm if not done else Scm([], msg.scm.creds)
            self.enqueue(task, other, Packet(data, self, charge, scm))
        except BaseException:
            self.wmem_bytes -= charge
            raise
        return size

    def _broken(self, task: Task, done: int, flags: int) -> int:
        if done:
            return done
        if not flags & MSG_NOSIGNAL:
            task.kernel.send_signal(task, SIGPIPE)
        raise Errno.EPIPE

    # -- receiving

    async def receive(self, task: Task, msg: Message, flags: int) -> int:
        """Raises EINVAL (not connected), EAGAIN, ECONNRESET, EFAULT."""
        if self.state != ESTABLISHED or flags & MSG_OOB:
            raise Errno.EINVAL
        it, peek = msg.it, bool(flags & MSG_PEEK)
        run = earlier_run(task) or SocketWait()
        want = it.count if flags & MSG_WAITALL else min(self.options.get(SO_RCVLOWAT, 1), it.count)
        want = want or 1
        done, index = run.done, 0
        if done:
            it.advance(done)
            msg.name, msg.scm.creds = run.name, run.creds
        knows_creds = run.has_creds
        try:
            while True:
                if index >= len(self.queue):
                    if done >= want:
                        break
                    self.raise_error()
                    if self.shut & RCV_SHUTDOWN:
                        break
                    kept = SocketWait(
                        done=0 if peek else done,
                        creds=msg.scm.creds,
                        has_creds=knows_creds,
                        name=msg.name,
                    )
                    await self.sleep(
                        task,
                        self.read_wait,
                        flags=flags,
                        timeout_ns=self.rcvtimeo_ns,
                        progress=kept,
                    )
                packet = self.queue[index]
                if knows_creds:
                    if _creds(packet) != (msg.scm.creds or NO_CREDS):
                        break
                elif self.passes_creds:
                    msg.scm.creds, knows_creds = packet.scm.creds, True
                self.copy_name(msg, packet)
                done += await self._copy(packet, msg, peek=peek)
                if peek:
                    if packet.scm.files:
                        msg.scm.files += packet.scm.peek()
                        break
                    index += 1
                elif self._consumed(packet, msg):
                    break
                if not it.count:
                    break
        except (Errno.EAGAIN, Errno.EFAULT, Errno.ECONNRESET, Interrupted) as error:
            if not done:
                raise
            if isinstance(error, Errno.ECONNRESET):
                self.error = Errno.ECONNRESET
        return done

    async def _copy(self, packet: Packet, msg: Message, *, peek: bool) -> int:
        """Give the receiver what it has room for. A chunk that cannot be stored whole is not
        read: EFAULT."""
        start = packet.read
        size = min(packet.left, msg.it.count)
        # Taken before it is stored: storing may sleep, and another receiver come.
        packet.read += size
        part = memoryview(packet.data)[start : start + size]
        stored = msg.it.put(part)
        failed = False
        if stored < size:
            try:
                failed = await msg.it.copy_to(part[stored:]) < size - stored
            except Errno.EFAULT:
                failed = True
        if (peek or failed) and packet.read == start + size:
            packet.read = start
        if failed:
            raise Errno.EFAULT
        return size

    def _consumed(self, packet: Packet, msg: Message) -> bool:
        """Some of `packet` was received. True: the call goes no further than this."""
        if packet.scm.files:
            msg.scm.files += packet.scm.detach(self.sb)
        if packet.left:
            return True
        if self.queue and self.queue[0] is packet:
            self.queue.popleft()
            packet.sender.uncharge(packet)
        return bool(msg.scm.files)

    # -- waiting for both

    def poll(self, task: Task) -> int:
        """Linux: unix_poll."""
        mask = POLLERR if self.error is not None else 0
        if self.shut == SHUTDOWN_MASK or self.state == CLOSE:
            mask |= POLLHUP
        if self.shut & RCV_SHUTDOWN:
            mask |= POLLRDHUP | READABLE
        if self.queue or self.backlog:
            mask |= READABLE
        if self.state != LISTEN and self.writable:
            mask |= WRITABLE
        return mask


def _creds(packet: Packet) -> Creds:
    return packet.scm.creds or NO_CREDS
