"""bio: one transfer between memory and a disk.

Linux: block/bio.c, include/linux/bio.h.  A bio is made, submitted, waited for and
thrown away inside one uninterruptible sleep, so it is never state.

Invariants:
- `offset` and `length` are bytes, multiples of the 512-byte sector;
- a write's `data` is not changed by its owner until it is complete (callers pass
  `bytes`, or a copy);
- ordering: a bio is ordered against those that overlap it, and against flushes,
  in the order of submission; against all others not at all.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from uvm_async.errors import Errno

__all__ = ["SECTOR_BYTES", "Bio", "Op", "discard_bio", "flush_bio", "read_bio", "write_bio"]

SECTOR_BYTES = 512
"""The unit of sizes and positions on every disk."""


class Op(enum.Enum):
    """What a bio does."""

    READ = "read"
    WRITE = "write"
    FLUSH = "flush"
    DISCARD = "discard"


@dataclass(slots=True, eq=False)
class Bio:
    """One transfer. After completion `error` says how it went, and a read has its `data`."""

    op: Op
    offset: int = 0
    length: int = 0
    data: bytes | bytearray | memoryview = b""
    preflush: bool = False
    """Everything written before is stable before this is written (REQ_PREFLUSH)."""
    fua: bool = False
    """This is stable when it completes (REQ_FUA)."""
    error: type[Errno] | None = None

    @property
    def end(self) -> int:
        return self.offset + self.length


def read_bio(offset: int, length: int) -> Bio:
    """Read `length` bytes at byte `offset`."""
    return Bio(Op.READ, offset, length)


def write_bio(
    offset: int, data: bytes | bytearray | memoryview, *, preflush: bool = False, fua: bool = False
) -> Bio:
    """Write `data` at byte `offset`."""
    return Bio(Op.WRITE, offset, len(data), data, preflush, fua)


def flush_bio() -> Bio:
    """Make stable all that was written before."""
    return Bio(Op.FLUSH)


def discard_bio(offset: int, length: int) -> Bio:
    """The bytes are no longer needed; they read as zeros afterwards."""
    return Bio(Op.DISCARD, offset, length)
