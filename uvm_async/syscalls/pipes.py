"""Descriptors out of nothing: pipe, eventfd, memfd_create.

Linux: fs/pipe.c, fs/eventfd.c, mm/memfd.c.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.fs.eventfd import EFD_SEMAPHORE, create_eventfd
from uvm_async.fs.fdtable import fd_install, nofile_limit
from uvm_async.fs.lifetime import fput
from uvm_async.fs.memfd import create_memfd
from uvm_async.fs.pipe import create_pipe
from uvm_async.syscalls.table import Addr, Flags, StrPtr, UInt, syscall

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

__all__: list[str] = []

O_NONBLOCK: Final = 0o4000
O_DIRECT: Final = 0o40000
O_CLOEXEC: Final = 0o2000000
FD_PAIR: Final = Struct("<ii")

MFD_CLOEXEC, MFD_ALLOW_SEALING, MFD_NOEXEC_SEAL, MFD_EXEC = 1, 2, 8, 16
MFD_KNOWN: Final = MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL | MFD_EXEC
MEMFD_NAME_MAX: Final = 249


async def _pipe(task: Task, fildes: int, flags: int) -> int:
    files = task.files
    limit = nofile_limit(task)
    files.check_room(limit)
    reader, writer = create_pipe(task, flags)
    cloexec = bool(flags & O_CLOEXEC)
    fds: list[int] = []
    try:
        for file in (reader, writer):
            fds.append(fd_install(task, file, cloexec=cloexec))
        await task.mm.copy_to_user(fildes, FD_PAIR.pack(*fds))
    except (Errno.EMFILE, Errno.EFAULT):
        for fd in fds:
            await files.close(task, fd)
        for file in (reader, writer)[len(fds) :]:
            await fput(file)
        raise
    return 0


@syscall("pipe")
async def sys_pipe(task: Task, fildes: Addr) -> int:
    """Create a pipe. man 2 pipe."""
    return await _pipe(task, fildes, 0)


@syscall("pipe2", missing="O_NOTIFICATION_PIPE.")
async def sys_pipe2(task: Task, fildes: Addr, flags: Flags) -> int:
    """Create a pipe with flags. man 2 pipe2."""
    if flags & ~(O_NONBLOCK | O_DIRECT | O_CLOEXEC):
        raise Errno.EINVAL
    return await _pipe(task, fildes, flags)


@syscall("eventfd")
def sys_eventfd(task: Task, count: UInt) -> int:
    """Create a counter to wait for. man 2 eventfd."""
    return _eventfd(task, count, 0)


@syscall("eventfd2")
def sys_eventfd2(task: Task, count: UInt, flags: Flags) -> int:
    """eventfd with flags. man 2 eventfd."""
    return _eventfd(task, count, flags)


def _eventfd(task: Task, count: int, flags: int) -> int:
    if flags & ~(EFD_SEMAPHORE | O_NONBLOCK | O_CLOEXEC):
        raise Errno.EINVAL
    task.files.check_room(nofile_limit(task))
    return fd_install(task, create_eventfd(task, count, flags), cloexec=bool(flags & O_CLOEXEC))


@syscall("memfd_create", missing="MFD_HUGETLB (EINVAL).")
async def sys_memfd_create(task: Task, uname: StrPtr, flags: UInt) -> int:
    """Create a file of memory without a name. man 2 memfd_create."""
    both = MFD_EXEC | MFD_NOEXEC_SEAL
    if flags & ~MFD_KNOWN or flags & both == both:
        raise Errno.EINVAL
    name = await task.mm.strndup_user(uname, MEMFD_NAME_MAX + 1)
    if len(name) > MEMFD_NAME_MAX:
        raise Errno.EINVAL
    task.files.check_room(nofile_limit(task))
    file = create_memfd(
        task,
        name,
        sealing=bool(flags & MFD_ALLOW_SEALING),
        executable=not flags & MFD_NOEXEC_SEAL,
    )
    return fd_install(task, file, cloexec=bool(flags & MFD_CLOEXEC))
