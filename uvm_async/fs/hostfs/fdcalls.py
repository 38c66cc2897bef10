"""The calls to the host that an inherited file makes: on a descriptor, not on a name.

All are plain `def`, none knows of the kernel; all raise OSError, but for `read_cached` and
`never_waits`. Those that may block are run by the machine's workers.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
from typing import Final, Protocol

from uvm_async.fs.hostfs.hostcalls import Access, HostFd

__all__ = [
    "OWN",
    "Handle",
    "never_waits",
    "preallocate",
    "read",
    "read_cached",
    "reopen",
    "seek",
    "set_mode",
    "set_size",
    "set_times",
    "status",
    "sync",
    "write",
    "write_mapped",
]

OWN: Final = -1
"""An offset: wherever the descriptor itself stands."""


class Handle(Protocol):
    """What has a descriptor."""

    fd: int


def read_cached(handle: Handle, count: int, offset: int) -> bytes | None:
    """What the host has in memory, at most `count` bytes; None if it would have to wait."""
    data = bytearray(count)
    try:
        got = os.preadv(handle.fd, [data], offset, os.RWF_NOWAIT)
    except OSError:
        return None
    return bytes(data[:got])


def read(handle: Handle, count: int, offset: int) -> bytes:
    """May block."""
    return os.read(handle.fd, count) if offset == OWN else os.pread(handle.fd, count, offset)


def write(handle: Handle, data: bytes, offset: int) -> int:
    """May block."""
    return os.write(handle.fd, data) if offset == OWN else os.pwrite(handle.fd, data, offset)


def write_mapped(handle: Handle, data: bytes, offset: int) -> os.stat_result:
    """pwrite(2) of all of it, also where the descriptor is for appending. May block."""
    if fcntl.fcntl(handle.fd, fcntl.F_GETFL) & os.O_APPEND:
        handle = reopen(handle, os.O_WRONLY)
    view = memoryview(data)
    while view:
        done = os.pwrite(handle.fd, view, offset)
        view, offset = view[done:], offset + done
    return os.fstat(handle.fd)


def reopen(handle: Handle, flags: int) -> HostFd:
    """The same file, opened once more. May block."""
    flags |= os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    return HostFd(os.open(b"/proc/self/fd/%d" % handle.fd, flags), Access.WRITE)


def status(handle: Handle) -> os.stat_result:
    return os.fstat(handle.fd)


def seek(handle: Handle, offset: int, whence: int) -> int:
    return os.lseek(handle.fd, offset, whence)


def set_size(handle: Handle, size: int) -> None:
    os.ftruncate(handle.fd, size)


def preallocate(handle: Handle, offset: int, length: int) -> None:
    os.posix_fallocate(handle.fd, offset, length)


def set_mode(handle: Handle, mode: int) -> None:
    os.fchmod(handle.fd, mode)


def set_times(handle: Handle, atime_ns: int, mtime_ns: int) -> None:
    os.utime(handle.fd, ns=(atime_ns, mtime_ns))


def sync(handle: Handle, data_only: bool) -> None:
    if data_only:
        os.fdatasync(handle.fd)
    else:
        os.fsync(handle.fd)


def never_waits(fd: int) -> bool:
    """Is `fd` for `inherit`: a regular file, or what there is no waiting for?"""
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return True
        with select.epoll() as epoll:
            epoll.register(fd, select.EPOLLIN)
    except PermissionError:
        return True
    except OSError:
        return False
    return False
