"""mount and umount2. Linux: fs/namespace.c.

The first of these flags that is there says what is asked: MS_REMOUNT (with MS_BIND:
of the mount only), MS_BIND, a propagation type (there is one namespace: accepted,
without effect), MS_MOVE; else a new mount.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.fs.inode import Path
from uvm_async.fs.lifetime import held
from uvm_async.fs.mount import (
    MNT_FLAGS,
    MS_BIND,
    MS_MOVE,
    MS_NOATIME,
    MS_PROPAGATION,
    MS_RDONLY,
    MS_REC,
    MS_RELATIME,
    MS_REMOUNT,
    MS_STRICTATIME,
)
from uvm_async.fs.namei import AT_FDCWD, lookup
from uvm_async.fs.permission import CAP_SYS_ADMIN, capable
from uvm_async.fs.registry import MountRequest, find_file_system, parse_options
from uvm_async.syscalls.table import Addr, Flags, PathPtr, StrPtr, ULong, syscall

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

__all__: list[str] = []

MS_MGC_VAL, MS_MGC_MSK = 0xC0ED0000, 0xFFFF0000
PAGE_BYTES: Final = 4096
MNT_FORCE, MNT_DETACH, MNT_EXPIRE, UMOUNT_NOFOLLOW = 1, 2, 4, 8


@syscall("mount", missing="Shared and slave propagation; remounting with other options.")
async def sys_mount(
    task: Task, dev_name: PathPtr, dir_name: PathPtr, type: StrPtr, flags: ULong, data: Addr
) -> int:
    """Mount a file system, or change a mount. man 2 mount."""
    kind = await task.mm.strndup_user(type, PAGE_BYTES) if type else b""
    source = await task.mm.get_path(dev_name) if dev_name else b""
    options = await task.mm.strndup_user(data, PAGE_BYTES) if data else b""
    if flags & MS_MGC_MSK == MS_MGC_VAL:
        flags &= ~MS_MGC_MSK
    where = await lookup(task, AT_FDCWD, await task.mm.get_path(dir_name))
    async with held(where):
        if not capable(task.cred, CAP_SYS_ADMIN):
            raise Errno.EPERM
        await _mount(task, source, where, kind, flags, options)
    return 0


async def _mount(
    task: Task, source: bytes, where: Path, kind: bytes, flags: int, options: bytes
) -> None:
    mounts = task.kernel.mounts
    if flags & MS_REMOUNT:
        await _remount(where, flags)
    elif flags & MS_BIND:
        what = await lookup(task, AT_FDCWD, source)
        mounts.bind(what, where, recursive=bool(flags & MS_REC))
    elif flags & MS_PROPAGATION:
        if where.dentry is not where.mount.root:
            raise Errno.EINVAL
    elif flags & MS_MOVE:
        what = await lookup(task, AT_FDCWD, source)
        if what.dentry is not what.mount.root:
            raise Errno.EINVAL
        mounts.move(what.mount, where)
    else:
        await _new_mount(task, source, where, kind, flags, options)


async def _remount(where: Path, flags: int) -> None:
    mount = where.mount
    if where.dentry is not mount.root:
        raise Errno.EINVAL
    if not flags & MS_BIND:
        sb = mount.sb
        if flags & MS_RDONLY and not sb.read_only:
            await sb.sync()
        await sb.remount(read_only=bool(flags & MS_RDONLY))
    mount.flags = mount.flags & ~MNT_FLAGS | _mount_flags(flags)


def _mount_flags(flags: int) -> int:
    kept = flags & MNT_FLAGS & ~MS_STRICTATIME
    if flags & MS_STRICTATIME:
        return kept & ~MS_RELATIME | MS_STRICTATIME
    return kept if flags & MS_NOATIME else kept | MS_RELATIME


async def _new_mount(
    task: Task, source: bytes, where: Path, kind: bytes, flags: int, options: bytes
) -> None:
    if not kind:
        raise Errno.EINVAL
    fs_type = find_file_system(kind)
    if not fs_type.user_visible:
        raise Errno.EINVAL
    device = None
    if fs_type.needs_device:
        if not source:
            raise Errno.EINVAL
        device = (await lookup(task, AT_FDCWD, source)).inode
        if not stat.S_ISBLK(device.mode):
            raise Errno.ENOTBLK
    request = MountRequest(flags, device)
    sb = await fs_type.mount(task.kernel, source, parse_options(options), request)
    sb.source = source or b"none"
    try:
        await task.kernel.mounts.attach(sb, where, _mount_flags(flags))
    except Errno:
        if sb not in task.kernel.mounts.super_blocks():
            await sb.umount()
        raise


@syscall("umount2", missing="MNT_FORCE does nothing more; MNT_EXPIRE (EINVAL).")
async def sys_umount2(task: Task, name: PathPtr, flags: Flags) -> int:
    """Unmount a file system. man 2 umount."""
    if flags & ~(MNT_FORCE | MNT_DETACH | UMOUNT_NOFOLLOW):
        raise Errno.EINVAL
    if not capable(task.cred, CAP_SYS_ADMIN):
        raise Errno.EPERM
    path = await task.mm.get_path(name)
    found = await lookup(task, AT_FDCWD, path, follow=not flags & UMOUNT_NOFOLLOW)
    mount = found.mount
    if found.dentry is not mount.root or mount.parent is None:
        raise Errno.EINVAL
    if mount is task.fs.root.mount and found.dentry is task.fs.root.dentry:
        raise Errno.EINVAL
    await task.kernel.mounts.detach(mount, flags)
    return 0
