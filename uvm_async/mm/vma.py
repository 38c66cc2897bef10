"""Virtual memory areas.

Linux: struct vm_area_struct.  An area is a run of pages with one permission and
one backing: anonymous memory (private), or a page cache (a file's, or that of
shared anonymous memory).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.fs.inode import File
    from uvm_async.mm.filemap import AddressSpace
    from uvm_async.mm.mm import Mm

PROT_READ: Final = 1
PROT_WRITE: Final = 2
PROT_EXEC: Final = 4

MAP_SHARED: Final = 0x01
MAP_PRIVATE: Final = 0x02
MAP_SHARED_VALIDATE: Final = 0x03
MAP_TYPE: Final = 0x0F
MAP_FIXED: Final = 0x10
MAP_ANONYMOUS: Final = 0x20
MAP_GROWSDOWN: Final = 0x100
MAP_LOCKED: Final = 0x2000
MAP_POPULATE: Final = 0x8000
MAP_STACK: Final = 0x20000
MAP_FIXED_NOREPLACE: Final = 0x100000

# Above the flags of mmap(2), what else an area's `flags` say.
VM_DONTCOPY: Final = 1 << 32
VM_WIPEONFORK: Final = 1 << 33
VM_LOCKED: Final = 1 << 34


class Vma(Entity):
    """Addresses [start, end), page-aligned."""

    __slots__ = (
        "end",
        "file",
        "flags",
        "mapping",
        "max_prot",
        "mm",
        "name",
        "pgoff",
        "prot",
        "start",
    )

    def __init__(
        self,
        mm: Mm,
        start: int,
        end: int,
        prot: int,
        flags: int,
        *,
        file: File | None = None,
        mapping: AddressSpace | None = None,
        pgoff: int = 0,
        max_prot: int = 7,
        name: bytes = b"",
    ) -> None:
        self.mm = mm
        self.start = start
        self.end = end
        self.prot = prot
        self.flags = flags
        """MAP_SHARED or MAP_PRIVATE, MAP_GROWSDOWN ..."""
        self.file = file
        """Holds a reference."""
        self.mapping = mapping
        self.pgoff = pgoff
        """Page of the mapping at `start`."""
        self.max_prot = max_prot
        self.name = name
        """For /proc/pid/maps: b"[heap]", b"[stack]"."""

    @property
    def shared(self) -> bool:
        return self.flags & MAP_TYPE != MAP_PRIVATE

    def __repr__(self) -> str:
        return f"<Vma {self.start:x}-{self.end:x} {self.prot}>"
