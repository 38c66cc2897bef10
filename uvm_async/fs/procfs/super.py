"""procfs: the super block and its root. Linux: fs/proc/root.c.

A machine has one instance, whatever mounts it.  Directories of processes are made
when they are first looked at, and swept once enough processes have gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Final

from uvm_async.errors import Errno
from uvm_async.fs.inode import Inode, StatFs, SuperBlock
from uvm_async.fs.procfs import system
from uvm_async.fs.procfs.node import Dir, Link, Node, NumberedDir, ProcDir, ProcInode, Text, alive
from uvm_async.fs.procfs.pid import PidDir, ThreadDir
from uvm_async.fs.procfs.sysctl import SysDir
from uvm_async.fs.registry import MountRequest, file_system

if TYPE_CHECKING:
    from uvm_async.kernel.kernel import Kernel
    from uvm_async.kernel.task import Task

__all__ = ["ProcSuperBlock", "mount_proc", "proc_super_block"]

SWEEP_AFTER: Final = 256
"""Directories of processes that may be there beyond twice the number of processes."""


def _self(task: Task) -> bytes:
    return b"%d" % task.process.pid


def _thread_self(task: Task) -> bytes:
    return b"%d/task/%d" % (task.process.pid, task.pid)


def _mounts(task: Task) -> bytes:
    return b"self/mounts"


def _net(task: Task) -> bytes:
    return b"self/net"


class TtyDir(ProcDir):
    """/proc/tty."""

    table: ClassVar[Mapping[bytes, Node]] = {b"drivers": Text(system.show_tty_drivers)}


class RootDir(NumberedDir):
    """/proc."""

    table: ClassVar[Mapping[bytes, Node]] = {
        b"cmdline": Text(system.show_cmdline),
        b"cpuinfo": Text(system.show_cpuinfo),
        b"devices": Text(system.show_devices),
        b"diskstats": Text(system.show_diskstats),
        b"filesystems": Text(system.show_filesystems),
        b"loadavg": Text(system.show_loadavg),
        b"locks": Text(system.show_nothing),
        b"meminfo": Text(system.show_meminfo),
        b"modules": Text(system.show_nothing),
        b"mounts": Link(_mounts),
        b"net": Link(_net),
        b"partitions": Text(system.show_partitions),
        b"self": Link(_self),
        b"stat": Text(system.show_stat),
        b"swaps": Text(system.show_swaps),
        b"sys": Dir(SysDir),
        b"thread-self": Link(_thread_self),
        b"tty": Dir(TtyDir),
        b"uptime": Text(system.show_uptime),
        b"version": Text(system.show_version),
        b"vmstat": Text(system.show_vmstat),
    }

    def child_path(self, name: bytes) -> bytes:
        return b"/" + name

    def numbers(self) -> list[int]:
        return sorted(self.sb.kernel.processes)

    def node(self, number: int) -> Node:
        return Dir(PidDir)

    async def lookup(self, name: bytes) -> Inode:
        """Threads have a directory too, though no listing shows it."""
        if name.isdigit() and name[0] != 0x30:
            self._sweep()
            task = self.sb.kernel.tasks.get(int(name))
            if task is not None and task.process.pid == task.pid:
                return self._directory(name, task, PidDir)
            if task is not None:
                return self._directory(name, task, ThreadDir)
            self.children.pop(name, None)
            raise Errno.ENOENT
        return await super().lookup(name)

    def _directory(self, name: bytes, task: Task, make: type[ProcDir]) -> ProcInode:
        inode = self.children.get(name)
        if inode is None or inode.target is not task:
            inode = self.children[name] = make(self.sb, self.child_path(name), task)
        inode.own()
        return inode

    def _sweep(self) -> None:
        """Forget processes that are gone, and their names."""
        kernel = self.sb.kernel
        if len(self.children) <= 2 * len(kernel.tasks) + SWEEP_AFTER:
            return
        names = kernel.mounts.root_dentry(self.sb).children
        for name, inode in list(self.children.items()):
            if inode.target is not None and not alive(inode.target):
                del self.children[name]
                dentry = names.get(name)
                if dentry is not None and dentry.inode is inode and dentry.mounted is None:
                    del names[name]

    async def refresh(self) -> None:
        self.nlink = 2 + len(self.table) + len(self.sb.kernel.processes)


class ProcSuperBlock(SuperBlock):
    """The machine's processes as files."""

    fs_type: ClassVar[bytes] = b"proc"
    magic: ClassVar[int] = 0x9FA0

    def __init__(self, kernel: Kernel, dev: int) -> None:
        super().__init__(kernel, dev)
        self.source = b"proc"
        self.settings: dict[str, bytes] = {}
        """What was written to /proc/sys."""
        self.boot_id = b""
        self.root: RootDir = RootDir(self, b"/", None)

    async def statfs(self) -> StatFs:
        return StatFs(self.magic, 4096, 0, 0, 0, 0, 0)


def proc_super_block(kernel: Kernel) -> ProcSuperBlock:
    """The machine's only one, made at first use."""
    mount = kernel.mounts.internal.get(ProcSuperBlock.fs_type)
    if mount is None:
        mount = kernel.mounts.attach_internal(ProcSuperBlock(kernel, kernel.next_anon_dev()))
    assert isinstance(mount.sb, ProcSuperBlock)
    return mount.sb


@file_system("proc")
async def mount_proc(
    kernel: Kernel, source: bytes, options: dict[bytes, bytes], request: MountRequest
) -> SuperBlock:
    """proc(5); hidepid, gid and subset are accepted and change nothing."""
    for key in options:
        if key not in (b"hidepid", b"gid", b"subset"):
            raise Errno.EINVAL
    return proc_super_block(kernel)
