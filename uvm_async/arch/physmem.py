"""Physical memory: one memory file, and this process's views of it.

Layout and the meaning of every zone: cshim/include/uvm_abi.h.  All allocator
state, page tables, kernel stacks and mailboxes lie inside, so a copy of the file
is a copy of the machine's memory.
"""

from __future__ import annotations

import errno
import mmap
import os
from typing import Any

from uvm_async._host import ffi, lib
from uvm_async.errors import MachineError

__all__ = ["PAGE_SIZE", "TASK_SIZE", "Physmem"]

PAGE_SIZE: int = lib.UVM_PAGE_SIZE
TASK_SIZE: int = lib.UVM_TASK_SIZE
"""First address above guest memory."""


class Physmem:
    """A memory file, mapped.  Not state: a thawed machine opens a copy anew.

    `handle` is what the C library wants; `u32` and `u64` are views of the whole file.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.size = os.fstat(fd).st_size
        self._map = mmap.mmap(fd, self.size)
        self.bytes = memoryview(self._map)
        self.u32 = self.bytes.cast("I")
        self.u64 = self.bytes.cast("Q")
        self.handle: Any = ffi.new("struct uvm_physmem *")
        self._buffer = ffi.from_buffer("uint8_t[]", self._map, require_writable=True)
        self.base: Any = ffi.cast("uint8_t *", self._buffer)
        self.handle.base = self.base
        self.handle.size = self.size

    @classmethod
    def create(cls, data_bytes: int, slots: int) -> Physmem:
        """A fresh machine's memory: `data_bytes` for guests, room for `slots` stubs."""
        size = lib.uvm_physmem_size(data_bytes, slots)
        if size == 0:
            raise MachineError(f"cannot have {data_bytes} bytes of memory")
        fd = os.memfd_create("uvm-physmem", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, size)
            physmem = cls(fd)
        except OSError as error:
            os.close(fd)
            why = error.strerror
            if error.errno == errno.EFBIG:
                why = (
                    f"its file of {size >> 20} MiB is larger than this process may make (ulimit -f)"
                )
            raise MachineError(f"no memory for the machine: {why}") from error
        if lib.uvm_physmem_format(physmem.handle, data_bytes, slots):
            physmem.close()
            raise MachineError(f"cannot lay out {data_bytes} bytes of memory")
        return physmem

    @property
    def slot_offset(self) -> int:
        """Byte offset of slot 0."""
        return int(lib.uvm_slot_offset(self.handle))

    @property
    def data_offset(self) -> int:
        """First byte that guests may map writable."""
        return int(lib.uvm_data_offset(self.handle))

    def copy(self) -> int:
        """A new memory file with the same contents (holes stay holes); answers its descriptor."""
        fd = os.memfd_create("uvm-physmem", os.MFD_CLOEXEC)
        os.ftruncate(fd, self.size)
        position = 0
        while position < self.size:
            try:
                start = os.lseek(self.fd, position, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(self.fd, start, os.SEEK_HOLE)
            os.lseek(fd, start, os.SEEK_SET)
            while start < end:
                start += os.sendfile(fd, self.fd, start, end - start)
            position = end
        return fd

    def close(self) -> None:
        """Unmap and close. Views handed out must be gone or unused."""
        if self.fd < 0:
            return
        self.handle.base = ffi.NULL
        ffi.release(self._buffer)
        self.u32.release()
        self.u64.release()
        self.bytes.release()
        self._map.close()
        os.close(self.fd)
        self.fd = -1
