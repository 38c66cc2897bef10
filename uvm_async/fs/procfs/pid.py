"""procfs: /proc/PID, its threads and its descriptors.

Linux: fs/proc/base.c, fs/proc/fd.c.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Final

from uvm_async.errors import Errno
from uvm_async.fs.inode import Path, SuperBlock
from uvm_async.fs.procfs import memory, mounts, status
from uvm_async.fs.procfs.node import (
    Dir,
    Link,
    Node,
    NumberedDir,
    ProcDir,
    ProcFile,
    ProcInode,
    ProcText,
    Text,
    mm_of,
)

if TYPE_CHECKING:
    from uvm_async.fs.inode import File
    from uvm_async.kernel.task import Task

__all__ = ["PidDir", "ThreadDir"]

S_IFLNK: Final = 0o120000
O_CLOEXEC: Final = 0o2000000


def _exe(task: Task) -> bytes | Path:
    mm = mm_of(task)
    if mm is None or mm.exe_file is None or mm.exe_file.path is None:
        raise Errno.ENOENT
    return mm.exe_file.path


def _has_place(task: Task) -> bool:
    """It has not exited (init, which has no parent, has no memory either, but a place)."""
    return mm_of(task) is not None or task.process.parent is None


def _cwd(task: Task) -> bytes | Path:
    if not _has_place(task):
        raise Errno.ENOENT
    return task.fs.cwd


def _root(task: Task) -> bytes | Path:
    if not _has_place(task):
        raise Errno.ENOENT
    return task.fs.root


def _cgroup(task: Task) -> bytes:
    return b"0::/\n"


def _id_map(task: Task) -> bytes:
    return b"%10d %10d %10d\n" % (0, 0, 0xFFFFFFFF)


def _setgroups(task: Task) -> bytes:
    return b"allow\n"


def _personality(task: Task) -> bytes:
    return b"%08x\n" % task.process.personality


def _syscall(task: Task) -> bytes:
    return b"running\n"


def _coredump_filter(task: Task) -> bytes:
    return b"00000033\n"


def _timerslack(task: Task) -> bytes:
    return b"50000\n"


def _sessionid(task: Task) -> bytes:
    return b"4294967295"


def _open_file(task: Task, fd: int) -> File:
    """Raises ENOENT."""
    if mm_of(task) is None:
        raise Errno.ENOENT
    file = task.files.fds.get(fd)
    if file is None:
        raise Errno.ENOENT
    return file


class FdLink(ProcInode):
    """A descriptor: leads to the very place that is open."""

    def __init__(self, sb: SuperBlock, path: bytes, target: Task, fd: int) -> None:
        self.fd = fd
        super().__init__(sb, path, S_IFLNK | 0o700, target)
        self.size = 64

    def own(self) -> None:
        super().own()
        assert self.target is not None
        file = self.target.files.fds.get(self.fd)
        if file is not None:
            bits = (0o400 if file.readable else 0) | (0o200 if file.writable else 0)
            self.mode = S_IFLNK | 0o100 | bits

    async def get_link(self, task: Task) -> bytes | Path:
        file = _open_file(self.subject(task), self.fd)
        return file.path if file.path is not None else b"anon_inode:[unknown]"


class FdInfo(ProcText):
    """/proc/PID/fdinfo/N."""

    def __init__(self, sb: SuperBlock, path: bytes, target: Task, fd: int) -> None:
        super().__init__(sb, path, Text(status.show_comm, 0o400), target)
        self.fd = fd

    async def contents(self, reader: Task) -> bytes:
        task = self.subject(reader)
        file = _open_file(task, self.fd)
        flags = file.flags | (O_CLOEXEC if task.files.is_cloexec(self.fd) else 0)
        place = file.path
        return b"pos:\t%d\nflags:\t0%o\nmnt_id:\t%d\nino:\t%d\n" % (
            file.pos,
            flags,
            place.mount.ident if place is not None else 0,
            place.inode.ino if place is not None else 0,
        )

    async def open(self, task: Task, path: Path, flags: int) -> File:
        _open_file(self.subject(task), self.fd)
        return ProcFile(path, flags)


FD_NODE: Final = Link(_exe)
"""Only for the type in listings: what is made is an FdLink."""
FDINFO_NODE: Final = Text(status.show_comm, 0o400)


class FdDir(NumberedDir):
    """/proc/PID/fd."""

    def numbers(self) -> list[int]:
        assert self.target is not None
        return sorted(self.target.files.fds) if mm_of(self.target) is not None else []

    def node(self, number: int) -> Node:
        return FD_NODE

    def numbered(self, number: int) -> ProcInode:
        assert self.target is not None
        name = b"%d" % number
        inode = self.children.get(name)
        if inode is None:
            inode = FdLink(self.sb, self.child_path(name), self.target, number)
            self.children[name] = inode
        inode.own()
        return inode


class FdInfoDir(FdDir):
    """/proc/PID/fdinfo."""

    def node(self, number: int) -> Node:
        return FDINFO_NODE

    def numbered(self, number: int) -> ProcInode:
        assert self.target is not None
        name = b"%d" % number
        inode = self.children.get(name)
        if inode is None:
            inode = FdInfo(self.sb, self.child_path(name), self.target, number)
            self.children[name] = inode
        return inode


class NetDir(ProcDir):
    """/proc/PID/net: there is no network."""


THREAD: Final[dict[bytes, Node]] = {
    b"auxv": Text(memory.show_auxv, 0o400),
    b"cgroup": Text(_cgroup),
    b"cmdline": Text(memory.show_cmdline),
    b"comm": Text(status.show_comm, 0o644, status.store_comm),
    b"cwd": Link(_cwd),
    b"environ": Text(memory.show_environ, 0o400),
    b"exe": Link(_exe),
    b"fd": Dir(FdDir, 0o500),
    b"fdinfo": Dir(FdInfoDir, 0o555),
    b"gid_map": Text(_id_map),
    b"io": Text(status.show_io, 0o400),
    b"limits": Text(status.show_limits),
    b"loginuid": Text(status.show_loginuid),
    b"maps": Text(memory.show_maps),
    b"mountinfo": Text(mounts.show_mountinfo),
    b"mounts": Text(mounts.show_mounts),
    b"net": Dir(NetDir),
    b"oom_score": Text(status.show_oom_score),
    b"oom_score_adj": Text(status.show_oom_score_adj, 0o644, status.store_oom_score_adj),
    b"personality": Text(_personality, 0o400),
    b"root": Link(_root),
    b"sched": Text(status.show_sched),
    b"sessionid": Text(_sessionid),
    b"setgroups": Text(_setgroups),
    b"smaps": Text(memory.show_smaps),
    b"smaps_rollup": Text(memory.show_smaps_rollup),
    b"stat": Text(status.show_stat),
    b"statm": Text(status.show_statm),
    b"status": Text(status.show_status),
    b"syscall": Text(_syscall, 0o400),
    b"uid_map": Text(_id_map),
    b"wchan": Text(status.show_wchan),
}


class ThreadDir(ProcDir):
    """/proc/PID/task/TID."""

    table: ClassVar[Mapping[bytes, Node]] = THREAD | {b"stat": Text(status.show_task_stat)}


class TasksDir(NumberedDir):
    """/proc/PID/task."""

    def numbers(self) -> list[int]:
        assert self.target is not None
        process = self.target.process
        return sorted(task.pid for task in process.tasks) or [process.pid]

    def node(self, number: int) -> Node:
        return Dir(ThreadDir)

    def numbered(self, number: int) -> ProcInode:
        name = b"%d" % number
        task = self.sb.kernel.tasks.get(number)
        inode = self.children.get(name)
        if task is None:
            raise Errno.ENOENT
        if inode is None or inode.target is not task:
            inode = ThreadDir(self.sb, self.child_path(name), task)
            self.children[name] = inode
        inode.own()
        return inode


class PidDir(ProcDir):
    """/proc/PID."""

    table: ClassVar[Mapping[bytes, Node]] = THREAD | {
        b"coredump_filter": Text(_coredump_filter, 0o644),
        b"mountstats": Text(mounts.show_mountstats, 0o400),
        b"task": Dir(TasksDir),
        b"timerslack_ns": Text(_timerslack, 0o644),
    }
