"""Sockets on the simulated kernel of tests/fs: calls with addresses and control messages built."""

from __future__ import annotations

import struct
from typing import Any

from fs.driver import FakeTask, Sim
from fs.shell import Shell
from uvm_async.state import Entity

AF_UNIX, STREAM, DGRAM, SEQPACKET = 1, 1, 2, 5
NONBLOCK = 0o4000
DONTWAIT, PEEK, WAITALL, NOSIGNAL = 0x40, 0x2, 0x100, 0x4000
SOL_SOCKET, PASSCRED = 1, 16
BUFFER_BYTES = 212992


class CountingEntropy(Entity):
    """Bytes that are not random at all."""

    def __init__(self) -> None:
        self.next = 0

    def bytes(self, count: int) -> bytes:
        self.next += 1
        return self.next.to_bytes(count, "little")


class NetShell(Shell):
    """A shell that knows sockets. `tgid` and the tables of tasks are as in a machine."""

    def __init__(self, sim: Sim, task: FakeTask | None = None) -> None:
        super().__init__(sim, task)
        kernel: Any = sim.kernel
        if not hasattr(kernel, "entropy"):
            kernel.entropy = CountingEntropy()
            kernel.tasks, kernel.processes = {}, {}
        me: Any = self.task
        me.tgid = me.process.pid
        kernel.tasks[me.pid] = me
        kernel.processes[me.process.pid] = me.process

    def other(self, *, threads: bool = False) -> NetShell:
        return NetShell(self.sim, self.sim.task(like=self.task, threads=threads))

    # -- making sockets

    def socketpair(self, kind: int = STREAM) -> tuple[int, int]:
        self.do("socketpair", AF_UNIX, kind, 0, self.room(8))
        one, other = struct.unpack("<ii", self.peek(8))
        return one, other

    def address(self, name: bytes) -> tuple[int, int]:
        """(address, size) of a sockaddr_un in memory."""
        raw = struct.pack("<H", AF_UNIX) + name
        return self.data(raw), len(raw)

    def listener(self, name: bytes, backlog: int = 5, kind: int = STREAM) -> int:
        fd = self.do("socket", AF_UNIX, kind, 0)
        self.do("bind", fd, *self.address(name))
        self.do("listen", fd, backlog)
        return fd

    def connected(self, name: bytes, kind: int = STREAM) -> int:
        fd = self.do("socket", AF_UNIX, kind, 0)
        self.do("connect", fd, *self.address(name))
        return fd

    # -- messages

    def header(self, buffer: int, size: int, control: int = 0, room: int = 0) -> int:
        """A msghdr of one segment."""
        iov = self.data(struct.pack("<QQ", buffer, size))
        return self.data(struct.pack("<QI4xQQQQI4x", 0, 0, iov, 1, control, room, 0))

    def send_files(self, fd: int, content: bytes, *files: int) -> int:
        payload = b"".join(struct.pack("<i", file) for file in files)
        control = struct.pack("<Qii", 16 + len(payload), SOL_SOCKET, 1) + payload
        header = self.header(self.data(content), len(content), self.data(control), len(control))
        return self.do("sendmsg", fd, header, 0)

    def receive_files(self, fd: int, size: int = 100, flags: int = 0) -> tuple[bytes, list[int]]:
        """(data, descriptors) of one recvmsg."""
        buffer, control = self.task.mm.alloc(size), self.task.mm.alloc(256)
        header = self.header(buffer, size, control, 256)
        count = self.do("recvmsg", fd, header, flags)
        used = int.from_bytes(self.task.mm.peek(header + 40, 8), "little")
        raw = self.task.mm.peek(control, used)
        files = (
            [one for (one,) in struct.iter_unpack("<i", raw[16 : 20 + used - 20])] if raw else []
        )
        length = int.from_bytes(raw[:8], "little") if raw else 16
        return self.task.mm.peek(buffer, count), files[: (length - 16) // 4]

    def send(self, fd: int, content: bytes, flags: int = 0) -> int:
        return self.do("sendto", fd, self.data(content), len(content), flags, 0, 0)

    def receive(self, fd: int, size: int = 100, flags: int = DONTWAIT) -> bytes:
        count = self.do("recvfrom", fd, self.room(size), size, flags, 0, 0)
        return self.peek(count)

    def revents(self, fd: int) -> int:
        self.do("poll", self.fill(struct.pack("<ihh", fd, -1, 0)), 1, 0)
        return int.from_bytes(self.peek(8)[6:], "little")

    def fill(self, content: bytes) -> int:
        """`data` that `peek` shows afterwards."""
        self._last_room = self.data(content)
        return self._last_room
