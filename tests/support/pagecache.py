"""A page cache of plain bytes, for file systems tested without physmem.

It asks of an inode what mm/filemap.py asks, in the same order.
"""

from __future__ import annotations

from typing import Any

import pytest

from uvm_async.errors import Errno
from uvm_async.state import Entity

PAGE = 4096
CHUNK = 65536


class PlainMapping(Entity):
    """Pages by index, and which are dirty."""

    def __init__(self, host: Any, frames: Any) -> None:
        self.host = host
        self.pages: dict[int, bytearray] = {}
        self.dirty: dict[int, None] = {}

    async def page(self, index: int) -> bytearray:
        if index not in self.pages:
            data = await self.host.read_pages(index, 1)
            self.pages.setdefault(index, bytearray((data or b"").ljust(PAGE, b"\0")))
        return self.pages[index]

    def drop_clean(self, want: int) -> None:
        """What reclaim does."""
        for index in [index for index in self.pages if index not in self.dirty]:
            del self.pages[index]

    def drop_all(self) -> None:
        """The inode ends."""
        self.pages.clear()
        self.dirty.clear()


async def write(mapping: PlainMapping, it: Any, pos: int) -> int:
    done = 0
    while it.count:
        try:
            allowed = await mapping.host.prepare_write(pos, min(it.count, CHUNK))
        except Errno:
            if done:
                return done
            raise
        data = await it.copy_from(allowed)
        at = 0
        while at < len(data):
            index, offset = divmod(pos + at, PAGE)
            step = min(PAGE - offset, len(data) - at)
            page = await mapping.page(index)
            page[offset : offset + step] = data[at : at + step]
            mapping.dirty[index] = None
            at += step
        pos += len(data)
        done += len(data)
        mapping.host.size = max(mapping.host.size, pos)
    return done


async def read(mapping: PlainMapping, it: Any, pos: int) -> int:
    done = 0
    while it.count and pos < mapping.host.size:
        index, offset = divmod(pos, PAGE)
        step = min(PAGE - offset, it.count, mapping.host.size - pos)
        page = await mapping.page(index)
        await it.copy_to(bytes(page[offset : offset + step]))
        pos += step
        done += step
    return done


async def truncate(mapping: PlainMapping, size: int) -> None:
    for index in [index for index in mapping.pages if index * PAGE >= size]:
        del mapping.pages[index]
        mapping.dirty.pop(index, None)
    index, offset = divmod(size, PAGE)
    if offset and index in mapping.pages:
        mapping.pages[index][offset:] = bytes(PAGE - offset)
        mapping.dirty[index] = None


async def fsync(mapping: PlainMapping) -> None:
    for index in sorted(mapping.dirty):
        if mapping.dirty.pop(index, mapping) is None:
            try:
                await mapping.host.write_pages(index, bytes(mapping.pages[index]))
            except Errno:
                mapping.dirty[index] = None
                raise


def install(patch: pytest.MonkeyPatch) -> None:
    """Let ext2 use it instead of the machine's."""
    from uvm_async.fs.ext2 import file, namei, superblock

    patch.setattr(file, "AddressSpace", PlainMapping)
    patch.setattr(file, "truncate_pages", truncate)
    for module in (file, namei, superblock):
        patch.setattr(module, "filemap_fsync", fsync)
