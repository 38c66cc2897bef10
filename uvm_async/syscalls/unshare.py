"""unshare: what threads share, made one's own again. Linux: kernel/fork.c (ksys_unshare)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.syscalls.table import ULong, syscall

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

__all__: list[str] = []

CLONE_VM, CLONE_FS, CLONE_FILES, CLONE_SIGHAND = 0x100, 0x200, 0x400, 0x800
CLONE_THREAD, CLONE_SYSVSEM = 0x10000, 0x40000
KNOWN: Final = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM


@syscall("unshare", missing="Namespaces: there is one of each kind (EINVAL).")
async def sys_unshare(task: Task, flags: ULong) -> int:
    """Stop sharing descriptors or directories with other tasks. man 2 unshare."""
    if flags & ~KNOWN:
        raise Errno.EINVAL
    alone = len(task.process.tasks) == 1
    if flags & (CLONE_THREAD | CLONE_SIGHAND | CLONE_VM) and not (
        alone and task.sighand.users == 1 and (len(task.mm.tasks) == 1 or not flags & CLONE_VM)
    ):
        raise Errno.EINVAL
    if flags & CLONE_FS:
        old_fs = task.fs
        task.fs = old_fs.copy()
        await old_fs.put()
    if flags & CLONE_FILES and task.files.users > 1:
        old_files = task.files
        task.files = old_files.copy()
        await old_files.put(task)
    return 0
