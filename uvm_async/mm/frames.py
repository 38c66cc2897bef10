"""Frames of physmem: the kernel's side of the C allocator.

Linux: mm/page_alloc.c.  State lies in physmem (cshim/host/frames.c); this is the
door to it, and the place where shortage is met: allocation first asks the
registered shrinkers (the page cache) to give frames back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from uvm_async._host import ffi, lib
from uvm_async.errors import Errno
from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.arch.physmem import Physmem
    from uvm_async.mm.filemap import AddressSpace

__all__ = ["Frames"]

_DATA = lib.UVM_ZONE_DATA
SCRATCH_BYTES = 1 << 16


class Frames(Entity):
    """Allocates, counts and fills frames; a pfn is a frame number from the file's start."""

    TRANSIENT: ClassVar[frozenset[str]] = frozenset(
        {"physmem", "pm", "scratch", "scratch_view", "word", "found", "pfns"}
    )

    def __init__(self, physmem: Physmem) -> None:
        self.caches: dict[AddressSpace, None] = {}
        """Page caches that hold evictable frames, least recently filled first."""
        self.dropped = 0
        """Frames that page caches have given back so far."""
        self.attach(physmem)

    def attach(self, physmem: Physmem) -> None:
        """Stand on this memory file (at boot and after a thaw)."""
        self.physmem = physmem
        self.pm: Any = physmem.handle
        self.scratch: Any = ffi.new("uint8_t[]", SCRATCH_BYTES)
        self.scratch_view = ffi.buffer(self.scratch)
        self.word: Any = ffi.new("uint64_t[2]")
        self.found: Any = ffi.new("int *")
        self.pfns: Any = ffi.new("uint32_t[]", 4096)

    # -- allocation

    def free(self) -> int:
        """Frames free for guests."""
        return int(lib.uvm_frames_free(self.pm, _DATA))

    def total(self) -> int:
        """Frames of guest memory."""
        return int(lib.uvm_frames_total(self.pm, _DATA))

    def alloc(self, order: int = 0) -> int:
        """First pfn of a run of 2**order frames, contents undefined. Raises ENOMEM.

        `def`: takes what is free, drops clean cached pages if it must, writes nothing back.
        """
        pfn: int = lib.uvm_frame_alloc(self.pm, _DATA, order)
        if pfn:
            return pfn
        if self.shrink(max(64, 2 << order)):
            pfn = lib.uvm_frame_alloc(self.pm, _DATA, order)
            if pfn:
                return pfn
        raise Errno.ENOMEM

    def alloc_run(self, order: int) -> tuple[int, int]:
        """A run of up to 2**order frames: (pfn, order got). Raises ENOMEM."""
        while order > 0:
            pfn: int = lib.uvm_frame_alloc(self.pm, _DATA, order)
            if pfn:
                return pfn, order
            order -= 1
        return self.alloc(0), 0

    def shrink(self, want: int) -> int:
        """Drop clean cached pages until `want` frames came free; answers how many did."""
        freed = 0
        for cache in list(self.caches):
            if freed >= want:
                break
            freed += cache.drop_clean(want - freed)
        return freed

    def zero(self, pfn: int, count: int = 1) -> None:
        """Fill with zeros."""
        lib.uvm_frame_zero(self.pm, pfn, count)

    def copy(self, dst: int, src: int) -> None:
        """Copy one frame."""
        lib.uvm_frame_copy(self.pm, dst, src)

    def get(self, pfn: int) -> None:
        """One more reference."""
        lib.uvm_frame_get(self.pm, pfn)

    def put(self, pfn: int) -> int:
        """One reference less; answers what is left (0: free again)."""
        return int(lib.uvm_frame_put(self.pm, pfn))

    def refs(self, pfn: int) -> int:
        """References held."""
        return int(lib.uvm_frame_refs(self.pm, pfn))

    # -- contents

    def read(self, pfn: int, offset: int, length: int) -> bytes:
        """Bytes from `offset` of frame `pfn` (may run on into the frames that follow)."""
        start = (pfn << 12) + offset
        return bytes(self.physmem.bytes[start : start + length])

    def write(self, pfn: int, offset: int, data: bytes | memoryview) -> None:
        """Store bytes."""
        start = (pfn << 12) + offset
        self.physmem.bytes[start : start + len(data)] = data
