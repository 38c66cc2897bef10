"""A kernel with a worker for host calls, and file operations by path for tests."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Coroutine
from typing import Any

from fs.driver import FakeTask, Sim
from uvm_async.errors import Errno
from uvm_async.fs import dirops
from uvm_async.fs.attr import change_mode, change_owner, change_times, truncate_inode
from uvm_async.fs.dcache import d_path
from uvm_async.fs.hostfs import Sight, mount_hostfs
from uvm_async.fs.inode import File, Inode, Path, SuperBlock
from uvm_async.fs.lifetime import fput, held
from uvm_async.fs.mount import MS_RELATIME
from uvm_async.fs.namei import AT_FDCWD, lookup, open_path
from uvm_async.fs.overlay import mount_overlay
from uvm_async.mm.iov import KernelIter
from uvm_async.state import Entity


class Workers(Entity):
    """Runs host calls at once, and counts them."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        self.ran.append(getattr(function, "__name__", "?"))
        return function(*args)


class Rig:
    """One task on a machine whose root is what was asked for."""

    def __init__(self, memory: int = 16 << 20) -> None:
        self.sim = Sim.boot(memory)
        self.kernel: Any = self.sim.kernel
        self.kernel.workers = Workers()
        self.task: FakeTask = self.sim.task()

    def close(self) -> None:
        self.sim.close()

    def run(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return self.sim.run(self.task, make)

    def mount(self, sb: SuperBlock) -> None:
        """Make it the root of a new task."""

        async def attach() -> None:
            self.kernel.mounts.mounts.clear()
            await self.kernel.mounts.attach(sb, None, MS_RELATIME)

        self.run(attach)
        self.task = self.sim.task()

    def host(self, path: str | os.PathLike[str], **how: Any) -> Any:
        return self.run(lambda: mount_hostfs(self.kernel, os.fsencode(path), **how))

    def mount_host(self, path: str | os.PathLike[str], **how: Any) -> Any:
        sb = self.host(path, **how)
        self.mount(sb)
        return sb

    def mount_over(self, path: str | os.PathLike[str], **how: Any) -> Any:
        """An overlay over a snapshot of a host directory."""
        lower = self.host(path, sight=Sight.SNAPSHOT, **how)
        sb = self.run(lambda: mount_overlay(self.kernel, lower))
        self.mount(sb)
        return sb

    # -- operations by path; names as the guest gives them

    def open(self, path: bytes, flags: int = os.O_RDONLY, mode: int = 0o666) -> File:
        return self.run(lambda: open_path(self.task, AT_FDCWD, path, flags, mode))

    def close_file(self, file: File) -> None:
        async def close() -> None:
            await file.flush(self.task)
            await fput(file)

        self.run(close)

    def read_at(self, file: File, count: int, pos: int | None = None) -> bytes:
        it = KernelIter(room=count)
        self.run(lambda: file.read_iter(self.task, it, pos))
        return bytes(it.data)

    def write_at(self, file: File, data: bytes, pos: int | None = None) -> int:
        return self.run(lambda: file.write_iter(self.task, KernelIter(data), pos))

    def read(self, path: bytes) -> bytes:
        file = self.open(path)
        try:
            return self.read_at(file, 1 << 22)
        finally:
            self.close_file(file)

    def write(self, path: bytes, data: bytes, flags: int = os.O_WRONLY | os.O_CREAT) -> int:
        file = self.open(path, flags)
        try:
            return self.write_at(file, data)
        finally:
            self.close_file(file)

    def inode(self, path: bytes, *, follow: bool = False) -> Inode:
        async def find() -> Inode:
            found = await lookup(self.task, AT_FDCWD, path, follow=follow)
            await found.inode.refresh()
            return found.inode

        return self.run(find)

    def readlink(self, path: bytes) -> bytes:
        return self.run(self.inode(path).readlink)

    def readlink_text(self, path: bytes) -> bytes:
        """What readlink(2) answers, for magic links too."""
        inode = self.inode(path)

        async def read() -> bytes:
            target = await inode.get_link(self.task)  # type: ignore[arg-type]
            return d_path(self.task.fs.root, target) if isinstance(target, Path) else target

        return self.run(read)

    def entries(self, path: bytes, at_once: int = 1000) -> list[tuple[bytes, int, int]]:
        """(name, number, type) of all but "." and ".."."""
        file = self.open(path, os.O_RDONLY | os.O_DIRECTORY)
        found: list[tuple[bytes, int, int]] = []
        try:
            while batch := self.run(lambda: file.entries(at_once)):  # type: ignore[attr-defined]
                found += [(entry.name, entry.ino, entry.type) for entry in batch]
                file.pos = batch[-1].next_pos
        finally:
            self.close_file(file)
        return [entry for entry in found if entry[0] not in (b".", b"..")]

    def names(self, path: bytes) -> list[bytes]:
        return [name for name, _, _ in self.entries(path)]

    def tree(self, path: bytes = b"/") -> dict[bytes, tuple[Any, ...]]:
        """Everything below: (type and mode, size or target, contents)."""
        found: dict[bytes, tuple[Any, ...]] = {}
        for name in self.names(path):
            child = path.rstrip(b"/") + b"/" + name
            inode = self.inode(child)
            if inode.is_dir:
                found[child] = (oct(inode.mode), inode.nlink)
                found.update(self.tree(child))
            elif inode.is_symlink:
                found[child] = ("link", self.readlink(child))
            else:
                found[child] = (oct(inode.mode), inode.nlink, inode.size, self.read(child))
        return found

    def mkdir(self, path: bytes, mode: int = 0o777) -> None:
        self.run(lambda: dirops.mkdir(self.task, AT_FDCWD, path, mode))

    def rmdir(self, path: bytes) -> None:
        self.run(lambda: dirops.rmdir(self.task, AT_FDCWD, path))

    def unlink(self, path: bytes) -> None:
        self.run(lambda: dirops.unlink(self.task, AT_FDCWD, path))

    def symlink(self, target: bytes, path: bytes) -> None:
        self.run(lambda: dirops.symlink(self.task, target, AT_FDCWD, path))

    def link(self, old: bytes, new: bytes) -> None:
        async def make() -> None:
            found = await lookup(self.task, AT_FDCWD, old, follow=False)
            async with held(found):
                await dirops.link(self.task, found, AT_FDCWD, new)

        self.run(make)

    def rename(self, old: bytes, new: bytes, flags: int = 0) -> None:
        self.run(lambda: dirops.rename(self.task, AT_FDCWD, old, AT_FDCWD, new, flags))

    def chmod(self, path: bytes, mode: int) -> None:
        inode = self.inode(path, follow=True)
        self.run(lambda: change_mode(self.task, inode, mode))  # type: ignore[arg-type]

    def chown(self, path: bytes, uid: int, gid: int) -> None:
        inode = self.inode(path)
        self.run(lambda: change_owner(self.task, inode, uid, gid))  # type: ignore[arg-type]

    def utime(self, path: bytes, atime_ns: int | None, mtime_ns: int | None) -> None:
        inode = self.inode(path)
        self.run(
            lambda: change_times(self.task, inode, atime_ns, mtime_ns, to_now=False)  # type: ignore[arg-type]
        )

    def truncate(self, path: bytes, size: int) -> None:
        inode = self.inode(path, follow=True)
        if not inode.is_reg:
            raise Errno.EISDIR if inode.is_dir else Errno.EINVAL
        self.run(lambda: truncate_inode(self.task, inode, size))  # type: ignore[arg-type]


def host_tree(path: str | os.PathLike[str], prefix: bytes = b"") -> dict[bytes, tuple[Any, ...]]:
    """What `Rig.tree` would answer of a host directory."""
    found: dict[bytes, tuple[Any, ...]] = {}
    for name in os.listdir(os.fsencode(path)):
        full, child = os.path.join(os.fsencode(path), name), prefix + b"/" + name
        status = os.lstat(full)
        if stat.S_ISDIR(status.st_mode):
            found[child] = (oct(status.st_mode), status.st_nlink)
            found.update(host_tree(os.fsdecode(full), child))
        elif stat.S_ISLNK(status.st_mode):
            found[child] = ("link", os.readlink(full))
        else:
            with open(full, "rb") as file:
                contents = file.read()
            found[child] = (oct(status.st_mode), status.st_nlink, status.st_size, contents)
    return found
