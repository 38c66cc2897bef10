"""Opening what is neither file nor directory: FIFOs, devices, sockets.

Linux: fs/inode.c (init_special_inode).
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from uvm_async.errors import Errno
from uvm_async.fs.pipe import open_fifo

if TYPE_CHECKING:
    from uvm_async.fs.devices import Device
    from uvm_async.fs.inode import File, Path
    from uvm_async.kernel.task import Task

__all__ = ["open_special"]


async def open_special(task: Task, path: Path, flags: int) -> File:
    """Raises ENXIO (a socket, no such device, a FIFO nobody reads), EINTR."""
    inode = path.inode
    if stat.S_ISFIFO(inode.mode):
        return await open_fifo(task, path, flags)
    if stat.S_ISCHR(inode.mode) or stat.S_ISBLK(inode.mode):
        device: Device = task.kernel.mounts.devices.find(inode.mode, inode.rdev)
        return await device.open_node(task, path, flags)
    raise Errno.ENXIO
