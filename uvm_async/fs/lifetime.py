"""When inodes, mounts and open files end.  This file is the only owner of that.

Linux: fs/inode.c (iput), fs/file_table.c (fput), fs/namespace.c (mntput).

An inode ends (`evict`, once) when it has no name (`nlink == 0`) and no user
(`opens == 0`): open files, mappings (each holds its file), working directories,
and calls that go on using a place they looked up.  Whoever looked a place up and
then awaits must hold it: `async with held(path): ...`.

`fput` is async because a release may write back or free blocks.  Where the last
reference is dropped by a coroutine that is being thrown away (an interruptible
sleep, see sched/wait.py) nothing may be awaited: the file waits in
`FdTable.deferred` for the table's next user.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from uvm_async.fs.fdtable import FdTable
    from uvm_async.fs.inode import File, Inode, Path
    from uvm_async.kernel.task import Task

__all__ = ["fput", "held", "held_fd", "inode_unlinked", "iput", "path_get", "path_put"]


def path_get(path: Path) -> Path:
    """Hold a place: its inode stays, its file system cannot be unmounted."""
    path.inode.opens += 1
    path.mount.users += 1
    return path


async def path_put(path: Path) -> None:
    """Let go of a place."""
    mount = path.mount
    mount.users -= 1
    inode = path.inode
    await iput(inode)
    if not mount.users and mount.parent is None:
        await inode.sb.kernel.mounts.put(mount)


async def iput(inode: Inode) -> None:
    """One user less; without users and names the inode is freed."""
    inode.opens -= 1
    if inode.opens == 0 and inode.nlink == 0:
        await inode.evict()


async def inode_unlinked(inode: Inode) -> None:
    """A name of it was removed (its `nlink` says what is left)."""
    if inode.opens == 0 and inode.nlink == 0:
        await inode.evict()


async def fput(file: File) -> None:
    """One reference less; without any the file is released."""
    file.refs -= 1
    if file.refs == 0:
        await _release(file)


async def _release(file: File) -> None:
    if file.watchers:
        for item in list(file.watchers):
            item.detach()
    path = file.path
    if path is not None and path.inode.locks is not None:
        path.inode.locks.forget(file)
    await file.release()
    if path is not None:
        await path_put(path)


class held:
    """`async with held(path)`: nothing at `path` ends in the meantime."""

    __slots__ = ("path",)

    def __init__(self, path: Path) -> None:
        self.path = path

    async def __aenter__(self) -> Path:
        return path_get(self.path)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await path_put(self.path)


class held_fd:
    """`async with held_fd(task, fd) as file`: the file lives as long as the body.

    Raises EBADF. `raw`: files opened with O_PATH too.
    """

    __slots__ = ("file", "files")

    def __init__(self, task: Task, fd: int, *, raw: bool = False) -> None:
        self.files: FdTable = task.files
        self.file: File = self.files.get_raw(fd) if raw else self.files.get(fd)

    async def __aenter__(self) -> File:
        self.file.refs += 1
        return self.file

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        file = self.file
        if file.refs == 1 and kind is GeneratorExit:
            self.files.deferred.append(file)
        else:
            await fput(file)
