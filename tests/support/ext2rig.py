"""ext2 and block devices without a machine: a kernel of three parts, and who drives it.

Kernel coroutines run as they do in a machine: `Host` requests are awaited on the
loop, `Wait` requests stand in their queue until somebody wakes it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path as HostPath
from typing import Any, TypeVar

from support import pagecache
from uvm_async.arch.physmem import Physmem
from uvm_async.block.bio import Op
from uvm_async.block.blkdev import BlockDevice
from uvm_async.block.disk import Disk
from uvm_async.errors import Errno
from uvm_async.fs.devices import DeviceTable
from uvm_async.fs.ext2.mount import mount_device
from uvm_async.fs.ext2.superblock import Ext2SuperBlock
from uvm_async.mm.filemap import filemap_read, filemap_write
from uvm_async.mm.frames import Frames
from uvm_async.mm.iov import KernelIter
from uvm_async.sched.wait import Host, Wait, WaitQueue
from uvm_async.state import Entity, dump_graph, load_graph

T = TypeVar("T")


class Clock(Entity):
    """Time that passes by being looked at."""

    def __init__(self) -> None:
        self.now_ns = 1_700_000_000_000_000_000

    def realtime_ns(self) -> int:
        self.now_ns += 1_000_003
        return self.now_ns

    monotonic_ns = realtime_ns


class Workers(Entity):
    """Host calls, done at once or (threads) by the loop's executor."""

    def __init__(self, *, threads: bool = False) -> None:
        self.threads = threads

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        if self.threads:
            return await asyncio.to_thread(function, *args)
        await asyncio.sleep(0)
        return function(*args)


class Mounts(Entity):
    def __init__(self) -> None:
        self.devices = DeviceTable()


class RigKernel(Entity):
    """What block devices and file systems ask of the kernel."""

    def __init__(self, *, threads: bool = False) -> None:
        self.clock = Clock()
        self.workers = Workers(threads=threads)
        self.mounts = Mounts()
        self.frames: Any = None
        self.messages: list[str] = []

    def printk(self, message: str) -> None:
        self.messages.append(message)


class Sleeper:
    """Stands in one wait queue."""

    def __init__(self, queue: WaitQueue) -> None:
        self.queue = queue
        self.woken = asyncio.Event()
        queue.waiters[self] = None  # type: ignore[index]

    def wake(self) -> None:
        del self.queue.waiters[self]  # type: ignore[arg-type]
        self.woken.set()


async def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a kernel coroutine to its end."""
    answer: Any = None
    error: BaseException | None = None
    while True:
        try:
            request = coroutine.send(answer) if error is None else coroutine.throw(error)
        except StopIteration as stop:
            result: T = stop.value
            return result
        answer = error = None
        if isinstance(request, Host):
            awaitable: Awaitable[Any] = request.awaitable
            try:
                answer = await awaitable
            except Exception as failure:
                error = failure
        elif isinstance(request, Wait):
            await Sleeper(request.queue).woken.wait()
        else:
            raise AssertionError(f"unexpected request {request!r}")


def tool(name: str) -> str:
    """Where one of e2fsprogs is: not always on an ordinary user's path."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    assert found, f"{name} is not installed (Debian package e2fsprogs)"
    return found


def make_image(
    path: HostPath,
    *,
    size: str = "8M",
    block_size: int = 1024,
    tree: HostPath | None = None,
    options: tuple[str, ...] = (),
) -> HostPath:
    """A fresh ext2 image."""
    with open(path, "wb"):
        pass
    command = [tool("mke2fs"), "-q", "-F", "-t", "ext2", "-b", str(block_size), *options]
    if tree is not None:
        command += ["-d", str(tree)]
    subprocess.run([*command, str(path), size], check=True, capture_output=True)
    return path


def fsck(path: HostPath) -> str:
    """What `e2fsck -fn` finds: the empty string if nothing."""
    done = subprocess.run([tool("e2fsck"), "-fn", str(path)], capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def repair(path: HostPath) -> str:
    """`e2fsck -fy`; what it said. Raises if something is left unrepaired."""
    done = subprocess.run([tool("e2fsck"), "-fy", str(path)], capture_output=True, text=True)
    assert done.returncode < 4, done.stdout + done.stderr
    return done.stdout


def debugfs(path: HostPath, command: str) -> bytes:
    """The answer of one debugfs command."""
    return subprocess.run(
        [tool("debugfs"), "-R", command, str(path)], capture_output=True, check=True
    ).stdout


@contextmanager
def physical_memory(size: int = 64 << 20) -> Iterator[Frames]:
    """Frames for a page cache, without a machine."""
    physmem = Physmem.create(size, 1)
    yield Frames(physmem)
    physmem.close()


async def open_device(
    kernel: Any,
    path: HostPath,
    *,
    read_only: bool = False,
    index: int = 0,
    limit_bytes: int = 1 << 20,
) -> BlockDevice:
    """A block device on an image, to be closed with `device.disk.close()`."""
    disk = await Disk.open(kernel, path, read_only=read_only)
    return BlockDevice(disk, index, limit_bytes=limit_bytes)


class Log(Entity):
    """What reached a backing file, in order: writes, and flushes."""

    def __init__(self) -> None:
        self.events: list[tuple[int, bytes] | None] = []
        """(offset, data) of a write; None: a flush, after which all before it is stable."""


class RecordedDisk(Disk):
    """A disk that keeps a log of what it does to its file."""

    log: Log

    async def _perform(self, request: Any) -> None:
        await super()._perform(request)
        if request.op is Op.FLUSH:
            self.log.events.append(None)
        elif request.op is Op.WRITE:
            for bio in request.bios:
                self.log.events.append((bio.offset, bytes(bio.data)))


class Rig(Entity):
    """A kernel, a disk, a mounted ext2, and file operations by path without a VFS.

    Operations answer what they read, or raise the errno that the file system gives; of the
    VFS's checks only those that protect the file system's rules are here.
    """

    def __init__(self, frames: Any = None) -> None:
        """`frames`: physical memory, for the machine's own page cache; None if the test uses
        `support.pagecache`."""
        self.kernel = RigKernel()
        self.kernel.frames = frames
        self.log = Log()
        self.device: BlockDevice
        self.sb: Ext2SuperBlock
        self.open_files: dict[str, Any] = {}
        self.read_most = 1 << 27
        """No file is read further: damaged ones may claim to be huge."""

    @classmethod
    async def mount(
        cls,
        path: HostPath,
        *,
        read_only: bool = False,
        limit_bytes: int = 1 << 20,
        frames: Any = None,
    ) -> Rig:
        rig = cls(frames)
        disk = RecordedDisk(rig.kernel, str(path), read_only=read_only)  # type: ignore[arg-type]
        disk.log = rig.log
        await disk.reopen()
        try:
            rig.device = BlockDevice(disk, 0, limit_bytes=limit_bytes)
            rig.sb = await drive(mount_device(rig.kernel, rig.device, read_only=read_only))  # type: ignore[arg-type]
        except BaseException:
            await disk.close()
            raise
        return rig

    async def umount(self) -> None:
        await drive(self.sb.umount())
        await self.device.disk.close()

    async def refrozen(self) -> Rig:
        """The same machine out of its pickle."""
        await self.device.disk.close()
        copy = load_graph(dump_graph(self))
        assert isinstance(copy, Rig)
        return copy

    # -- paths

    async def walk(self, path: str) -> Any:
        inode: Any = self.sb.root
        for name in path.split("/"):
            if name:
                if not inode.is_dir:
                    raise Errno.ENOTDIR
                inode = await drive(inode.lookup(os.fsencode(name)))
        return inode

    async def parent(self, path: str) -> tuple[Any, bytes]:
        head, _, name = path.rpartition("/")
        inode = await self.walk(head)
        if not inode.is_dir:
            raise Errno.ENOTDIR
        return inode, os.fsencode(name)

    async def exists(self, path: str) -> Any:
        try:
            return await self.walk(path)
        except Errno.ENOENT:
            return None

    async def drop(self, inode: Any) -> None:
        if inode.nlink == 0 and inode.opens == 0:
            await drive(inode.evict())

    # -- operations

    async def create(self, path: str, mode: int = 0o644) -> None:
        parent, name = await self.parent(path)
        if await self.exists(path):
            raise Errno.EEXIST
        await drive(parent.create(name, stat.S_IFREG | mode, 0, 0))

    async def mkdir(self, path: str) -> None:
        parent, name = await self.parent(path)
        await drive(parent.mkdir(name, 0o755, 0, 0))

    async def symlink(self, target: str, path: str) -> None:
        parent, name = await self.parent(path)
        await drive(parent.symlink(name, os.fsencode(target), 0, 0))

    async def link(self, old: str, new: str) -> None:
        inode = await self.walk(old)
        parent, name = await self.parent(new)
        if await self.exists(new):
            raise Errno.EEXIST
        if inode.is_dir:
            raise Errno.EPERM
        await drive(parent.link(name, inode))

    async def unlink(self, path: str) -> None:
        parent, name = await self.parent(path)
        inode = await self.walk(path)
        if inode.is_dir:
            raise Errno.EISDIR
        await drive(parent.unlink(name, inode))
        await self.drop(inode)

    async def rmdir(self, path: str) -> None:
        parent, name = await self.parent(path)
        inode = await self.walk(path)
        if not inode.is_dir:
            raise Errno.ENOTDIR
        await drive(parent.rmdir(name, inode))
        await self.drop(inode)

    async def rename(self, old: str, new: str) -> None:
        parent, name = await self.parent(old)
        inode = await self.walk(old)
        new_parent, new_name = await self.parent(new)
        target = await self.exists(new)
        if inode.is_dir and (new + "/").startswith(old + "/") and old != new:
            raise Errno.EINVAL
        if target is not None and (old + "/").startswith(new + "/") and old != new:
            raise Errno.ENOTEMPTY
        if target is inode:
            return
        if target is not None:
            if inode.is_dir and not target.is_dir:
                raise Errno.ENOTDIR
            if target.is_dir and not inode.is_dir:
                raise Errno.EISDIR
        await drive(parent.rename(name, inode, new_parent, new_name, target))
        if target is not None:
            await self.drop(target)

    async def file(self, path: str) -> Any:
        inode = self.open_files.get(path) or await self.walk(path)
        if not inode.is_reg:
            raise Errno.EISDIR if inode.is_dir else Errno.EINVAL
        return inode

    async def write(self, path: str, pos: int, data: bytes) -> int:
        inode = await self.file(path)
        write = filemap_write if self.kernel.frames else pagecache.write
        return await drive(write(inode.mapping, KernelIter(data), pos))

    async def read(self, path: str) -> bytes:
        inode = await self.file(path)
        it = KernelIter(room=min(inode.size, self.read_most))
        read = filemap_read if self.kernel.frames else pagecache.read
        await drive(read(inode.mapping, it, 0))
        return bytes(it.data)

    async def truncate(self, path: str, size: int) -> None:
        inode = await self.file(path)
        await drive(inode.setattr(size=size))

    async def fsync(self, path: str) -> None:
        inode = await self.file(path)
        await drive(inode.fsync())

    async def sync(self) -> None:
        await drive(self.sb.sync())

    async def open(self, path: str, handle: str) -> None:
        """Keep a file open under a name that is no path."""
        inode = await self.file(path)
        inode.opens += 1
        self.open_files[handle] = inode

    async def close(self, handle: str) -> None:
        inode = self.open_files.pop(handle)
        inode.opens -= 1
        await self.drop(inode)

    async def reclaim(self) -> None:
        """Clean pages go, as when memory is short."""
        for inode in self.sb.inodes.values():
            if inode.mapping is not None:
                inode.mapping.drop_clean(1 << 30)

    async def tree(self, path: str = "") -> dict[str, Any]:
        """Everything below `path`: contents of files, targets of links, None for directories."""
        found: dict[str, Any] = {}
        inode = await self.walk(path)
        pos = 0
        while entries := await drive(inode.readdir(pos, 7)):
            for entry in entries:
                child = f"{path}/{os.fsdecode(entry.name)}"
                node = await self.walk(child)
                if node.is_dir:
                    found[child] = None
                    found.update(await self.tree(child))
                elif node.is_symlink:
                    found[child] = "-> " + os.fsdecode(await drive(node.readlink()))
                elif node.is_reg:
                    found[child] = await self.read(child)
                else:
                    found[child] = (node.mode, node.rdev)
            pos = entries[-1].next_pos
        return found
