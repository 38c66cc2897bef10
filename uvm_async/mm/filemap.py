"""The page cache: file contents in frames of physmem, shared by read, write and mmap.

Linux: mm/filemap.c, mm/truncate.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.mm.frames import Frames
    from uvm_async.mm.iov import IovIter
    from uvm_async.mm.mapping import BackingStore

__all__ = ["AddressSpace", "filemap_fsync", "filemap_read", "filemap_write", "truncate_pages"]


class AddressSpace(Entity):
    """The cached pages of one inode (Linux: struct address_space)."""

    def __init__(self, host: BackingStore, frames: Frames) -> None: ...


async def filemap_read(mapping: AddressSpace, it: IovIter, pos: int) -> int:
    """Read from byte `pos` up to the end of the file; answers bytes read. Raises EIO, EFAULT."""
    raise AssertionError("being written")


async def filemap_write(mapping: AddressSpace, it: IovIter, pos: int) -> int:
    """Write at byte `pos`, growing the file: `host.prepare_write(pos, n)` is awaited first for each
    chunk (may raise ENOSPC; may shorten: answers bytes it allows), `host.size` grows as bytes
    arrive, pages become dirty. Answers bytes written."""
    raise AssertionError("being written")


def truncate_pages(mapping: AddressSpace, size: int) -> None:
    """The file ends at byte `size` now: drop pages beyond, zero the tail, unmap from guests."""
    raise AssertionError("being written")


async def filemap_fsync(mapping: AddressSpace) -> None:
    """Write back every dirty page through `host.write_pages`. Raises EIO."""
    raise AssertionError("being written")
