"""The file system types that `mount -t` knows.

Linux: fs/filesystems.c.  A file system registers itself by a decorator on its
mount function:

    @file_system("tmpfs")
    async def mount_tmpfs(kernel, source, options, request) -> SuperBlock: ...

The table is filled at import time only and never changed afterwards, so machines
in one process do not share state through it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from uvm_async.errors import Errno

if TYPE_CHECKING:
    from uvm_async.fs.inode import Inode, SuperBlock
    from uvm_async.kernel.kernel import Kernel

__all__ = [
    "FileSystemType",
    "MountRequest",
    "file_system",
    "file_systems",
    "find_file_system",
    "parse_options",
]


@dataclass(frozen=True, slots=True)
class MountRequest:
    """What else mount(2) was asked."""

    flags: int = 0
    """MS_* of <sys/mount.h>."""
    device: Inode | None = None
    """The block special file named by the source, for types that need a device."""


MountFunction = Callable[
    ["Kernel", bytes, "dict[bytes, bytes]", MountRequest], Awaitable["SuperBlock"]
]


@dataclass(frozen=True, slots=True)
class FileSystemType:
    """One line of /proc/filesystems."""

    name: bytes
    mount: MountFunction
    needs_device: bool
    user_visible: bool
    """May mount(2) name it? Pipes and their like are mounted by the kernel only."""


_TYPES: dict[bytes, FileSystemType] = {}


def file_system(
    name: str, *, needs_device: bool = False, user_visible: bool = True
) -> Callable[[MountFunction], MountFunction]:
    """Register a mount function: `async (kernel, source, options, request) -> SuperBlock`.

    It raises EINVAL for an option it does not know.
    """

    def register(function: MountFunction) -> MountFunction:
        key = name.encode()
        if key in _TYPES:
            raise TypeError(f"file system {name!r} registered twice")
        _TYPES[key] = FileSystemType(key, function, needs_device, user_visible)
        return function

    return register


def find_file_system(name: bytes) -> FileSystemType:
    """Raises ENODEV, as mount(2) does for a type it does not know."""
    found = _TYPES.get(name)
    if found is None:
        raise Errno.ENODEV
    return found


def file_systems() -> list[FileSystemType]:
    """All of them, in order of registration."""
    return list(_TYPES.values())


def parse_options(data: bytes) -> dict[bytes, bytes]:
    """The comma-separated options of mount(2); a bare word has an empty value."""
    options: dict[bytes, bytes] = {}
    for word in data.split(b","):
        if word:
            key, _, value = word.partition(b"=")
            options[key] = value
    return options
