"""The same system calls on the host and on our VFS, and whether they agree.

`Host` makes real system calls, relative to a directory on the host's tmpfs; `Guest`
calls our handlers by way of the call table, relative to a directory on our tmpfs.
Both answer a number, or the name of the error.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import os
import pkgutil
import re
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvm_async.syscalls
from fs.driver import FakeTask, Sim, user
from uvm_async.errors import Errno
from uvm_async.syscalls.table import registered

Answer = int | str
BASE = b"deep/er/and/deeper/base"
"""Far enough down that no chain of `..` in a test leaves the scratch directory."""

for _module in pkgutil.iter_modules(uvm_async.syscalls.__path__):
    importlib.import_module(f"uvm_async.syscalls.{_module.name}")

NUMBERS = {
    name: int(number)
    for name, number in re.findall(
        r"#define __NR_(\w+) (\d+)",
        Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h").read_text(),
    )
}

NUMBERS.setdefault("fchmodat2", 452)  # newer than many C libraries


class Host:
    """The host kernel."""

    def __init__(self, directory: str) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        path = os.path.join(os.fsencode(directory), BASE)
        os.makedirs(path)
        self.base = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self.handles: list[int] = []

    def call(self, name: str, *args: Any) -> Answer:
        """Bytes are strings, a bytearray is a buffer that may be written to."""
        raw: list[Any] = []
        for arg in args:
            if isinstance(arg, bytearray):
                raw.append((ctypes.c_char * len(arg)).from_buffer(arg) if arg else None)
            elif isinstance(arg, int):
                raw.append(ctypes.c_long(arg))
            else:
                raw.append(arg)
        result: int = self._libc.syscall(ctypes.c_long(NUMBERS[name]), *raw)
        return result if result >= 0 else errno.errorcode[ctypes.get_errno()]

    def close(self) -> None:
        for fd in self.handles:
            self.call("close", fd)
        os.close(self.base)


class Guest:
    """Our VFS."""

    def __init__(self) -> None:
        self.sim = Sim.boot()
        self.task: FakeTask = self.sim.task()
        self.handles: list[int] = []
        path = b""
        for part in BASE.split(b"/"):
            path += b"/" + part
            assert self.call("mkdir", path, 0o755) == 0
            assert self.call("chown", path, os.geteuid(), os.getegid()) == 0
        if os.geteuid():
            self.task.cred = user(os.geteuid(), os.getegid(), *os.getgroups())
        self.base = self.call("open", path, os.O_RDONLY | os.O_DIRECTORY, 0)

    def call(self, name: str, *args: Any) -> Answer:
        task, definition = self.task, registered()[name]
        task.mm.next_free = 0
        raw: list[Any] = []
        buffers: list[tuple[int, bytearray]] = []
        for arg, (_, kind) in zip(args, definition.params, strict=False):
            if isinstance(arg, bytearray):
                buffers.append((task.mm.alloc(bytes(arg)), arg))
                raw.append(buffers[-1][0])
            elif isinstance(arg, bytes):
                raw.append(task.mm.string(arg))
            elif kind.ctype.startswith("u"):
                raw.append(arg & (1 << int(kind.ctype[1:])) - 1)
            else:
                raw.append(arg)
        raw += [0] * (len(definition.params) - len(raw))

        async def handle() -> Any:
            result = definition.handler(task, *raw)
            return await result if definition.is_async else result

        try:
            result: int = self.sim.run(task, handle)
        except Errno as error:
            return errno.errorcode[error.errno]
        for addr, buffer in buffers:
            buffer[:] = task.mm.peek(addr, len(buffer))
        return result

    def close(self) -> None:
        self.sim.close()


class Twins:
    """Both, and the demand that they agree."""

    def __init__(self, host: Host, guest: Guest) -> None:
        self.host = host
        self.guest = guest
        self.memory: dict[str, Any] = {}
        """What a test wants to remember about the two."""

    @property
    def sides(self) -> tuple[Host | Guest, Host | Guest]:
        return self.host, self.guest

    def agree(self, name: str, *args: Any) -> Answer:
        """The same call on both; a `Handle` stands for a descriptor of each side's own."""
        answers: list[tuple[Answer, list[bytes]]] = []
        for side in self.sides:
            raw = [arg.of(side) if isinstance(arg, Handle) else _copy(arg) for arg in args]
            answer = side.call(name, *raw)
            answers.append((answer, [bytes(arg) for arg in raw if isinstance(arg, bytearray)]))
        assert answers[0] == answers[1], (
            f"{name}{_short(args)}: host {_short(answers[0])}, guest {_short(answers[1])}"
        )
        for arg, content in zip(
            [arg for arg in args if isinstance(arg, bytearray)], answers[0][1], strict=True
        ):
            arg[:] = content
        return answers[0][0]

    def open(self, path: bytes, flags: int, mode: int = 0o644) -> Handle | str:
        """openat below the base; the answer is a handle for both, or the error of both."""
        results = [side.call("openat", side.base, path, flags, mode) for side in self.sides]
        return self._keep(results, f"open({path!r}, {flags:#o})")

    def make(self, name: str, *args: Any) -> Handle | str:
        """A call that answers a descriptor."""
        results = []
        for side in self.sides:
            raw = [arg.of(side) if isinstance(arg, Handle) else _copy(arg) for arg in args]
            results.append(side.call(name, *raw))
        return self._keep(results, name)

    def pipe(self, flags: int = 0) -> tuple[Handle, Handle]:
        """pipe2: (read end, write end)."""
        pairs = []
        for side in self.sides:
            buffer = bytearray(8)
            assert side.call("pipe2", buffer, flags) == 0
            pairs.append(struct.unpack("<ii", buffer))
        ends = [self._keep([pair[at] for pair in pairs], "pipe2") for at in (0, 1)]
        assert isinstance(ends[0], Handle) and isinstance(ends[1], Handle)
        return ends[0], ends[1]

    def _keep(self, results: list[Answer], what: str) -> Handle | str:
        if any(isinstance(result, str) for result in results):
            assert results[0] == results[1], f"{what}: {results}"
            return str(results[0])
        for side, result in zip(self.sides, results, strict=True):
            assert isinstance(result, int)
            side.handles.append(result)
        return Handle(len(self.host.handles) - 1)

    def close_handle(self, handle: Handle) -> None:
        self.agree("close", handle)
        for side in self.sides:
            side.handles[handle.index] = -1

    def stat(self, path: bytes, flags: int = 0) -> Answer:
        """mode, nlink, uid, gid, size and the order of times agree."""
        answers = []
        for side in self.sides:
            buffer = bytearray(144)
            answer = side.call("newfstatat", side.base, path, buffer, flags)
            answers.append((answer, comparable_stat(buffer)))
        assert answers[0] == answers[1], f"stat({path!r}): host {answers[0]}, guest {answers[1]}"
        return answers[0][0]

    def stat_handle(self, handle: Handle) -> None:
        """fstat agrees as `stat` does."""
        answers = []
        for side in self.sides:
            buffer = bytearray(144)
            answers.append((side.call("fstat", handle.of(side), buffer), comparable_stat(buffer)))
        assert answers[0] == answers[1], f"fstat: host {answers[0]}, guest {answers[1]}"

    def listing(self, path: bytes) -> list[tuple[bytes, int]] | str:
        """Names and types of a directory, in order."""
        listings: list[list[tuple[bytes, int]] | str] = []
        for side in self.sides:
            fd = side.call("openat", side.base, path, os.O_RDONLY | os.O_DIRECTORY, 0)
            if isinstance(fd, str):
                listings.append(fd)
                continue
            listings.append(read_directory(side, fd))
            side.call("close", fd)
        assert listings[0] == listings[1], f"listing {path!r}: {listings}"
        return listings[0]


class Handle:
    """A descriptor, which has its own number on each side; `BASE_DIR` is the directory."""

    def __init__(self, index: int) -> None:
        self.index = index

    def of(self, side: Host | Guest) -> Any:
        return side.base if self.index < 0 else side.handles[self.index]

    def __repr__(self) -> str:
        return f"<{self.index}>"


BASE_DIR = Handle(-1)


def _short(thing: object) -> str:
    text = repr(thing)
    return text if len(text) < 300 else text[:200] + " ... " + text[-80:]


def _copy(arg: Any) -> Any:
    return bytearray(arg) if isinstance(arg, bytearray) else arg


def comparable_stat(raw: bytes | bytearray) -> tuple[int, ...]:
    """What of a struct stat must be the same on both sides."""
    _, _, nlink, mode, uid, gid = struct.unpack_from("<QQQIII", raw)
    (size,) = struct.unpack_from("<q", raw, 48)
    return nlink, mode, uid, gid, size


def read_directory(side: Host | Guest, fd: int, chunk: int = 200) -> list[tuple[bytes, int]] | str:
    """All entries, read in small pieces."""
    entries: list[tuple[bytes, int]] = []
    while True:
        buffer = bytearray(chunk)
        count = side.call("getdents64", fd, buffer, chunk)
        if isinstance(count, str):
            return count
        if count == 0:
            return entries
        at = 0
        while at < count:
            size, kind = struct.unpack_from("<HB", buffer, at + 16)
            entries.append((bytes(buffer[at + 19 : at + size]).split(b"\0", 1)[0], kind))
            at += size


def make_removable(directory: str) -> None:
    """Undo what a test's chmod did to directories, which stops an ordinary user's rmtree."""
    os.chmod(directory, 0o700)
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False):
            make_removable(entry.path)


@contextmanager
def twins() -> Iterator[Twins]:
    """A fresh pair, gone afterwards."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        host, guest = Host(directory), Guest()
        try:
            yield Twins(host, guest)
        finally:
            host.close()
            guest.close()
            make_removable(directory)


__all__ = ["BASE_DIR", "Answer", "Guest", "Handle", "Host", "Twins", "twins"]
