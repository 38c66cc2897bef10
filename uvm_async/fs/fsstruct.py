"""Where a task stands in the tree: root, working directory, umask.

Linux: include/linux/fs_struct.h, fs/fs_struct.c.  Shared by tasks that were
cloned with CLONE_FS (`share`), copied otherwise (`copy`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvm_async.fs.lifetime import path_get, path_put
from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.fs.inode import Path

__all__ = ["FsStruct"]


class FsStruct(Entity):
    """Holds the two places as long as it has users."""

    def __init__(self, root: Path, cwd: Path | None = None, umask: int = 0o022) -> None:
        self.root = path_get(root)
        self.cwd = path_get(cwd if cwd is not None else root)
        self.umask = umask
        self.users = 1

    def share(self) -> FsStruct:
        """CLONE_FS: one more task uses it."""
        self.users += 1
        return self

    def copy(self) -> FsStruct:
        """One of its own, as fork gives it."""
        return FsStruct(self.root, self.cwd, self.umask)

    async def put(self) -> None:
        """A task that used it is gone."""
        self.users -= 1
        if self.users == 0:
            await path_put(self.cwd)
            await path_put(self.root)

    async def set_cwd(self, cwd: Path) -> None:
        """chdir(2); whether it may is the caller's business."""
        old, self.cwd = self.cwd, path_get(cwd)
        await path_put(old)

    async def set_root(self, root: Path) -> None:
        """chroot(2)."""
        old, self.root = self.root, path_get(root)
        await path_put(old)
