"""What memory management needs of a file: the address_space protocol.

Linux: struct address_space_operations.  Declared here, below the file systems,
which implement it; the page cache itself is `mm/filemap.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from uvm_async.mm.filemap import AddressSpace

__all__ = ["BackingStore", "Mappable"]


class BackingStore(Protocol):
    """The inode behind a page cache. All sizes in bytes, indices in pages."""

    size: int
    writers: int
    """Files open on it for writing; negative while programs are executed from it."""

    async def read_pages(self, index: int, count: int) -> bytes | None:
        """Contents of `count` pages from page `index`; short at the end of the file is
        filled with zeros by the caller; None means all zeros (a hole, or tmpfs).
        Raises EIO."""

    async def prepare_write(self, pos: int, length: int) -> int:
        """Make room (blocks, quota) for bytes [pos, pos + length); answers how many of them may
        be written (> 0). Raises ENOSPC, EFBIG."""

    def mapped_write(self) -> None:
        """A guest begins to write through a shared mapping: times change."""

    async def write_pages(self, index: int, data: bytes) -> None:
        """Write back whole pages (the last may be cut at `size`). Raises EIO, ENOSPC."""

    @property
    def evictable(self) -> bool:
        """May clean pages be dropped? False where the cache is the only copy (tmpfs)."""


class Mappable(Protocol):
    """What a vma holds of an open file: one of its references."""

    refs: int

    async def put(self) -> None:
        """One reference less; the last one releases the file."""

    @property
    def mapping(self) -> AddressSpace | None:
        """The page cache to map, or None where the file cannot be mapped (ENODEV)."""
