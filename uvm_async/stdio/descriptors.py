"""Standard streams that are descriptors of the embedder's: a caller's pipe, socket or terminal.

What the guest reads and writes passes through us, and it finds them as if it had them; those that
never wait (regular files, /dev/null) it has itself (`Lend`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import select
import termios
from typing import TYPE_CHECKING, Any

from uvm_async.descriptors import Watch, write_all

if TYPE_CHECKING:
    from uvm_async.fs.hostfs.inherited import Given
    from uvm_async.tty.stream import StreamIn, StreamOut

__all__ = ["Feed", "Inherit", "Lend"]


class Inherit:
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


class Feed:
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


class Lend:
    """Lets a guest have a descriptor of ours itself."""

    def __init__(self, given: Given, fd: int) -> None:
        self._fd = fd
        self.attach(given)

    def attach(self, given: Given) -> None:
        """It is this one (again, after a thaw)."""
        given.fd = self._fd

    def detach(self) -> None:
        """Nothing of ours is under way."""
