"""devfs: a tmpfs in which devices appear by themselves.

Linux: drivers/base/devtmpfs.c.  A machine has one, whose nodes are made when a
device is registered (`register_device`); every mount of the type shows it.  As in
Linux the nodes are ordinary: a guest may remove or add to them, and what stands
behind a number is the `DeviceTable`'s business.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, ClassVar, Final

from uvm_async.fs.chardev import MEMORY_DEVICES, register_memory_devices
from uvm_async.fs.dcache import d_add
from uvm_async.fs.registry import MountRequest, file_system
from uvm_async.fs.tmpfs.super import TmpfsSuperBlock

if TYPE_CHECKING:
    from uvm_async.fs.devices import Device
    from uvm_async.fs.inode import SuperBlock
    from uvm_async.kernel.kernel import Kernel

__all__ = ["DevSuperBlock", "devfs", "register_device"]

LINKS: Final = (
    (b"fd", b"/proc/self/fd"),
    (b"stdin", b"/proc/self/fd/0"),
    (b"stdout", b"/proc/self/fd/1"),
    (b"stderr", b"/proc/self/fd/2"),
)
DIRECTORIES: Final = ((b"shm", 0o1777), (b"pts", 0o755))
"""Mount points."""
RW_BY_ALL: Final = stat.S_IFCHR | 0o666


class DevSuperBlock(TmpfsSuperBlock):
    """The machine's devices by name."""

    fs_type: ClassVar[bytes] = b"devtmpfs"

    def __init__(self, kernel: Kernel, dev: int) -> None:
        super().__init__(kernel, dev, mode=0o755)
        self.source = b"devtmpfs"

    async def umount(self) -> None:
        """It lives as long as the machine."""


async def devfs(kernel: Kernel) -> DevSuperBlock:
    """The machine's only one, made with what every machine has at first use."""
    mount = kernel.mounts.internal.get(DevSuperBlock.fs_type)
    if mount is not None:
        assert isinstance(mount.sb, DevSuperBlock)
        return mount.sb
    sb = DevSuperBlock(kernel, kernel.next_anon_dev())
    kernel.mounts.attach_internal(sb)
    root = sb.root
    register_memory_devices(kernel.mounts.devices)
    for name, rdev, _ in MEMORY_DEVICES:
        await root.create(name, RW_BY_ALL, 0, 0, rdev)
    for name, target in LINKS:
        await root.symlink(name, target, 0, 0)
    for name, mode in DIRECTORIES:
        await root.mkdir(name, stat.S_IFDIR | mode, 0, 0)
    return sb


async def register_device(
    kernel: Kernel, name: bytes, mode: int, rdev: int, opener: Device, *, gid: int = 0
) -> None:
    """A device appears: `opener` stands behind `rdev` (as `os.makedev` gives it), and the node
    /dev/`name` is made. `mode` has S_IFCHR or S_IFBLK and the permission bits."""
    kernel.mounts.devices.register(stat.S_IFMT(mode), rdev, opener)
    root = (await devfs(kernel)).root
    if name not in root.entries:
        inode = await root.create(name, mode, 0, gid, rdev)
        d_add(kernel.mounts.root_dentry(root.sb), name, inode)


@file_system("devtmpfs")
async def mount_devtmpfs(
    kernel: Kernel, source: bytes, options: dict[bytes, bytes], request: MountRequest
) -> SuperBlock:
    """Options are tmpfs's and change nothing: it is there already."""
    return await devfs(kernel)
