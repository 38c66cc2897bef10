"""fcntl and flock: what a descriptor and an open file are set to.

Linux: fs/fcntl.c, fs/locks.c.  O_PATH descriptors know only the commands that
concern the descriptor itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.fs.fdtable import fd_install, nofile_limit
from uvm_async.fs.inode import File
from uvm_async.fs.lifetime import held_fd
from uvm_async.fs.locks import (
    F_RDLCK,
    F_UNLCK,
    F_WRLCK,
    OFFSET_MAX,
    RecordLock,
    conflicting_lock,
    flock,
    set_record_lock,
)
from uvm_async.fs.permission import CAP_SYS_RESOURCE, capable, owner_or_capable
from uvm_async.fs.pipe import PAGE_BYTES, PipeFile
from uvm_async.fs.tmpfs.inode import F_SEAL_SEAL, F_SEAL_WRITE, TmpfsFile
from uvm_async.syscalls.abi import F_OWNER_EX, FLOCK
from uvm_async.syscalls.table import Addr, Fd, Int, UInt, syscall

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

__all__: list[str] = []

O_PATH: Final = 0o10000000
O_APPEND: Final = 0o2000
O_NOATIME: Final = 0o1000000
SETTABLE: Final = O_APPEND | 0o4000 | 0o20000 | 0o40000 | O_NOATIME
"""What F_SETFL may change: O_APPEND, O_NONBLOCK, O_ASYNC, O_DIRECT, O_NOATIME."""

F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL = 0, 1, 2, 3, 4
F_GETLK, F_SETLK, F_SETLKW = 5, 6, 7
F_SETOWN, F_GETOWN, F_SETSIG, F_GETSIG = 8, 9, 10, 11
F_SETOWN_EX, F_GETOWN_EX = 15, 16
F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW = 36, 37, 38
F_SETLEASE, F_GETLEASE = 1024, 1025
F_DUPFD_QUERY, F_DUPFD_CLOEXEC = 1027, 1030
F_SETPIPE_SZ, F_GETPIPE_SZ = 1031, 1032
F_ADD_SEALS, F_GET_SEALS = 1033, 1034
ALLOWED_ON_PATH: Final = (F_DUPFD, F_DUPFD_CLOEXEC, F_DUPFD_QUERY, F_GETFD, F_SETFD, F_GETFL)
LOCK_COMMANDS: Final = (F_GETLK, F_SETLK, F_SETLKW, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW)
F_OWNER_PID, F_OWNER_PGRP = 1, 2
ALL_SEALS: Final = 0x3F


@syscall("fcntl", missing="Leases (F_SETLEASE), directory notification (F_NOTIFY) and O_ASYNC.")
async def sys_fcntl(task: Task, fd: Fd, cmd: UInt, arg: Addr) -> int:
    """Manipulate a file descriptor. man 2 fcntl."""
    files = task.files
    file = files.get_raw(fd)
    if file.flags & O_PATH and cmd not in ALLOWED_ON_PATH:
        raise Errno.EBADF
    if cmd in (F_DUPFD, F_DUPFD_CLOEXEC):
        if arg >= nofile_limit(task):
            raise Errno.EINVAL
        new = fd_install(task, file, cloexec=cmd == F_DUPFD_CLOEXEC, start=arg)
        file.refs += 1
        return new
    if cmd == F_GETFD:
        return int(files.is_cloexec(fd))
    if cmd == F_SETFD:
        files.set_cloexec(fd, bool(arg & 1))
        return 0
    if cmd == F_GETFL:
        return file.flags
    if cmd == F_DUPFD_QUERY:
        return int(files.get_raw(_int(arg)) is file)
    async with held_fd(task, fd) as held:
        if cmd in LOCK_COMMANDS:
            return await _lock(task, held, cmd, arg)
        return await _file_command(task, held, cmd, arg)


def _int(arg: int) -> int:
    """The argument as the int that these commands take."""
    return (arg & 0xFFFFFFFF ^ 0x80000000) - 0x80000000


async def _file_command(task: Task, file: File, cmd: int, arg: int) -> int:
    if cmd == F_SETFL:
        _set_flags(task, file, arg)
        return 0
    if cmd in (F_SETPIPE_SZ, F_GETPIPE_SZ):
        if not isinstance(file, PipeFile):
            raise Errno.EBADF
        if cmd == F_GETPIPE_SZ:
            return file.pipe.slots * PAGE_BYTES
        privileged = capable(task.cred, CAP_SYS_RESOURCE)
        return file.set_size(arg & 0xFFFFFFFF, privileged=privileged)
    if cmd in (F_ADD_SEALS, F_GET_SEALS):
        inode = file.path.inode if file.path is not None else None
        if not isinstance(inode, TmpfsFile):
            raise Errno.EINVAL
        if cmd == F_GET_SEALS:
            return inode.seals
        return _add_seals(file, inode, arg & 0xFFFFFFFF)
    if cmd == F_GETLEASE:
        return F_UNLCK
    if cmd in (F_SETOWN, F_GETOWN, F_SETSIG, F_GETSIG, F_SETOWN_EX, F_GETOWN_EX):
        return await _owner(task, file, cmd, arg)
    raise Errno.EINVAL


def _set_flags(task: Task, file: File, arg: int) -> None:
    asks_noatime = arg & ~file.flags & O_NOATIME and file.path is not None
    if asks_noatime and not owner_or_capable(task.cred, file.inode):
        raise Errno.EPERM
    file.flags = file.flags & ~SETTABLE | arg & SETTABLE


def _add_seals(file: File, inode: TmpfsFile, seals: int) -> int:
    if not file.writable:
        raise Errno.EPERM
    if seals & ~ALL_SEALS:
        raise Errno.EINVAL
    if inode.seals & F_SEAL_SEAL:
        raise Errno.EPERM
    if seals & F_SEAL_WRITE and inode.shared_writable:
        raise Errno.EBUSY
    inode.seals |= seals
    return 0


async def _owner(task: Task, file: File, cmd: int, arg: int) -> int:
    """Who would get SIGIO; kept and answered, never sent."""
    kind, pid, sig = file.owner
    if cmd == F_SETOWN:
        number = _int(arg)
        file.owner = (F_OWNER_PGRP if number < 0 else F_OWNER_PID, abs(number), sig)
        return 0
    if cmd == F_GETOWN:
        return -pid if kind == F_OWNER_PGRP else pid
    if cmd == F_SETSIG:
        if not 0 <= _int(arg) <= 64:
            raise Errno.EINVAL
        file.owner = (kind, pid, _int(arg))
        return 0
    if cmd == F_GETSIG:
        return sig
    if cmd == F_GETOWN_EX:
        await task.mm.copy_to_user(arg, F_OWNER_EX.pack(kind, pid))
        return 0
    kind, pid = F_OWNER_EX.unpack(await task.mm.copy_from_user(arg, F_OWNER_EX.size))
    if not 0 <= kind <= F_OWNER_PGRP:
        raise Errno.EINVAL
    file.owner = (kind, pid, sig)
    return 0


async def _lock(task: Task, file: File, cmd: int, arg: int) -> int:
    raw = await task.mm.copy_from_user(arg, FLOCK.size)
    kind, whence, offset, length, pid = FLOCK.unpack(raw)
    is_ofd = cmd in (F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW)
    if cmd == F_GETLK and kind not in (F_RDLCK, F_WRLCK):
        raise Errno.EINVAL
    start, end = await _lock_range(file, whence, offset, length)
    if kind not in (F_RDLCK, F_WRLCK, F_UNLCK):
        raise Errno.EINVAL
    if is_ofd and pid:
        raise Errno.EINVAL
    owner = file if is_ofd else task.files
    if cmd in (F_GETLK, F_OFD_GETLK):
        found = conflicting_lock(file.inode, owner, kind, start, end)
        if found is None:
            answer = FLOCK.pack(F_UNLCK, whence, offset, length, pid)
        else:
            size = 0 if found.end == OFFSET_MAX else found.end - found.start + 1
            answer = FLOCK.pack(found.type, 0, found.start, size, found.pid)
        await task.mm.copy_to_user(arg, answer)
        return 0
    if (kind == F_RDLCK and not file.readable) or (kind == F_WRLCK and not file.writable):
        raise Errno.EBADF
    wanted = RecordLock(owner, kind, start, end, -1 if is_ofd else task.process.pid)
    wait = cmd in (F_SETLKW, F_OFD_SETLKW)
    await set_record_lock(task, file.inode, wanted, wait=wait)
    return 0


async def _lock_range(file: File, whence: int, offset: int, length: int) -> tuple[int, int]:
    """First and last byte. Raises EINVAL, EOVERFLOW."""
    if whence == 0:
        base = 0
    elif whence == 1:
        base = file.pos
    elif whence == 2:
        await file.inode.refresh()
        base = file.inode.size
    else:
        raise Errno.EINVAL
    if offset > OFFSET_MAX - base:
        raise Errno.EOVERFLOW
    start = base + offset
    if start < 0:
        raise Errno.EINVAL
    if length > 0:
        if length - 1 > OFFSET_MAX - start:
            raise Errno.EOVERFLOW
        return start, start + length - 1
    if length < 0:
        if start + length < 0:
            raise Errno.EINVAL
        return start + length, start - 1
    return start, OFFSET_MAX


@syscall("flock")
async def sys_flock(task: Task, fd: Fd, operation: Int) -> int:
    """Apply or remove an advisory lock on an open file. man 2 flock."""
    async with held_fd(task, fd) as file:
        await flock(task, file, operation)
    return 0
