"""Standard streams that are pipes (PIPE): what the embedder has in its hands.

asyncio: the StreamWriter and the StreamReader of a subprocess.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uvm_async.tty.stream import StreamIn, StreamOut

__all__ = ["Flow", "GuestStdin"]


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
        stream.wanted = self.flow

    def detach(self) -> None:
        """Feed nothing more to the stream as it is now."""
        self._stream.wanted = None

    def flow(self) -> None:
        """Move what was written to the guest, as far as it has room."""
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
        self.flow()

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
        self.flow()

    def is_closing(self) -> bool:
        """Was `close` called?"""
        return self._closing

    async def wait_closed(self) -> None:
        """Wait until the guest has everything, or has closed its side."""
        await self._drained.wait()


class Flow:
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
