"""The three standard streams of one program, and where they lead.

Linux: what a shell sets up between fork(2) and execve(2).  The guest's side of each is a file
(`tty/stream.py`, or the embedder's own, `fs/hostfs/inherited.py`), the other side is ours: one
class for each thing that a stream can be.

Invariant: our sides are not state.  Before a freeze they let go of the guest's (`suspend`), after
a thaw they find it again in the fresh graph, by its name among the kernel's roots (`reattach`).
"""

from __future__ import annotations

import asyncio
import os
import stat
from subprocess import DEVNULL, PIPE, STDOUT
from typing import TYPE_CHECKING, Any, Final

from uvm_async.fs.hostfs.fdcalls import never_waits
from uvm_async.fs.hostfs.inherited import inherit
from uvm_async.stdio.descriptors import Feed, Inherit, Lend
from uvm_async.stdio.pipes import Flow, GuestStdin
from uvm_async.tty.stream import StreamIn, StreamOut, open_stream

if TYPE_CHECKING:
    from uvm_async.fs.hostfs.inherited import Given
    from uvm_async.fs.inode import File
    from uvm_async.kernel.kernel import Kernel

__all__ = ["CONSOLE", "DEVNULL", "PIPE", "STDOUT", "Streams"]

CONSOLE: Final = -4
"""A standard stream that is the machine's console (`Machine.console`)."""


class Streams:
    """The three standard streams of one program: the guest's files and our ends."""

    def __init__(
        self, kernel: Kernel, workers: Any,
        stdin: int | None, stdout: int | None, stderr: int | None, limit: int,
    ) -> None:  # fmt: skip
        self.files: dict[int, File] = {}
        self.on_console: list[int] = []
        """Streams that are the console, opened when the process exists."""
        self.stdin: GuestStdin | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._flows: list[Flow] = []
        self._inherited: list[Inherit] = []
        self._feed: Feed | None = None
        self._kernel = kernel
        self._workers = workers
        self._names: list[tuple[str, Any]] = []
        self._input(stdin)
        self.stdout = self._output(1, stdout, limit)
        if stderr == STDOUT and stdout == CONSOLE:
            stderr = CONSOLE
        if stderr == STDOUT:
            self.files[2] = self.files[1]
            self.files[1].refs += 1
        else:
            self.stderr = self._output(2, stderr, limit)

    def _input(self, choice: int | None) -> None:
        if choice == CONSOLE:
            self.on_console.append(0)
            return
        if self._lend(0, choice):
            return
        source = StreamIn(fill=self._kernel.clock.virtual)
        self.files[0] = open_stream(self._kernel, source, **_looks(choice))
        if choice == PIPE:
            self.stdin = GuestStdin(source)
            self._name(source, self.stdin)
        elif choice == DEVNULL:
            source.feed_eof()
        else:
            self._feed = Feed(source, 0 if choice is None else choice)
            self._name(source, self._feed)

    def _lend(self, fd: int, choice: int | None) -> bool:
        """A regular file, or a device that never waits, the guest has itself."""
        target = fd if choice is None else choice
        if target < 0 or not never_waits(target):
            return False
        self.files[fd], given = inherit(self._kernel, target)
        self._name(given, Lend(given, target))
        return True

    def _name(self, stream: StreamIn | StreamOut | Given, end: Any) -> None:
        """Our end finds its stream again after a thaw by this name."""
        kernel = self._kernel
        name = f"stream-{len(kernel.roots)}"
        kernel.roots[name] = stream
        self._names.append((name, end))

    async def suspend(self) -> None:
        """Before a freeze: what is on its way arrives, and nothing new sets out."""
        await self.flush()
        for _, end in self._names:
            if not isinstance(end, Inherit):
                end.detach()

    def reattach(self, kernel: Kernel) -> None:
        """After a thaw: the same streams, in a fresh graph."""
        self._kernel = kernel
        for name, end in self._names:
            end.attach(kernel.roots[name])
            if isinstance(end, (GuestStdin, Flow)):
                end.flow()

    def _output(self, fd: int, choice: int | None, limit: int) -> asyncio.StreamReader | None:
        if choice == CONSOLE:
            self.on_console.append(fd)
            return None
        if self._lend(fd, choice):
            return None
        target = fd if choice is None else choice
        for inherited in self._inherited:
            if inherited.goes_to(target):  # one pipe: what is written first comes first
                self.files[fd] = open_stream(self._kernel, inherited.stream)
                return None
        sink = StreamOut(limit=None if self._kernel.clock.virtual else 65536)
        self.files[fd] = open_stream(self._kernel, sink, **_looks(choice))
        if choice == PIPE:
            reader = asyncio.StreamReader(limit=limit)
            flow = Flow(sink, reader)
            reader.set_transport(flow)  # type: ignore[arg-type]
            self._flows.append(flow)
            self._name(sink, flow)
            return reader
        if choice == DEVNULL:
            self._name(sink, _Discard(sink))
        else:
            self._inherited.append(Inherit(sink, target, self._workers))
            self._name(sink, self._inherited[-1])
        return None

    async def flush(self) -> None:
        """All output that goes to descriptors of ours has been written."""
        for inherited in self._inherited:
            await inherited.flush()

    def close(self) -> None:
        """The machine is gone, or the program never was: end of file for our readers."""
        for flow in self._flows:
            flow.finish()
        if self._feed is not None:
            self._feed.stop()


class _Discard:
    """Takes what the guest writes, and forgets it."""

    def __init__(self, stream: StreamOut) -> None:
        self.attach(stream)

    def attach(self, stream: StreamOut) -> None:
        stream.on_data = lambda: stream.drained(len(stream.buffer))

    def detach(self) -> None:
        """Nothing of ours is under way."""


def _looks(choice: int | None) -> dict[str, Any]:
    """What fstat(2) shows the guest of a stream: a pipe, or /dev/null."""
    if choice == DEVNULL:
        return {"mode": stat.S_IFCHR | 0o666, "rdev": os.makedev(1, 3)}
    return {}
