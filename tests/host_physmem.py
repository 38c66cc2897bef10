"""A memory file for the tests of the host library, with the views they need."""

from __future__ import annotations

import mmap
import os
from typing import Any

from uvm_async._host import ffi, lib

ZONE_PT: int = lib.UVM_ZONE_PT
ZONE_DATA: int = lib.UVM_ZONE_DATA
PAGE: int = lib.UVM_PAGE_SIZE


class Physmem:
    """A formatted memfd, mapped here; `pm` is what the library wants to see."""

    def __init__(self, data_bytes: int, nslots: int = 4) -> None:
        self.size: int = lib.uvm_physmem_size(data_bytes, nslots)
        self.fd = os.memfd_create("physmem")
        os.ftruncate(self.fd, self.size)
        self.map = mmap.mmap(self.fd, self.size)
        self._buffer = ffi.from_buffer(self.map)
        self.pm: Any = ffi.new("struct uvm_physmem *")
        self.pm.base = ffi.cast("uint8_t *", self._buffer)
        self.pm.size = self.size
        assert lib.uvm_physmem_format(self.pm, data_bytes, nslots) == 0

    def close(self) -> None:
        ffi.release(self._buffer)
        self.map.close()
        os.close(self.fd)

    def touched_bytes(self) -> int:
        """Bytes of the file that the host holds memory for."""
        return os.fstat(self.fd).st_blocks * 512

    def copy_from(self, other: Physmem) -> None:
        """Make this file equal to another of the same size."""
        self.map[:] = other.map[:]

    def frame(self, pfn: int) -> bytes:
        return self.map[pfn * PAGE : (pfn + 1) * PAGE]

    def write_frame(self, pfn: int, content: bytes) -> None:
        self.map[pfn * PAGE : pfn * PAGE + len(content)] = content

    def alloc(self, zone: int = ZONE_DATA, order: int = 0) -> int:
        pfn: int = lib.uvm_frame_alloc(self.pm, zone, order)
        return pfn

    def refs(self, pfn: int) -> int:
        count: int = lib.uvm_frame_refs(self.pm, pfn)
        return count

    def free(self, zone: int = ZONE_DATA) -> int:
        count: int = lib.uvm_frames_free(self.pm, zone)
        return count

    def total(self, zone: int = ZONE_DATA) -> int:
        count: int = lib.uvm_frames_total(self.pm, zone)
        return count

    def consistent(self) -> bool:
        return bool(lib.uvm_frames_check(self.pm) == 0)
