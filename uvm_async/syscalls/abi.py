"""Structures that pass between guest and kernel, as the x86-64 ABI lays them out.

Each is declared here once; `tests/fs/test_abi.py` holds size and offsets against
the C headers.  `*_FIELDS` name the members in the order of the struct's values.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

__all__ = [
    "DIRENT",
    "DIRENT64",
    "EPOLL_EVENT",
    "FLOCK",
    "F_OWNER_EX",
    "INT",
    "IOVEC",
    "LAYOUTS",
    "OFF",
    "OPEN_HOW",
    "POLLFD",
    "SIGSET_ARG",
    "STAT",
    "STATFS",
    "STATX",
    "TIMESPEC",
    "TIMEVAL",
    "UTIMBUF",
]

INT: Final = Struct("<i")
OFF: Final = Struct("<q")
TIMESPEC: Final = Struct("<qq")
TIMEVAL: Final = Struct("<qq")
UTIMBUF: Final = Struct("<qq")
IOVEC: Final = Struct("<QQ")
POLLFD: Final = Struct("<ihh")
EPOLL_EVENT: Final = Struct("<IQ")
"""Packed on x86-64."""
FLOCK: Final = Struct("<hh4xqqi4x")
F_OWNER_EX: Final = Struct("<ii")
OPEN_HOW: Final = Struct("<QQQ")
SIGSET_ARG: Final = Struct("<QQ")
"""The sixth argument of pselect6: (address, size) of a signal set."""

STAT: Final = Struct("<QQQIII4xQqqqqQqQqQ24x")
"""st_dev, st_ino, st_nlink, st_mode, st_uid, st_gid, st_rdev, st_size, st_blksize, st_blocks,
then seconds and nanoseconds of st_atim, st_mtim, st_ctim."""

STATFS: Final = Struct("<qqQQQQQiiqqq32x")
"""f_type, f_bsize, f_blocks, f_bfree, f_bavail, f_files, f_ffree, f_fsid (two), f_namelen,
f_frsize, f_flags."""

STATX: Final = Struct("<IIQIIIH2xQQQQqI4xqI4xqI4xqI4xIIIIQ104x")
"""stx_mask, stx_blksize, stx_attributes, stx_nlink, stx_uid, stx_gid, stx_mode, stx_ino, stx_size,
stx_blocks, stx_attributes_mask, then seconds and nanoseconds of atime, btime, ctime and mtime,
stx_rdev_major, stx_rdev_minor, stx_dev_major, stx_dev_minor, stx_mnt_id."""

DIRENT64: Final = Struct("<QqHB")
"""d_ino, d_off, d_reclen, d_type; the name follows at byte 19."""

DIRENT: Final = Struct("<QqH")
"""d_ino, d_off, d_reclen; the name follows at byte 18, d_type is the record's last byte."""

LAYOUTS: Final[dict[str, tuple[str, Struct, tuple[str, ...]]]] = {
    "struct stat": (
        "sys/stat.h",
        STAT,
        (
            "st_dev",
            "st_ino",
            "st_nlink",
            "st_mode",
            "st_uid",
            "st_gid",
            "st_rdev",
            "st_size",
            "st_blksize",
            "st_blocks",
            "st_atim.tv_sec",
            "st_atim.tv_nsec",
            "st_mtim.tv_sec",
            "st_mtim.tv_nsec",
            "st_ctim.tv_sec",
            "st_ctim.tv_nsec",
        ),
    ),
    "struct statfs": (
        "sys/vfs.h",
        STATFS,
        (
            "f_type",
            "f_bsize",
            "f_blocks",
            "f_bfree",
            "f_bavail",
            "f_files",
            "f_ffree",
            "f_fsid.__val[0]",
            "f_fsid.__val[1]",
            "f_namelen",
            "f_frsize",
            "f_flags",
        ),
    ),
    "struct statx": (
        "linux/stat.h",
        STATX,
        (
            "stx_mask",
            "stx_blksize",
            "stx_attributes",
            "stx_nlink",
            "stx_uid",
            "stx_gid",
            "stx_mode",
            "stx_ino",
            "stx_size",
            "stx_blocks",
            "stx_attributes_mask",
            "stx_atime.tv_sec",
            "stx_atime.tv_nsec",
            "stx_btime.tv_sec",
            "stx_btime.tv_nsec",
            "stx_ctime.tv_sec",
            "stx_ctime.tv_nsec",
            "stx_mtime.tv_sec",
            "stx_mtime.tv_nsec",
            "stx_rdev_major",
            "stx_rdev_minor",
            "stx_dev_major",
            "stx_dev_minor",
            "stx_mnt_id",
        ),
    ),
    "struct iovec": ("sys/uio.h", IOVEC, ("iov_base", "iov_len")),
    "struct pollfd": ("poll.h", POLLFD, ("fd", "events", "revents")),
    "struct epoll_event": ("sys/epoll.h", EPOLL_EVENT, ("events", "data")),
    "struct flock": (
        "fcntl.h",
        FLOCK,
        ("l_type", "l_whence", "l_start", "l_len", "l_pid"),
    ),
    "struct f_owner_ex": ("fcntl.h", F_OWNER_EX, ("type", "pid")),
    "struct open_how": ("linux/openat2.h", OPEN_HOW, ("flags", "mode", "resolve")),
    "struct timespec": ("time.h", TIMESPEC, ("tv_sec", "tv_nsec")),
    "struct timeval": ("sys/time.h", TIMEVAL, ("tv_sec", "tv_usec")),
    "struct utimbuf": ("utime.h", UTIMBUF, ("actime", "modtime")),
}
"""C name to (header, struct, members in the order of the struct's values)."""
