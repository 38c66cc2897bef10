"""A task on a simulated kernel, with system calls as methods."""

from __future__ import annotations

import errno
from typing import Any

import fs.twins  # noqa: F401  (registers every system call)
from fs.driver import Call, FakeTask, Sim
from uvm_async.errors import Errno
from uvm_async.fs.inode import Inode
from uvm_async.fs.namei import AT_FDCWD, lookup
from uvm_async.syscalls.table import registered


class Shell:
    """`do` makes a call that must not sleep, `begin` one that may."""

    def __init__(self, sim: Sim, task: FakeTask | None = None) -> None:
        self.sim = sim
        self.task = task or sim.task()
        self._last_room = 0

    def other(self, *, threads: bool = False) -> Shell:
        """A forked task (with memory of its own), or a thread."""
        return Shell(self.sim, self.sim.task(like=self.task, threads=threads))

    # -- memory

    def data(self, content: bytes) -> int:
        return self.task.mm.alloc(content)

    def room(self, size: int) -> int:
        self._last_room = self.task.mm.alloc(size)
        return self._last_room

    def text(self, content: bytes) -> int:
        return self.task.mm.string(content)

    def peek(self, count: int) -> bytes:
        """What is in the memory that `room` gave last."""
        return self.task.mm.peek(self._last_room, count)

    # -- calls

    def begin(self, name: str, *args: int) -> Call:
        """Start a call with raw arguments."""
        definition, task = registered()[name], self.task
        raw = [*args, *[0] * (len(definition.params) - len(args))]

        async def handle() -> Any:
            result = definition.handler(task, *raw)
            return await result if definition.is_async else result

        return self.sim.start(task, handle)

    def do(self, name: str, *args: int | bytes) -> int:
        """A call that ends; bytes become strings in memory. Errors are raised."""
        raw = [self.text(arg) if isinstance(arg, bytes) else arg for arg in args]
        result: int = self.begin(name, *raw).answer()
        return result

    def error(self, name: str, *args: int | bytes) -> str:
        """The name of the error that the call must end in."""
        try:
            result = self.do(name, *args)
        except Errno as error:
            return errno.errorcode[error.errno]
        raise AssertionError(f"{name}{args} answered {result}")

    def pipe(self, flags: int = 0) -> tuple[int, int]:
        """(read end, write end)."""
        self.do("pipe2", self.room(8), flags)
        fds = self.peek(8)
        return int.from_bytes(fds[:4], "little"), int.from_bytes(fds[4:], "little")

    def write(self, fd: int, content: bytes) -> int:
        return self.do("write", fd, self.data(content), len(content))

    def read(self, fd: int, size: int) -> bytes:
        count = self.do("read", fd, self.room(size), size)
        return self.peek(count)

    def create(self, path: bytes, content: bytes = b"", mode: int = 0o644) -> None:
        """A file with this content."""
        fd = self.do("open", path, 0o1101, mode)
        if content:
            self.write(fd, content)
        self.do("close", fd)

    def contents(self, path: bytes) -> bytes:
        fd = self.do("open", path, 0, 0)
        content = self.read(fd, 100_000)
        self.do("close", fd)
        return content

    def inode(self, path: bytes) -> Inode:
        """What is behind a path."""
        inode: Inode = self.sim.finish(lookup(self.task, AT_FDCWD, path, follow=False)).inode
        return inode
