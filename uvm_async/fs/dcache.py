"""The dentry cache: names of each file system, one tree per super block.

Linux: fs/dcache.c, fs/d_path.c.  What is here is only bookkeeping (all `def`);
asking the file system is `fs/namei.py`.

Invariants:
- a dentry is *hashed* when its parent's `children` holds it under its name;
  one that was removed or replaced keeps name, parent and inode for those who
  have it open, but is not hashed any more;
- a directory has at most one hashed dentry, so a path is found by climbing;
- a negative entry (inode None) may be dropped at any time, except by whoever
  does not hold the directory's lock while it is being made positive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvm_async.errors import Errno
from uvm_async.fs.inode import Dentry, Path

if TYPE_CHECKING:
    from uvm_async.fs.inode import Inode

__all__ = [
    "INTERNAL_MOUNT",
    "d_absolute",
    "d_add",
    "d_delete",
    "d_exchange",
    "d_hashed",
    "d_is_ancestor",
    "d_move",
    "d_path",
]

INTERNAL_MOUNT = 1 << 22
"""Mount flag (Linux: MS_KERNMOUNT): pipes and anonymous files, whose name is all there is."""

NEGATIVE_SWEEP = 1024
"""Negative entries are swept from a directory each time its cache grows by so many names."""


def d_hashed(dentry: Dentry) -> bool:
    """Is it (still) what a walk finds under its name?"""
    parent = dentry.parent
    return parent is None or parent.children.get(dentry.name) is dentry


def d_add(parent: Dentry, name: bytes, inode: Inode | None) -> Dentry:
    """Remember what a name stands for; None: that it does not exist."""
    children = parent.children
    if inode is None and len(children) % NEGATIVE_SWEEP == NEGATIVE_SWEEP - 1:
        for stale in [n for n, child in children.items() if child.inode is None]:
            del children[stale]
    dentry = Dentry(name, parent, inode)
    if inode is not None or (parent.inode is not None and parent.inode.cache_names):
        children[name] = dentry
    else:
        children.pop(name, None)
    return dentry


def d_delete(dentry: Dentry) -> None:
    """The name is gone; a negative entry takes its place."""
    parent = dentry.parent
    if parent is not None and parent.children.get(dentry.name) is dentry:
        del parent.children[dentry.name]
        d_add(parent, dentry.name, None)


def d_move(dentry: Dentry, parent: Dentry, name: bytes) -> None:
    """It is called `name` in `parent` now; what stood there is unhashed."""
    d_delete(dentry)
    dentry.parent, dentry.name = parent, name
    parent.children[name] = dentry


def d_exchange(one: Dentry, other: Dentry) -> None:
    """Two names change places."""
    assert one.parent is not None and other.parent is not None
    one.parent, one.name, other.parent, other.name = other.parent, other.name, one.parent, one.name
    one.parent.children[one.name] = one
    other.parent.children[other.name] = other


def d_is_ancestor(ancestor: Dentry, dentry: Dentry) -> bool:
    """Is `ancestor` above `dentry`, or the same?"""
    current: Dentry | None = dentry
    while current is not None:
        if current is ancestor:
            return True
        current = current.parent
    return False


def d_absolute(root: Path, path: Path) -> tuple[bytes, bool]:
    """The name of `path` seen from `root`, and whether it lies below that root."""
    mount, dentry = path.mount, path.dentry
    if mount.flags & INTERNAL_MOUNT:
        return dentry.name, True
    names: list[bytes] = []
    reachable = True
    while mount is not root.mount or dentry is not root.dentry:
        if dentry is not mount.root and dentry.parent is not None:
            names.append(dentry.name)
            dentry = dentry.parent
        elif mount.parent is not None and mount.mountpoint is not None:
            dentry, mount = mount.mountpoint, mount.parent
        else:
            reachable = False
            break
    return b"/" + b"/".join(reversed(names)), reachable


def d_path(root: Path, path: Path, *, for_getcwd: bool = False) -> bytes:
    """What /proc/PID/fd and getcwd(2) show. Raises ENOENT (getcwd of a removed directory)."""
    text, reachable = d_absolute(root, path)
    if path.mount.flags & INTERNAL_MOUNT:
        return text
    if not d_hashed(path.dentry):
        if for_getcwd:
            raise Errno.ENOENT
        text += b" (deleted)"
    if for_getcwd and not reachable:
        text = b"(unreachable)" + text
    return text
