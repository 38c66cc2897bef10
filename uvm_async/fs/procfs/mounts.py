"""procfs: /proc/PID/mounts, mountinfo and mountstats. Linux: fs/proc_namespace.c."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from uvm_async.fs.dcache import d_absolute
from uvm_async.fs.inode import Path
from uvm_async.fs.mount import (
    MS_NOATIME,
    MS_NODEV,
    MS_NODIRATIME,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_RELATIME,
)

if TYPE_CHECKING:
    from uvm_async.fs.inode import Dentry, Mount
    from uvm_async.kernel.task import Task

__all__ = ["show_mountinfo", "show_mounts", "show_mountstats"]

OPTIONS: Final = (
    (MS_NOSUID, b"nosuid"),
    (MS_NODEV, b"nodev"),
    (MS_NOEXEC, b"noexec"),
    (MS_NOATIME, b"noatime"),
    (MS_NODIRATIME, b"nodiratime"),
    (MS_RELATIME, b"relatime"),
)
ESCAPES: Final = {byte: b"\\%03o" % byte for byte in b" \t\n\\#"}


def _escape(text: bytes) -> bytes:
    return b"".join(ESCAPES.get(byte) or bytes((byte,)) for byte in text)


def _options(mount: Mount) -> bytes:
    words = [b"ro" if mount.flags & MS_RDONLY else b"rw"]
    words += [word for flag, word in OPTIONS if mount.flags & flag]
    return b",".join(words)


def _super_options(mount: Mount) -> bytes:
    return b"ro" if mount.sb.read_only else b"rw"


def _seen(task: Task) -> list[tuple[Mount, bytes]]:
    """Mounts below the task's root, and where they stand."""
    root = task.fs.root
    found: list[tuple[Mount, bytes]] = []
    for mount in task.kernel.mounts.mounts:
        where, reachable = d_absolute(root, Path(mount, mount.root))
        if reachable:
            found.append((mount, where))
    return found


def _root_within(mount: Mount) -> bytes:
    """Which part of its file system a mount shows."""
    names: list[bytes] = []
    dentry: Dentry = mount.root
    while dentry.parent is not None:
        names.append(dentry.name)
        dentry = dentry.parent
    return b"/" + b"/".join(reversed(names))


def show_mounts(task: Task) -> bytes:
    """fstab(5)'s format."""
    lines: list[bytes] = []
    for mount, where in _seen(task):
        words = _options(mount)
        if mount.sb.read_only and words.startswith(b"rw"):
            words = b"ro" + words[2:]
        lines.append(
            b"%s %s %s %s 0 0\n"
            % (_escape(mount.sb.source), _escape(where), mount.sb.fs_type, words)
        )
    return b"".join(lines)


def show_mountinfo(task: Task) -> bytes:
    """proc_pid_mountinfo(5)."""
    lines: list[bytes] = []
    for mount, where in _seen(task):
        lines.append(
            b"%d %d %d:%d %s %s %s - %s %s %s\n"
            % (
                mount.ident,
                mount.parent.ident if mount.parent is not None else 1,
                os.major(mount.sb.dev),
                os.minor(mount.sb.dev),
                _escape(_root_within(mount)),
                _escape(where),
                _options(mount),
                mount.sb.fs_type,
                _escape(mount.sb.source),
                _super_options(mount),
            )
        )
    return b"".join(lines)


def show_mountstats(task: Task) -> bytes:
    """proc_pid_mountstats(5), without statistics."""
    return b"".join(
        b"device %s mounted on %s with fstype %s\n"
        % (_escape(mount.sb.source), _escape(where), mount.sb.fs_type)
        for mount, where in _seen(task)
    )
