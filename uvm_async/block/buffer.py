"""The buffer cache: blocks of a disk, by number, with write-back.

Linux: fs/buffer.c, include/linux/buffer_head.h.  File systems keep their metadata
here, and so does the block device's own file; file contents live in the page
cache and pass by.

Dirty buffers carry a *rank*.  `write_out` writes all of rank 0, flushes, then all
of rank 1, flushes, and so on: what has a higher rank never reaches the disk before
what has a lower.  That is all a file system needs to order its metadata.

Invariants:
- a `Buffer` is good until the next await: whoever changes one asks for it, changes
  it and calls `mark_dirty`, all without an await between (a cached buffer is
  answered without sleeping, so asking again costs little);
- a buffer that is dirty, or whose write is not yet stable, is never dropped;
- what is written is a copy, taken by `take_dirty` at one instant;
- after a failed write the buffers are dirty again, at the rank they had.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from uvm_async.block.bio import Bio, read_bio, write_bio
from uvm_async.errors import Errno
from uvm_async.sched.wait import Mutex, WaitQueue, wait_for
from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.block.disk import Disk

__all__ = ["Buffer", "BufferCache", "BufferHolder", "DirtySet"]

LIMIT_BYTES = 16 << 20
"""How much a cache holds before it drops what is clean, least recently used first."""

CLEAN = -1


class Buffer(Entity):
    """One block in memory (Linux: struct buffer_head)."""

    __slots__ = ("block", "data", "rank", "writing")

    def __init__(self, block: int, data: bytearray) -> None:
        self.block = block
        self.data = data
        self.rank = CLEAN
        """CLEAN, or the order in which it must be written."""
        self.writing = 0
        """Writes of it that are not yet stable."""

    @property
    def dirty(self) -> bool:
        return self.rank != CLEAN


@dataclass(slots=True)
class DirtySet:
    """What `take_dirty` took: (rank, block, contents), and the buffers they came from."""

    writes: list[tuple[int, int, bytes]]
    buffers: list[Buffer]

    def extend(self, other: DirtySet) -> None:
        self.writes += other.writes
        self.buffers += other.buffers


class BufferHolder(Protocol):
    """Who owns the buffers of a mounted disk, and so the order in which they are written."""

    async def commit(self) -> None:
        """Write all dirty metadata in a safe order and wait until it is stable."""


class BufferCache(Entity):
    """The buffers of one disk. Of its contents only what is dirty survives a freeze."""

    TRANSIENT: ClassVar[frozenset[str]] = frozenset({"buffers"})

    def __init__(
        self, disk: Disk, block_size: int = 4096, *, limit_bytes: int = LIMIT_BYTES
    ) -> None:
        self.disk = disk
        self.block_size = block_size
        self.limit_bytes = limit_bytes
        self.buffers: dict[int, Buffer] = {}
        """By block, least recently used first."""
        self.dirty: dict[int, Buffer] = {}
        self.reading: dict[int, WaitQueue] = {}
        self.lock = Mutex()
        """One `write_out` at a time."""

    def thawed(self) -> None:
        self.buffers = dict(self.dirty)

    @property
    def over_limit(self) -> bool:
        """So much is dirty that whoever makes more should first write some out."""
        return len(self.dirty) * self.block_size > self.limit_bytes // 2

    # -- reading

    async def bread(self, block: int) -> Buffer:
        """The buffer of `block`, read if need be. Raises EIO."""
        buffer = self.buffers.get(block)
        if buffer is not None:
            self.buffers[block] = self.buffers.pop(block)
            return buffer
        await self.read_ahead((block,))
        return await self.bread(block)

    async def read_ahead(self, blocks: Iterable[int]) -> None:
        """Bring `blocks` in, side by side. Raises EIO."""
        missing = [b for b in blocks if b not in self.buffers]
        while any(block in self.reading for block in missing):
            busy = next(self.reading[b] for b in missing if b in self.reading)
            await wait_for(busy)
            missing = [b for b in missing if b not in self.buffers]
        bios = [(block, self._read_bio(block)) for block in missing]
        if not bios:
            return
        for block in missing:
            self.reading[block] = WaitQueue()
        try:
            await self.disk.submit([bio for _, bio in bios])
            self.shrink(len(bios))
            for block, bio in bios:
                # Not if somebody made it anew meanwhile (getblk): theirs is later.
                self.buffers.setdefault(block, Buffer(block, bytearray(bio.data)))
        finally:
            for block in missing:
                self.reading.pop(block).wake_up()

    def _read_bio(self, block: int) -> Bio:
        offset = block * self.block_size
        length = min(self.block_size, self.disk.size - offset)
        if length <= 0:
            raise Errno.EIO("block beyond the end of the disk")
        return read_bio(offset, length)

    def getblk(self, block: int) -> Buffer:
        """The buffer of a block whose old contents do not matter: all zeros."""
        buffer = self.buffers.get(block)
        if buffer is not None:
            buffer.data[:] = bytes(len(buffer.data))
            return buffer
        self.shrink(1)
        length = min(self.block_size, self.disk.size - block * self.block_size)
        buffer = self.buffers[block] = Buffer(block, bytearray(length))
        return buffer

    # -- changing

    def mark_dirty(self, buffer: Buffer, rank: int = 0) -> None:
        """`buffer` was changed just now, and must not be written before what has a lower rank."""
        assert self.buffers.get(buffer.block) is buffer, "a buffer was held across an await"
        buffer.rank = max(buffer.rank, rank)
        self.dirty[buffer.block] = buffer

    def forget(self, block: int, count: int = 1) -> None:
        """These blocks are nobody's metadata any more: never write what is cached of them."""
        if count > len(self.buffers):
            blocks = [b for b in self.buffers if block <= b < block + count]
        else:
            blocks = [b for b in range(block, block + count) if b in self.buffers]
        for number in blocks:
            buffer = self.buffers.pop(number)
            buffer.rank = CLEAN
            self.dirty.pop(number, None)

    def shrink(self, room: int = 0) -> None:
        """Drop clean buffers, least recently used first, until `room` more fit."""
        most = self.limit_bytes // self.block_size
        excess = len(self.buffers) + room - most
        if excess <= 0:
            return
        excess += most // 16  # so that not every read has to look for victims
        victims = []
        for block, buffer in self.buffers.items():
            if not buffer.dirty and not buffer.writing:
                victims.append(block)
                if len(victims) == excess:
                    break
        for block in victims:
            del self.buffers[block]

    def drop_clean(self) -> None:
        """Forget all that can be read again."""
        kept = {k: b for k, b in self.buffers.items() if b.dirty or b.writing}
        self.buffers.clear()
        self.buffers.update(kept)

    def set_block_size(self, block_size: int) -> None:
        """Count in blocks of this size from now on. Nothing may be dirty."""
        assert not self.dirty
        if block_size != self.block_size:
            self.buffers.clear()
            self.block_size = block_size

    # -- writing back

    def take_dirty(self) -> DirtySet:
        """A copy of all that is dirty; it counts as clean from now on. Give it to `write_out`."""
        buffers = [self.dirty[block] for block in sorted(self.dirty)]
        taken = DirtySet([(b.rank, b.block, bytes(b.data)) for b in buffers], buffers)
        for buffer in buffers:
            buffer.rank = CLEAN
            buffer.writing += 1
        self.dirty.clear()
        return taken

    async def write_out(self, taken: DirtySet) -> None:
        """Write what `take_dirty` took, rank by rank, and wait until all is stable. Raises EIO."""
        stable = False
        try:
            async with self.lock:
                for rank in sorted({rank for rank, _, _ in taken.writes}):
                    await self.disk.submit(
                        [
                            write_bio(block * self.block_size, data)
                            for of, block, data in taken.writes
                            if of == rank
                        ]
                    )
                    await self.disk.flush()
                await self.disk.flush()
            stable = True
        finally:
            for (rank, block, _), buffer in zip(taken.writes, taken.buffers, strict=True):
                buffer.writing -= 1
                if not stable and self.buffers.get(block) is buffer:
                    self.mark_dirty(buffer, rank)
            self.shrink()

    async def sync(self) -> None:
        """Write all that is dirty and wait until it is stable. Raises EIO."""
        await self.write_out(self.take_dirty())

    # -- bytes, for the block device's file

    async def read_bytes(self, offset: int, length: int) -> bytes:
        """Bytes of the disk, through the cache. The caller keeps within the disk. Raises EIO."""
        size = self.block_size
        first, last = offset // size, (offset + length - 1) // size
        await self.read_ahead(range(first, last + 1))
        parts = [bytes((await self.bread(block)).data) for block in range(first, last + 1)]
        return b"".join(parts)[offset - first * size :][:length]

    async def write_bytes(self, offset: int, data: bytes) -> None:
        """Change bytes of the disk, in the cache. The caller keeps within the disk. Raises EIO."""
        done = 0
        while done < len(data):
            block, start = divmod(offset + done, self.block_size)
            part = data[done : done + self.block_size - start]
            whole = min(self.block_size, self.disk.size - block * self.block_size)
            if len(part) == whole:
                buffer = self.getblk(block)
            else:
                buffer = await self.bread(block)
            buffer.data[start : start + len(part)] = part
            self.mark_dirty(buffer)
            done += len(part)
