"""Guest memory as an observer may read it: what is there, and nothing is changed.

Linux: process_vm_readv(2), but for a page that is not in the page tables there is
no fault: the bytes are then not known.  No accessed bit is set.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from uvm_async._host import lib
from uvm_async.arch.physmem import PAGE_SIZE, TASK_SIZE

if TYPE_CHECKING:
    from uvm_async.kernel.kernel import Kernel
    from uvm_async.mm.mm import Mm

__all__ = ["UserMemory"]

PTE_P: int = lib.UVM_PTE_P
PTE_ADDR: int = lib.UVM_PTE_ADDR


class UserMemory:
    """The memory of one address space; None: one that is no more."""

    def __init__(self, kernel: Kernel, mm: Mm | None) -> None:
        self._physmem = kernel.physmem
        self._mm = mm

    def read(self, addr: int, count: int) -> bytes | None:
        """`count` bytes, or None if one of them cannot be read."""
        data = self.prefix(addr, count)
        return data if len(data) == count else None

    def prefix(self, addr: int, count: int) -> bytes:
        """As many of `count` bytes as can be read."""
        physmem, parts = self._physmem, []
        end = min(addr + count, TASK_SIZE)
        mm = self._mm
        while mm is not None and mm.pgd and addr < end:
            pte = lib.uvm_pte_get(physmem.handle, mm.pgd, addr)
            if not pte & PTE_P:
                break
            at = (pte & PTE_ADDR) + addr % PAGE_SIZE
            take = min(end - addr, PAGE_SIZE - addr % PAGE_SIZE)
            parts.append(bytes(physmem.bytes[at : at + take]))
            addr += take
        return b"".join(parts)

    def string(self, addr: int, limit: int) -> tuple[bytes, bool] | None:
        """Up to `limit` bytes of a NUL-terminated string, and whether that was all of it."""
        data = self.prefix(addr, limit + 1)
        text, nul, _ = data.partition(b"\0")
        if not nul and len(data) <= limit:
            return None
        return text[:limit], bool(nul) and len(text) <= limit

    def words(self, addr: int, count: int, code: str = "Q") -> tuple[int, ...] | None:
        """`count` numbers of struct code `code`."""
        data = self.read(addr, count * struct.calcsize(code))
        return struct.unpack(f"<{count}{code}", data) if data is not None else None
