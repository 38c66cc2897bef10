"""Who may do what to an inode: mode bits, capabilities, sticky directories.

Linux: fs/namei.c (generic_permission, may_delete, check_sticky), fs/attr.c,
include/uapi/linux/capability.h.  Decides from an inode and credentials alone;
read-only mounts are the mount's business (`fs/mount.py`).
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from uvm_async.errors import Errno

if TYPE_CHECKING:
    from uvm_async.fs.inode import Inode

__all__ = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_MKNOD",
    "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT",
    "CAP_SYS_RESOURCE",
    "MAY_EXEC",
    "MAY_READ",
    "MAY_WRITE",
    "FsCred",
    "capable",
    "check_permission",
    "check_sticky",
    "drop_setid_bits",
    "in_group",
    "owner_or_capable",
    "permitted",
]

MAY_EXEC, MAY_WRITE, MAY_READ = 1, 2, 4

CAP_CHOWN = 1 << 0
CAP_DAC_OVERRIDE = 1 << 1
CAP_DAC_READ_SEARCH = 1 << 2
CAP_FOWNER = 1 << 3
CAP_FSETID = 1 << 4
CAP_SYS_CHROOT = 1 << 18
CAP_SYS_ADMIN = 1 << 21
CAP_SYS_RESOURCE = 1 << 24
CAP_MKNOD = 1 << 27


class FsCred(Protocol):
    """What of a task's credentials file systems look at."""

    @property
    def fsuid(self) -> int: ...
    @property
    def fsgid(self) -> int: ...
    @property
    def groups(self) -> Sequence[int]: ...
    @property
    def capabilities(self) -> int: ...


def capable(cred: FsCred, capability: int) -> bool:
    """Does it hold this CAP_* bit?"""
    return bool(cred.capabilities & capability)


def in_group(cred: FsCred, gid: int) -> bool:
    """Is `gid` its group, or one of its supplementary groups?"""
    return cred.fsgid == gid or gid in cred.groups


def permitted(cred: FsCred, inode: Inode, mask: int) -> bool:
    """May it use the inode as `mask` (MAY_READ, MAY_WRITE, MAY_EXEC) says?"""
    mode = inode.mode
    if cred.fsuid == inode.uid:
        granted = mode >> 6
    elif in_group(cred, inode.gid):
        granted = mode >> 3
    else:
        granted = mode
    if not mask & ~granted & 7:
        return True
    caps = cred.capabilities
    if stat.S_ISDIR(mode):
        if not mask & MAY_WRITE and caps & CAP_DAC_READ_SEARCH:
            return True
        return bool(caps & CAP_DAC_OVERRIDE)
    if mask == MAY_READ and caps & CAP_DAC_READ_SEARCH:
        return True
    return bool(caps & CAP_DAC_OVERRIDE) and (not mask & MAY_EXEC or bool(mode & 0o111))


def check_permission(cred: FsCred, inode: Inode, mask: int) -> None:
    """Raises EACCES; EROFS for writing to a file, directory or symlink of a read-only
    file system (devices and FIFOs on it may be written)."""
    if mask & MAY_WRITE and inode.sb.read_only and stat.S_IFMT(inode.mode) in _ON_DISK:
        raise Errno.EROFS
    if not permitted(cred, inode, mask):
        raise Errno.EACCES


_ON_DISK = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)


def owner_or_capable(cred: FsCred, inode: Inode) -> bool:
    """Owner of the inode, or CAP_FOWNER (Linux: inode_owner_or_capable)."""
    return cred.fsuid == inode.uid or capable(cred, CAP_FOWNER)


def check_sticky(cred: FsCred, directory: Inode, victim: Inode) -> None:
    """In a directory with S_ISVTX only owners remove. Raises EPERM."""
    if not directory.mode & stat.S_ISVTX:
        return
    if cred.fsuid in (victim.uid, directory.uid) or capable(cred, CAP_FOWNER):
        return
    raise Errno.EPERM


def drop_setid_bits(inode: Inode, cred: FsCred) -> int | None:
    """The permission bits after a write by `cred`, or None where they do not change
    (Linux: file_remove_privs)."""
    mode = inode.mode
    if not mode & (stat.S_ISUID | stat.S_ISGID) or not stat.S_ISREG(mode):
        return None
    if capable(cred, CAP_FSETID):
        return None
    kept = mode & ~stat.S_ISUID
    if mode & stat.S_IXGRP or not in_group(cred, inode.gid):
        kept &= ~stat.S_ISGID
    return None if kept == mode else stat.S_IMODE(kept)
