"""Descriptors: small numbers for open files.

Linux: fs/file.c, include/linux/fdtable.h.  A table is shared by threads
(`share`) and copied by fork (`copy`).

Invariants:
- each entry owns one reference of its file;
- O_CLOEXEC is the entry's, not the file's: bit fd of `cloexec`;
- no number below `next_fd` is free.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from uvm_async.errors import Errno
from uvm_async.fs.lifetime import fput
from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.fs.inode import File
    from uvm_async.kernel.task import Task

__all__ = ["NR_OPEN", "O_PATH", "FdTable", "fd_install", "nofile_limit"]

RLIMIT_NOFILE = 7
NR_OPEN = 1 << 20
"""No descriptor can be as large, whatever the limit (/proc/sys/fs/nr_open)."""
O_PATH = 0o10000000


def nofile_limit(task: Task) -> int:
    """The soft RLIMIT_NOFILE of the task's process."""
    limit = task.process.rlimits.get(RLIMIT_NOFILE)
    return 1024 if limit is None else min(limit[0], NR_OPEN)


def fd_install(task: Task, file: File, *, cloexec: bool = False, start: int = 0) -> int:
    """Put `file` (whose reference passes to the table) at the lowest free number. Raises EMFILE."""
    return task.files.install(file, nofile_limit(task), cloexec=cloexec, start=start)


class FdTable(Entity):
    """Linux: struct files_struct."""

    def __init__(self) -> None:
        self.fds: dict[int, File] = {}
        self.cloexec = 0
        self.next_fd = 0
        self.users = 1
        self.deferred: list[File] = []
        """Files whose last reference was dropped where nothing could be awaited."""
        self.lock_waits: dict[int, object] = {}
        """Owner of the record lock that thread (by pid) of this table waits for."""

    # -- finding

    def get(self, fd: int) -> File:
        """The open file. Raises EBADF, for O_PATH files too."""
        file = self.fds.get(fd)
        if file is None or file.flags & O_PATH:
            raise Errno.EBADF
        return file

    def get_raw(self, fd: int) -> File:
        """The open file, which may be an O_PATH one. Raises EBADF."""
        file = self.fds.get(fd)
        if file is None:
            raise Errno.EBADF
        return file

    def lowest_free(self, start: int = 0) -> int:
        fd = start if start > self.next_fd else self.next_fd
        while fd in self.fds:
            fd += 1
        return fd

    def check_room(self, limit: int) -> None:
        """Raises EMFILE now, where Linux would before it opens anything."""
        if self.lowest_free() >= limit:
            raise Errno.EMFILE

    # -- changing

    def install(self, file: File, limit: int, *, cloexec: bool = False, start: int = 0) -> int:
        """The lowest free number from `start` names `file`. Raises EMFILE."""
        fd = self.lowest_free(start)
        if fd >= limit:
            raise Errno.EMFILE
        if start <= self.next_fd:
            self.next_fd = fd + 1
        self.fds[fd] = file
        self.set_cloexec(fd, cloexec)
        return fd

    def set_cloexec(self, fd: int, on: bool) -> None:
        if on:
            self.cloexec |= 1 << fd
        elif self.cloexec:
            self.cloexec &= ~(1 << fd)

    def is_cloexec(self, fd: int) -> bool:
        return bool(self.cloexec >> fd & 1)

    def _remove(self, fd: int) -> File:
        file = self.fds.pop(fd, None)
        if file is None:
            raise Errno.EBADF
        self.set_cloexec(fd, False)
        if fd < self.next_fd:
            self.next_fd = fd
        return file

    async def _close_file(self, task: Task, file: File) -> None:
        """What every close does: flush, record locks, one reference less."""
        try:
            await file.flush(task)
        finally:
            if file.path is not None and file.path.inode.locks is not None:
                file.path.inode.locks.forget(self)
            await fput(file)

    async def close(self, task: Task, fd: int) -> None:
        """close(2). Raises EBADF, and what the flush raised."""
        file = self._remove(fd)
        if self.deferred:
            await self._drain()
        await self._close_file(task, file)

    async def replace(
        self, task: Task, fd: int, file: File, limit: int, *, cloexec: bool = False
    ) -> int:
        """dup2(2): `fd` names `file` (one more reference of it) from now on. Raises EBADF."""
        if not 0 <= fd < limit:
            raise Errno.EBADF
        file.refs += 1
        old = self.fds.get(fd)
        self.fds[fd] = file
        self.set_cloexec(fd, cloexec)
        if old is not None:
            # dup2 does not report what closing the old file met.
            with suppress(Errno):
                await self._close_file(task, old)
        return fd

    async def close_range(self, task: Task, first: int, last: int) -> None:
        for fd in sorted(fd for fd in self.fds if first <= fd <= last):
            # The descriptor is closed whatever its flush meets.
            with suppress(Errno):
                await self.close(task, fd)

    def cloexec_range(self, first: int, last: int) -> None:
        """CLOSE_RANGE_CLOEXEC."""
        for fd in self.fds:
            if first <= fd <= last:
                self.cloexec |= 1 << fd

    async def close_on_exec(self, task: Task) -> None:
        """execve(2): close what is marked; the table must be the task's own."""
        marked = self.cloexec
        while marked:
            fd = (marked & -marked).bit_length() - 1
            marked &= marked - 1
            await self.close_range(task, fd, fd)

    # -- sharing

    def share(self) -> FdTable:
        """CLONE_FILES: one more task uses it."""
        self.users += 1
        return self

    def copy(self) -> FdTable:
        """One of its own, as fork gives it: same files, one more reference each."""
        other = FdTable()
        other.fds = dict(self.fds)
        other.cloexec, other.next_fd = self.cloexec, self.next_fd
        for file in other.fds.values():
            file.refs += 1
        return other

    async def put(self, task: Task) -> None:
        """A task that used it is gone; with the last, everything is closed."""
        self.users -= 1
        if self.users == 0:
            await self.close_range(task, 0, NR_OPEN)
            await self._drain()

    async def _drain(self) -> None:
        while self.deferred:
            await fput(self.deferred.pop())
