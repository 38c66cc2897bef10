"""iov_iter: a cursor over memory that a read fills or a write drains.

Linux: lib/iov_iter.c.  File operations take one of these instead of an address,
so that the same code serves `read`, `readv`, `pread`, exec and sendfile, and so
that the order of checks is Linux's (the descriptor, then the data, then the
buffer).

Two ways to use it:
- `await it.copy_to(data)` / `await it.copy_from(n)`: fault in and copy;
- where the data must not move under the copy (a pipe): `await it.fault_in(n)`,
  then `it.put(data)` / `it.take(n)`, which are atomic and may be short; loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from uvm_async.errors import Errno

if TYPE_CHECKING:
    from uvm_async.mm.mm import Mm

__all__ = ["CHUNK_BYTES", "IovIter", "KernelIter", "UserIter"]

CHUNK_BYTES = 65536
"""Most bytes copied in one atomic step (DESIGN: copies go in chunks)."""


class IovIter(Protocol):
    """`count` is how many bytes are left."""

    count: int

    async def fault_in(self, count: int) -> None:
        """Make the next bytes accessible. Raises EFAULT if the very first is not."""

    def put(self, data: bytes | memoryview) -> int:
        """Store as much of `data` as is accessible and fits; advance; answer how much."""

    def take(self, count: int) -> bytes:
        """Fetch up to `count` accessible bytes; advance."""

    def advance(self, count: int) -> None:
        """Step over `count` bytes (at most `self.count`) without touching them."""

    async def copy_to(self, data: bytes | memoryview) -> int:
        """Store `data`, faulting in; short at a bad address, EFAULT if nothing could be stored."""

    async def copy_from(self, count: int) -> bytes:
        """Fetch `count` bytes (or what is left), faulting in; short or EFAULT as `copy_to`."""


class KernelIter:
    """Over kernel memory: reads append to `data`, writes drain it."""

    __slots__ = ("_pos", "count", "data")

    def __init__(self, data: bytes = b"", *, room: int = 0) -> None:
        """`data` to be drained by a write, or `room` bytes to be filled by a read."""
        self.data = bytearray(data)
        self.count = len(data) or room
        self._pos = 0

    async def fault_in(self, count: int) -> None:
        """Kernel memory is always there."""

    def put(self, data: bytes | memoryview) -> int:
        part = data[: self.count]
        self.data += part
        self.count -= len(part)
        return len(part)

    def take(self, count: int) -> bytes:
        part = bytes(self.data[self._pos : self._pos + min(count, self.count)])
        self._pos += len(part)
        self.count -= len(part)
        return part

    def advance(self, count: int) -> None:
        self._pos += count
        self.count -= count

    async def copy_to(self, data: bytes | memoryview) -> int:
        return self.put(data)

    async def copy_from(self, count: int) -> bytes:
        return self.take(count)


class UserIter:
    """Over guest memory: segments of (address, length), as `struct iovec` has them."""

    __slots__ = ("_segments", "count", "mm", "write")

    def __init__(self, mm: Mm, segments: list[tuple[int, int]], *, write: bool) -> None:
        """`write`: the guest's memory will be written (that is, by a read)."""
        self.mm = mm
        self.write = write
        if len(segments) == 1:  # nearly always: 0.5 µs less
            self.count = segments[0][1]
            self._segments = segments if self.count else []
            return
        self._segments = [s for s in reversed(segments) if s[1]]
        self.count = sum(length for _, length in segments)

    async def fault_in(self, count: int) -> None:
        first = True
        for addr, length in reversed(self._segments):
            if count <= 0:
                return
            size = min(length, count)
            faulted = await self.mm.fault_in(addr, size, write=self.write)
            if faulted < size:
                if first and faulted == 0:
                    raise Errno.EFAULT
                return
            first = False
            count -= size

    def _advance(self, count: int) -> None:
        addr, length = self._segments.pop()
        if count < length:
            self._segments.append((addr + count, length - count))
        self.count -= count

    def put(self, data: bytes | memoryview) -> int:
        done = 0
        while done < len(data) and self._segments:
            addr, length = self._segments[-1]
            want = min(length, len(data) - done)
            copied = self.mm.copy_to_user_atomic(addr, data[done : done + want])
            self._advance(copied)
            done += copied
            if copied < want:
                break
        return done

    def take(self, count: int) -> bytes:
        parts: list[bytes] = []
        while count > 0 and self._segments:
            addr, length = self._segments[-1]
            want = min(length, count)
            part = self.mm.copy_from_user_atomic(addr, want)
            self._advance(len(part))
            parts.append(part)
            count -= len(part)
            if len(part) < want:
                break
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def advance(self, count: int) -> None:
        while count > 0:
            step = min(count, self._segments[-1][1])
            self._advance(step)
            count -= step

    async def copy_to(self, data: bytes | memoryview) -> int:
        done = 0
        total = min(len(data), self.count)
        while done < total:
            step = self.put(data[done : min(total, done + CHUNK_BYTES)])
            done += step
            if step == 0:
                try:
                    await self.fault_in(min(total - done, CHUNK_BYTES))
                except Errno.EFAULT:
                    if done:
                        break
                    raise
        return done

    async def copy_from(self, count: int) -> bytes:
        parts: list[bytes] = []
        left = min(count, self.count)
        while left > 0:
            part = self.take(min(left, CHUNK_BYTES))
            if part:
                parts.append(part)
                left -= len(part)
                continue
            try:
                await self.fault_in(min(left, CHUNK_BYTES))
            except Errno.EFAULT:
                if parts:
                    break
                raise
        return parts[0] if len(parts) == 1 else b"".join(parts)
