"""The calls by which a writable hostfs changes the host. All may block; all raise OSError.

Linux: openat(2), fchmodat(2), utimensat(2), renameat2(2) and their like.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

from uvm_async.fs.hostfs.hostcalls import Access, HostFd

__all__ = [
    "change_mode",
    "change_owner",
    "change_times",
    "create_file",
    "make_directory",
    "make_link",
    "make_symlink",
    "move",
    "preallocate",
    "remove_directory",
    "remove_name",
    "set_size",
    "sync_place",
    "write_all",
]

RENAME_EXCHANGE: Final = 2
SYS_RENAMEAT2: Final = 316
SYS_UTIMENSAT: Final = 280
SYS_FCHOWNAT: Final = 260
AT_EMPTY_PATH: Final = 0x1000
UTIME_OMIT: Final = (1 << 30) - 2

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long


def _check(result: int) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def create_file(place: HostFd, name: bytes, mode: int, uid: int, gid: int) -> HostFd:
    """A new regular file, open for reading and writing."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = HostFd(os.open(name, flags, 0o600, dir_fd=place.fd), Access.WRITE)
    _own(fd.fd, uid, gid)
    os.fchmod(fd.fd, mode)
    return fd


def make_directory(place: HostFd, name: bytes, mode: int, uid: int, gid: int) -> None:
    """A new directory."""
    os.mkdir(name, 0o700, dir_fd=place.fd)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = HostFd(os.open(name, flags, dir_fd=place.fd), Access.READ)
    _own(fd.fd, uid, gid)
    os.fchmod(fd.fd, mode)


def make_symlink(place: HostFd, name: bytes, target: bytes, uid: int, gid: int) -> None:
    """A new symlink."""
    os.symlink(target, name, dir_fd=place.fd)
    if os.geteuid() == 0:
        os.chown(name, uid, gid, dir_fd=place.fd, follow_symlinks=False)


def _own(fd: int, uid: int, gid: int) -> None:
    """Only root can give away what it made; an ordinary user's is the user's already."""
    if os.geteuid() == 0:
        os.fchown(fd, uid, gid)


def make_link(source: HostFd, old: bytes, place: HostFd, new: bytes) -> None:
    """A further name."""
    os.link(old, new, src_dir_fd=source.fd, dst_dir_fd=place.fd, follow_symlinks=False)


def move(source: HostFd, old: bytes, place: HostFd, new: bytes, exchange: bool) -> None:
    """rename(2), or two names that change places."""
    if exchange:
        _check(_LIBC.syscall(SYS_RENAMEAT2, source.fd, old, place.fd, new, RENAME_EXCHANGE))
    else:
        os.rename(old, new, src_dir_fd=source.fd, dst_dir_fd=place.fd)


def remove_name(place: HostFd, name: bytes) -> None:
    """unlink(2)."""
    os.unlink(name, dir_fd=place.fd)


def remove_directory(place: HostFd, name: bytes) -> None:
    """rmdir(2)."""
    os.rmdir(name, dir_fd=place.fd)


def set_size(fd: HostFd, size: int) -> None:
    """ftruncate(2)."""
    os.ftruncate(fd.fd, size)


def preallocate(fd: HostFd, offset: int, length: int) -> None:
    """fallocate(2), the plain kind."""
    os.posix_fallocate(fd.fd, offset, length)


def change_mode(place: HostFd, mode: int) -> None:
    """Of anything but a symlink."""
    os.chmod(b"/proc/self/fd/%d" % place.fd, mode)


def change_owner(place: HostFd, uid: int, gid: int) -> None:
    """Of anything; -1 leaves one as it is."""
    owner = (ctypes.c_int(uid), ctypes.c_int(gid))
    _check(_LIBC.syscall(SYS_FCHOWNAT, place.fd, b"", *owner, AT_EMPTY_PATH))


def change_times(place: HostFd, atime_ns: int | None, mtime_ns: int | None) -> None:
    """Of anything; None leaves one as it is."""
    times = (ctypes.c_long * 4)()
    for at, time_ns in enumerate((atime_ns, mtime_ns)):
        seconds, ns = (0, UTIME_OMIT) if time_ns is None else divmod(time_ns, 1_000_000_000)
        times[2 * at], times[2 * at + 1] = seconds, ns
    _check(_LIBC.syscall(SYS_UTIMENSAT, place.fd, b"", times, AT_EMPTY_PATH))


def sync_place(place: HostFd, data_only: bool) -> None:
    """fsync(2) or fdatasync(2) of a file or directory."""
    fd = HostFd(os.open(b"/proc/self/fd/%d" % place.fd, os.O_RDONLY | os.O_CLOEXEC), Access.READ)
    if data_only:
        os.fdatasync(fd.fd)
    else:
        os.fsync(fd.fd)


def write_all(fd: HostFd, data: bytes, offset: int) -> os.stat_result:
    """Store `data`; answers the file's attributes after it."""
    view = memoryview(data)
    while view:
        put = os.pwrite(fd.fd, view, offset)
        view, offset = view[put:], offset + put
    return os.fstat(fd.fd)
