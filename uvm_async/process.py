"""A guest process, seen from asyncio: the habits of asyncio.subprocess.

Differences are few: `pid` is the guest's, and there is no transport.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import select
import signal as signals
import stat
import termios
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from subprocess import DEVNULL, PIPE, STDOUT
from typing import TYPE_CHECKING, Any, Final

from uvm_async.descriptors import Watch, write_all
from uvm_async.errors import MachineError
from uvm_async.fs.hostfs.inherited import Given, inherit, never_waits
from uvm_async.fs.inode import File
from uvm_async.kernel.signal import SI_USER, SigInfo, send_to_process
from uvm_async.tty.stream import StreamIn, StreamOut, open_stream

if TYPE_CHECKING:
    from uvm_async.errors import Errno
    from uvm_async.kernel.kernel import Kernel
    from uvm_async.kernel.task import Process, Task

__all__ = [
    "CONSOLE",
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "CompletedProcess",
    "GuestProcess",
    "GuestStdin",
    "Streams",
]

CONSOLE: Final = -4
"""A standard stream that is the machine's console (`Machine.console`)."""


@dataclass(frozen=True, slots=True)
class CompletedProcess:
    """How a program ended. `returncode` is negative for a death by signal."""

    args: Sequence[str | bytes]
    returncode: int
    stdout: bytes
    stderr: bytes


class GuestStdin:
    """Writes to a guest's standard input (the part of asyncio.StreamWriter that makes sense)."""

    def __init__(self, stream: StreamIn) -> None:
        self._buffer = bytearray()
        self._closing = False
        self._drained = asyncio.Event()
        self._drained.set()
        self.attach(stream)

    def attach(self, stream: StreamIn) -> None:
        """Feed this stream (again, after a thaw)."""
        self._stream = stream
        stream.wanted = self._push

    def detach(self) -> None:
        """Feed nothing more to the stream as it is now."""
        self._stream.wanted = None

    def _push(self) -> None:
        stream = self._stream
        if stream.wanted is None:
            return
        if self._buffer and not stream.eof and stream.readers:
            part = bytes(self._buffer[: stream.room])
            if part:
                del self._buffer[: len(part)]
                stream.feed(part)
        if not stream.readers:
            self._buffer.clear()
        if not self._buffer:
            self._drained.set()
            if self._closing and not stream.eof:
                stream.feed_eof()

    def write(self, data: bytes) -> None:
        """Queue `data` for the guest."""
        if self._closing:
            raise RuntimeError("standard input is closed")
        self._buffer += data
        if self._buffer:
            self._drained.clear()
        self._push()

    def writelines(self, data: Iterable[bytes]) -> None:
        """Queue several pieces."""
        self.write(b"".join(data))

    async def drain(self) -> None:
        """Wait until the guest has taken what was written. Raises BrokenPipeError."""
        if not self._stream.readers:
            raise BrokenPipeError("the guest has closed its standard input")
        await self._drained.wait()

    def can_write_eof(self) -> bool:
        """True."""
        return True

    def write_eof(self) -> None:
        """End of file after what was written."""
        self.close()

    def close(self) -> None:
        """End of file after what was written."""
        self._closing = True
        self._push()

    def is_closing(self) -> bool:
        """Was `close` called?"""
        return self._closing

    async def wait_closed(self) -> None:
        """Wait until the guest has everything, or has closed its side."""
        await self._drained.wait()


class _Flow:
    """What a StreamReader wants of a transport: to stop and start the flow."""

    def __init__(self, stream: StreamOut, reader: asyncio.StreamReader) -> None:
        self._stream = stream
        self._reader = reader
        self._paused = False
        self.done = False
        self.attach(stream)

    def attach(self, stream: StreamOut) -> None:
        """Take from this stream (again, after a thaw)."""
        self._stream = stream
        stream.on_data = self.flow

    def detach(self) -> None:
        """Take nothing more from the stream as it is now."""
        self._stream.on_data = None

    def flow(self) -> None:
        """Move what the guest has written to the reader."""
        if self._paused or self.done or self._stream.on_data is None:
            return
        if self._stream.buffer:
            self._reader.feed_data(self._stream.take())
        if not self._stream.writers and not self._stream.buffer:
            self.done = True
            self._reader.feed_eof()

    def finish(self) -> None:
        """Nothing more will come."""
        if not self.done:
            self._paused = False
            if self._stream.buffer:
                self._reader.feed_data(bytes(self._stream.buffer))
            self.done = True
            self._reader.feed_eof()

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self.flow()

    def is_closing(self) -> bool:
        return self.done


class _Inherit:
    """Writes a guest's output to a descriptor of ours, in order, never blocking the loop."""

    def __init__(self, stream: StreamOut, fd: int, workers: Any) -> None:
        self._fd = fd
        self._workers = workers
        self._job: asyncio.Task[None] | None = None
        self.finished = asyncio.Event()
        self.attach(stream)

    def attach(self, stream: StreamOut) -> None:
        """Write out this stream (again, after a thaw)."""
        self.stream = stream
        stream.on_data = self._wake

    def goes_to(self, fd: int) -> bool:
        """Is `fd` the same pipe (or socket, or terminal)?"""
        try:
            return os.path.samestat(os.fstat(fd), os.fstat(self._fd))
        except OSError:
            return False

    def _wake(self) -> None:
        if self._job is None or self._job.done():
            self._job = asyncio.get_running_loop().create_task(self._pump())

    async def _pump(self) -> None:
        while self.stream.buffer:
            data = bytes(self.stream.buffer[:65536])
            try:
                await self._workers.run(write_all, self._fd, data)
            except OSError as error:
                self.stream.hang_up(error.errno or errno.EIO)
                break
            self.stream.drained(len(data))
        if not self.stream.writers and not self.stream.buffer:
            self.finished.set()

    async def flush(self) -> None:
        """Wait until all that was written has gone out."""
        while self.stream.buffer or (self._job is not None and not self._job.done()):
            self._wake()
            assert self._job is not None
            await self._job


class _Feed:
    """Feeds a guest's input from a descriptor of ours, of which others may want the rest.

    Bytes are taken within the guest's read, and no more than it wants; while it waits, and for
    those who poll, the descriptor is only watched. A read that is to be filled (StreamIn.fill)
    takes what comes while it waits.
    """

    def __init__(self, stream: StreamIn, fd: int) -> None:
        self._fd = fd
        self._watch: Watch | None = None
        self._at_once = True
        """The host can read from it without waiting (RWF_NOWAIT)."""
        self.attach(stream)

    def attach(self, stream: StreamIn) -> None:
        """Feed this stream (again, after a thaw)."""
        self._stream = stream
        stream.wanted = self._wanted
        if stream.wait or stream.poll_wait:
            self._wait()

    def detach(self) -> None:
        """Feed nothing more for now."""
        self._stream.wanted = None
        self.stop()

    def _wanted(self) -> None:
        stream = self._stream
        if stream.eof or not stream.readers:
            self.stop()
        elif stream.asking:
            self._take()
        elif stream.polled:
            self._look()

    def _take(self) -> None:
        stream = self._stream
        while True:
            held = len(stream.buffer) if stream.fill else 0
            want = min(stream.needs - held, stream.room)
            if want <= 0:
                return
            try:
                data = self._read(want)
            except BlockingIOError:
                self._wait()
                return
            except OSError:
                data = b""
            if not data:
                self.stop()
                stream.feed_eof()
                return
            stream.feed(data)
            if not stream.fill:
                return

    def _read(self, count: int) -> bytes:
        """Raises BlockingIOError where there is nothing yet."""
        if self._at_once:
            data = bytearray(count)
            try:
                return bytes(data[: os.preadv(self._fd, [data], -1, os.RWF_NOWAIT)])
            except BlockingIOError:
                raise
            except OSError:
                self._at_once = False
        if not self._state():
            raise BlockingIOError
        return os.read(self._fd, count)

    def _state(self) -> int:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return sum(bits for _, bits in poll.poll(0))

    def _look(self) -> None:
        """Say what there is, and take nothing."""
        stream = self._stream
        stream.pending = self._state()
        if not stream.pending:
            self._wait()
            return
        with contextlib.suppress(OSError):
            unread = fcntl.ioctl(self._fd, termios.FIONREAD, bytes(4))
            stream.unread = int.from_bytes(unread, "little")

    def _wait(self) -> None:
        if self._watch is None:
            try:
                self._watch = Watch(self._fd, self._readable)
            except OSError:  # it is closed
                self._stream.feed_eof()

    def _readable(self) -> None:
        self.stop()
        stream = self._stream
        if stream.wanted is None or stream.eof:
            return
        if stream.fill and stream.wait:
            self._take()
            stream.poll_wait.wake_up()
        else:
            stream.came()

    def stop(self) -> None:
        """Watch the descriptor no longer."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None


class _Lend:
    """Lets a guest have a descriptor of ours itself."""

    def __init__(self, given: Given, fd: int) -> None:
        self._fd = fd
        self.attach(given)

    def attach(self, given: Given) -> None:
        """It is this one (again, after a thaw)."""
        given.fd = self._fd

    def detach(self) -> None:
        """Nothing of ours is under way."""


class _Discard:
    """Takes what the guest writes, and forgets it."""

    def __init__(self, stream: StreamOut) -> None:
        self.attach(stream)

    def attach(self, stream: StreamOut) -> None:
        stream.on_data = lambda: stream.drained(len(stream.buffer))

    def detach(self) -> None:
        """Nothing of ours is under way."""


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
        self._flows: list[_Flow] = []
        self._inherited: list[_Inherit] = []
        self._feed: _Feed | None = None
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
            self._feed = _Feed(source, 0 if choice is None else choice)
            self._name(source, self._feed)

    def _lend(self, fd: int, choice: int | None) -> bool:
        """A regular file, or a device that never waits, the guest has itself."""
        target = fd if choice is None else choice
        if target < 0 or not never_waits(target):
            return False
        self.files[fd], given = inherit(self._kernel, target)
        self._name(given, _Lend(given, target))
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
            if not isinstance(end, _Inherit):
                end.detach()

    def reattach(self, kernel: Kernel) -> None:
        """After a thaw: the same streams, in a fresh graph."""
        self._kernel = kernel
        for name, end in self._names:
            end.attach(kernel.roots[name])
            if isinstance(end, GuestStdin):
                end._push()
            elif isinstance(end, _Flow):
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
            flow = _Flow(sink, reader)
            reader.set_transport(flow)  # type: ignore[arg-type]
            self._flows.append(flow)
            self._name(sink, flow)
            return reader
        if choice == DEVNULL:
            self._name(sink, _Discard(sink))
        else:
            self._inherited.append(_Inherit(sink, target, self._workers))
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


def _looks(choice: int | None) -> dict[str, Any]:
    """What fstat(2) shows the guest of a stream: a pipe, or /dev/null."""
    if choice == DEVNULL:
        return {"mode": stat.S_IFCHR | 0o666, "rdev": os.makedev(1, 3)}
    return {}


class GuestProcess:
    """A running program (asyncio.subprocess.Process)."""

    def __init__(self, kernel: Kernel, process: Process, streams: Streams) -> None:
        self._kernel = kernel
        self._process = process
        self._streams = streams
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._ended.add_done_callback(lambda f: f.cancelled() or f.exception())
        self.pid = process.pid
        self.stdin = streams.stdin
        self.stdout = streams.stdout
        self.stderr = streams.stderr

    @property
    def returncode(self) -> int | None:
        """Exit status, -signal for a death by signal, None while it runs."""
        if not self._ended.done() or self._ended.exception() is not None:
            return None
        return self._ended.result()

    def reattach(self, kernel: Kernel, process: Process) -> None:
        """After a thaw: the same process, in a fresh graph."""
        self._kernel = kernel
        self._process = process

    async def started(self, task: Task, failed: asyncio.Future[Errno]) -> None:
        """Wait until the program runs, or could not."""
        while task.phase == "spawn" and not failed.done() and not self._ended.done():
            await asyncio.sleep(0)

    def exited(self, status: int) -> None:
        """The machine reports the end, with a wait status."""
        if not self._ended.done():
            signo = status & 0x7F
            self._ended.set_result(-signo if signo else status >> 8 & 0xFF)

    def machine_closed(self, failure: BaseException | None) -> None:
        """It will never end by itself: the machine has."""
        if not self._ended.done():
            self._ended.set_exception(failure or MachineError("the machine was closed"))
        self._streams.close()

    async def wait(self) -> int:
        """Wait for its end; answers `returncode`. Raises MachineError if the machine ends first."""
        status = await asyncio.shield(self._ended)
        await self._streams.flush()
        return status

    async def communicate(self, input: bytes | None = None) -> tuple[bytes | None, bytes | None]:
        """Feed `input`, read both outputs to their end, wait."""
        if self.stdin is not None:
            if input:
                self.stdin.write(input)
            self.stdin.close()
        stdout, stderr = await asyncio.gather(_read(self.stdout), _read(self.stderr))
        await self.wait()
        return stdout, stderr

    def send_signal(self, signo: int) -> None:
        """Signal the process. Raises ProcessLookupError if it has ended."""
        if self._ended.done():
            raise ProcessLookupError
        send_to_process(self._process, SigInfo(signo, SI_USER))
        self._kernel.sched.poke()

    def send_signal_to_group(self, signo: int) -> None:
        """Signal all of its process group, as a terminal's ^C does. Raises ProcessLookupError."""
        if self._ended.done():
            raise ProcessLookupError
        if not self._kernel.kill_pgrp(self._process.pgrp, signo):
            raise ProcessLookupError
        self._kernel.sched.poke()

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signals.SIGTERM)

    def kill(self) -> None:
        """SIGKILL; nothing if it has ended."""
        if not self._ended.done():
            self.send_signal(signals.SIGKILL)


async def _read(stream: asyncio.StreamReader | None) -> bytes | None:
    return await stream.read() if stream is not None else None
