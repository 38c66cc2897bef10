"""Which driver stands behind a device number.

Linux: fs/char_dev.c, block/bdev.c.  Special files of any file system (`mknod`)
lead here when they are opened; devfs registers what the machine has.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any, Protocol

from uvm_async.errors import Errno
from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.fs.inode import File, Path
    from uvm_async.kernel.task import Task

__all__ = ["Device", "DeviceTable"]


class Device(Protocol):
    """A driver; an Entity, because it is part of the machine's state."""

    async def open_node(self, task: Task, path: Path, flags: int) -> File:
        """A special file of this device is opened. Raises ENXIO, EROFS, EBUSY."""


class DeviceTable(Entity):
    """Drivers by kind (S_IFCHR, S_IFBLK) and number (as `st_rdev` has it)."""

    def __init__(self) -> None:
        self.drivers: dict[tuple[int, int], Device] = {}

    def register(self, kind: int, rdev: int, device: Device) -> None:
        """A device appears."""
        self.drivers[kind, rdev] = device

    def block_devices(self) -> list[Any]:
        """Drivers of block devices, in order of registration."""
        return [d for (kind, _), d in self.drivers.items() if kind == stat.S_IFBLK]

    def find(self, mode: int, rdev: int) -> Device:
        """Raises ENXIO where there is no such device."""
        device = self.drivers.get((stat.S_IFMT(mode), rdev))
        if device is None:
            raise Errno.ENXIO
        return device
