"""Files of memory without a name: memfd_create(2), shared anonymous memory.

Linux: mm/memfd.c, mm/shmem.c (shmem_file_setup).  A tmpfs inode on a tmpfs that is
mounted nowhere; it ends with its last file or mapping.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

from uvm_async.fs.anon import internal_mount, pseudo_path
from uvm_async.fs.file import RegularFile
from uvm_async.fs.tmpfs.inode import F_SEAL_SEAL, TmpfsFile
from uvm_async.fs.tmpfs.super import TmpfsSuperBlock

if TYPE_CHECKING:
    from uvm_async.kernel.kernel import Kernel
    from uvm_async.kernel.task import Task

__all__ = ["create_memfd", "create_shmem_file"]

O_RDWR: Final = 2
O_LARGEFILE: Final = 0o100000
F_SEAL_EXEC: Final = 0x20


def create_shmem_file(
    kernel: Kernel, name: bytes, size: int, *, mode: int = 0o777, uid: int = 0, gid: int = 0
) -> RegularFile:
    """An open file of `size` zero bytes; /proc shows it as `/name (deleted)`."""
    mount = internal_mount(kernel, TmpfsSuperBlock)
    assert isinstance(mount.sb, TmpfsSuperBlock)
    inode = mount.sb.new_inode(stat.S_IFREG | mode, uid, gid)
    inode.nlink = 0
    inode.size = size
    path = pseudo_path(mount, inode, b"/" + name + b" (deleted)")
    return RegularFile(path, O_RDWR | O_LARGEFILE)


def create_memfd(task: Task, name: bytes, *, sealing: bool, executable: bool) -> RegularFile:
    """memfd_create(2)."""
    file = create_shmem_file(
        task.kernel,
        b"memfd:" + name,
        0,
        mode=0o777 if executable else 0o666,
        uid=task.cred.fsuid,
        gid=task.cred.fsgid,
    )
    inode = file.inode
    assert isinstance(inode, TmpfsFile)
    if sealing or not executable:
        inode.seals = 0 if executable else F_SEAL_EXEC
    else:
        inode.seals = F_SEAL_SEAL
    return file
