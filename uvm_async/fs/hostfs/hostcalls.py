"""The calls to the host that hostfs makes: all plain `def`, none knows of the kernel.

What may block is run by the machine's workers; what cannot is called inline:
- `open_cached`: openat2(2) with RESOLVE_CACHED answers from the host's dentry cache or not at
  all, and with RESOLVE_NO_XDEV never enters another mount;
- `read_cached`: preadv2(2) with RWF_NOWAIT answers from the host's page cache or not at all.

A descriptor is a `HostFd`: closed when the last reference to it is gone. Functions take the object,
never its number: a call that was given up half-way leaves nothing open, and a worker that is still
at it keeps what it uses.
"""

from __future__ import annotations

import ctypes
import enum
import errno
import os
import stat
import struct
from dataclasses import dataclass
from typing import Final

__all__ = [
    "Access",
    "Found",
    "HostFd",
    "Listed",
    "Reach",
    "attributes",
    "figures",
    "find",
    "find_cached",
    "list_directory",
    "open_root",
    "open_steps",
    "read_cached",
    "read_exactly",
    "read_link",
    "reopen",
]

SYS_OPENAT2: Final = 437
RESOLVE_NO_XDEV, RESOLVE_CACHED = 0x01, 0x20
PLACE: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
HOW: Final = struct.pack("=QQQ", PLACE, 0, RESOLVE_NO_XDEV | RESOLVE_CACHED)
"""struct open_how."""

_LIBC: Final = ctypes.PyDLL(None, use_errno=True)
"""PyDLL: the calls made through it do not block, so the interpreter's lock is kept."""
_LIBC.syscall.restype = ctypes.c_long

AUTOFS: Final = 0x0187
MEMORY: Final = frozenset({0x01021994, 0x858458F6})  # tmpfs, ramfs
LOCAL: Final = frozenset(
    {
        0xEF53,  # ext2, ext3, ext4
        0x58465342,  # xfs
        0x9123683E,  # btrfs
        0xF2F52010,  # f2fs
        0x2FC12FC1,  # zfs
        0xCA451A4E,  # bcachefs
        0x794C7630,  # overlay
        0x73717368,  # squashfs
        0xE0F5E1E2,  # erofs
        0x9660,  # iso9660
        0x4D44,  # vfat
        0x2011BAB0,  # exfat
        0x3153464A,  # jfs
        0x52654973,  # reiserfs
    }
)
"""f_type of file systems whose stat(2) does not wait for anybody else's machine or process."""

PSEUDO: Final = frozenset(
    {
        0x9FA0,  # proc
        0x62656572,  # sysfs
        0x27E0EB,  # cgroup
        0x63677270,  # cgroup2
        0x1CD1,  # devpts
        0x64626720,  # debugfs
        0x73636673,  # securityfs
        0x74726163,  # tracefs
        0xCAFE4A11,  # bpf
        0x6165676C,  # pstore
        0xDE5E81E4,  # efivarfs
        0x62656570,  # configfs
        0x65735543,  # fusectl
        0x19800202,  # mqueue
        0x958458F6,  # hugetlbfs
        0x42494E4D,  # binfmt_misc
        0x67596969,  # rpc_pipefs
        0x6E736673,  # nsfs
        0xF97CFF8C,  # selinuxfs
        0x43415D53,  # smackfs
        0x7655821,  # resctrl
        0x6C6F6F70,  # binderfs
        0xABBA1974,  # xenfs
        0x50494446,  # pidfs
        0x09041934,  # anon_inodefs
        0x50495045,  # pipefs
        0x534F434B,  # sockfs
    }
)
"""f_type of file systems that show the host's kernel. devtmpfs calls itself tmpfs: see `_reach`."""


class Access(enum.IntEnum):
    """What a descriptor is good for; more includes less."""

    PLACE = 0
    READ = 1
    WRITE = 2


class Reach(enum.IntEnum):
    """What may be asked inline of the file system that an inode is on."""

    HIDDEN = 0
    """Nothing: it is not shown to guests."""
    REMOTE = 1
    """Nothing: it may wait for a network or a process."""
    LOCAL = 2
    """Attributes, what is cached."""
    MEMORY = 3
    """Everything: it is in the host's memory."""


class HostFd:
    """A host descriptor, closed with the last reference. Never state."""

    __slots__ = ("access", "fd")

    def __init__(self, fd: int, access: Access) -> None:
        self.fd = fd
        self.access = access

    def close(self) -> None:
        """Close it now, whoever still holds it."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


@dataclass(slots=True)
class Found:
    """A place on the host."""

    fd: HostFd
    status: os.stat_result
    reach: Reach


@dataclass(slots=True)
class Listed:
    """An entry of a host directory."""

    name: bytes
    ino: int
    kind: int
    """S_IFMT."""


def _fs_magic(fd: int) -> int:
    """`f_type` of fstatfs(2)."""
    buffer = ctypes.create_string_buffer(256)
    if _LIBC.fstatfs(fd, buffer) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int.from_bytes(buffer.raw[:8], "little")


def _is_devtmpfs(fd: int) -> bool:
    """Is it on the mount of devtmpfs, whose f_type is tmpfs's? By its /dev/null, and only there
    can a device node be: a tmpfs mounted by an ordinary user has none."""
    status = os.fstat(fd)
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            device = b"%d:%d" % (os.major(status.st_dev), os.minor(status.st_dev))
            return any(
                b" - devtmpfs " in line and line.split(None, 3)[2] == device for line in file
            )
    except OSError:
        return os.path.samestat(status, os.stat("/dev"))


def _reach(fd: int) -> Reach:
    magic = _fs_magic(fd)
    if magic in PSEUDO:
        return Reach.HIDDEN
    if magic in MEMORY:
        return Reach.HIDDEN if _is_devtmpfs(fd) else Reach.MEMORY
    return Reach.LOCAL if magic in LOCAL else Reach.REMOTE


def open_root(path: bytes) -> Found:
    """The directory at `path`, symlinks followed."""
    fd = HostFd(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), Access.PLACE)
    return Found(fd, os.fstat(fd.fd), _reach(fd.fd))


def find_cached(parent: HostFd, name: bytes, reach: Reach) -> Found | None:
    """An entry of a directory on a local file system, if the host need not wait to tell.

    Raises OSError as openat(2) does, of which ENOSYS and EPERM mean that the host has no openat2.
    """
    fd: int = _LIBC.syscall(SYS_OPENAT2, parent.fd, name, HOW, len(HOW))
    if fd < 0:
        code = ctypes.get_errno()
        if code in (errno.EAGAIN, errno.EXDEV):
            return None
        raise OSError(code, os.strerror(code))
    place = HostFd(fd, Access.PLACE)
    return Found(place, os.fstat(fd), reach)


def find(parent: HostFd, name: bytes, parent_dev: int, reach: Reach) -> Found:
    """An entry of a directory. May block; raises OSError."""
    place = HostFd(os.open(name, PLACE, dir_fd=parent.fd), Access.PLACE)
    status = os.fstat(place.fd)
    if status.st_dev == parent_dev:
        return Found(place, status, reach)
    if stat.S_ISDIR(status.st_mode) and _fs_magic(place.fd) == AUTOFS:
        # Only an open for more than the place makes the host mount what belongs here.
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        place = HostFd(os.open(name, flags, dir_fd=parent.fd), Access.PLACE)
        status = os.fstat(place.fd)
    return Found(place, status, _reach(place.fd))


def reopen(place: HostFd, access: Access) -> HostFd:
    """The regular file at `place`, to be read or written. Raises OSError, BlockingIOError where a
    lease makes it wait."""
    flags = (os.O_RDWR if access is Access.WRITE else os.O_RDONLY) | (
        os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    )
    path = b"/proc/self/fd/%d" % place.fd
    try:
        return HostFd(os.open(path, flags | os.O_NOATIME), access)
    except PermissionError:
        return HostFd(os.open(path, flags), access)  # not the owner: no O_NOATIME


def open_steps(start: HostFd, steps: list[tuple[bytes, tuple[int, int]]]) -> list[HostFd]:
    """Walk down names, each of which must still be what it was: (st_dev, st_ino). May block.
    Raises OSError, ESTALE where it is not."""
    found: list[HostFd] = []
    for name, identity in steps:
        start = HostFd(os.open(name, PLACE, dir_fd=start.fd), Access.PLACE)
        status = os.fstat(start.fd)
        if (status.st_dev, status.st_ino) != identity:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        found.append(start)
    return found


def read_cached(fd: HostFd, count: int, offset: int, reach: Reach) -> bytes | None:
    """`count` bytes, if the host has them in memory; None if it would have to wait."""
    data = bytearray(count)
    flags = 0 if reach is Reach.MEMORY else os.RWF_NOWAIT
    try:
        got = os.preadv(fd.fd, [data], offset, flags)
    except OSError:
        return None  # would wait, or cannot tell: the worker finds out what is wrong, if anything
    return bytes(data) if got == count else None


def read_exactly(fd: HostFd, count: int, offset: int) -> bytes:
    """`count` bytes, fewer only at the end of the file. May block; raises OSError."""
    parts: list[bytes] = []
    while count > 0:
        part = os.pread(fd.fd, count, offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
        count -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_link(place: HostFd) -> bytes:
    """The text of the symlink at `place`. May block; raises OSError."""
    return os.readlink(b"", dir_fd=place.fd)


def attributes(place: HostFd) -> os.stat_result:
    """fstat(2). May block where the file system is not local."""
    return os.fstat(place.fd)


def figures(place: HostFd) -> os.statvfs_result:
    """statfs(2). May block."""
    return os.fstatvfs(place.fd)


def list_directory(place: HostFd) -> list[Listed]:
    """Its regular files, directories and symlinks, by name. May block; raises OSError."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        fd = os.open(b".", flags | os.O_NOATIME, dir_fd=place.fd)
    except PermissionError:
        fd = os.open(b".", flags, dir_fd=place.fd)
    listed: list[Listed] = []
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                if entry.is_symlink():
                    kind = stat.S_IFLNK
                elif entry.is_dir(follow_symlinks=False):
                    kind = stat.S_IFDIR
                elif entry.is_file(follow_symlinks=False):
                    kind = stat.S_IFREG
                else:
                    continue
                listed.append(Listed(os.fsencode(entry.name), entry.inode(), kind))
    finally:
        os.close(fd)
    listed.sort(key=lambda entry: entry.name)
    return listed
