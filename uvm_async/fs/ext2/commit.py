"""Handles and commits: how metadata reaches the disk in an order that survives a crash.

Linux: fs/jbd2 for handles and commits; soft updates (McKusick and Ganger) for the
order.  There is no journal here, but the same shape: ext4's will replace
`Commits._write`.

Whoever changes metadata holds a *handle*.  A commit waits until no handle is held,
takes a copy of all that is dirty, lets the world go on, and writes the copy by
ranks, with a flush after each:

1. INODES: inodes that have a name, pointer blocks, bitmaps, descriptors, counts;
2. NAMES: directory blocks;
3. REMOVALS: directory blocks from which a name was taken whose inode has another
   name, in a block of rank 2: the new name is there before the old one goes;
4. FREED: inodes without a name, and the list of orphans.

So after a crash at any moment, once `e2fsck -fy` has run, a file that was once
stable has its contents (what it had is freed last, and not handed out again before
that: see group.py) and its old name, its new one, or both.

Invariants:
- a commit ends with a disk that `e2fsck -fn` calls clean (but for orphans that are
  still open);
- at most two ranks of names: where a third would be needed, a commit comes first
  (`removal_rank`);
- a handle is never asked for with a `map_lock` held or within another handle.

Lock order: VFS inode locks, handle (or commit lock), `map_lock`, buffer cache lock.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from uvm_async.block.buffer import DirtySet
from uvm_async.errors import Errno
from uvm_async.sched.wait import Mutex, WaitQueue, wait_for
from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.fs.ext2.superblock import Ext2SuperBlock

__all__ = ["RANK_FREED", "RANK_INODES", "RANK_NAMES", "RANK_REMOVALS", "Commits", "Handle"]

RANK_INODES, RANK_NAMES, RANK_REMOVALS, RANK_FREED = range(4)


class Handle:
    """The right to change metadata, for the length of an `async with`."""

    __slots__ = ("_commits",)

    def __init__(self, commits: Commits) -> None:
        self._commits = commits

    async def __aenter__(self) -> Handle:
        await self._commits.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._commits.stop()

    async def restart(self) -> None:
        """Commit what has been done so far, and go on. Raises EIO, EROFS."""
        self._commits.stop()
        try:
            await self._commits.commit()
        finally:
            await self._commits.start(always=True)

    async def room(self, blocks: int = 8) -> None:
        """If so many blocks (or one inode) can be had only by a commit, commit. Raises EIO."""
        sb = self._commits.sb
        short = sb.available_blocks < blocks and sb.frozen_blocks
        if short or (sb.free_inodes == sb.frozen_inodes and sb.frozen_inodes):
            await self.restart()

    async def removal_rank(self, ino: int, block: int) -> int:
        """The rank of a directory block from which a name of a living inode is about to go.
        Commits first if there is no such rank. Raises EIO."""
        return await self._commits.removal_rank(self, ino, block)


class Commits(Entity):
    """The handles and commits of one file system."""

    def __init__(self, sb: Ext2SuperBlock) -> None:
        self.sb = sb
        self.handles = 0
        self.closed = False
        """A commit takes its copy: no handle may start."""
        self.idle = WaitQueue()
        self.opened = WaitQueue()
        self.lock = Mutex()
        """One commit at a time."""
        self.added: dict[int, list[int]] = {}
        """Since the last commit: directory blocks in which an inode got a name."""
        self.early: dict[int, None] = {}
        """Directory blocks that must be written before one of `late`."""
        self.late: dict[int, None] = {}

    # -- handles

    async def start(self, *, always: bool = False) -> None:
        """Begin a handle. Raises EROFS (unless `always`, to balance a `stop`), EIO."""
        while True:
            if self.sb.read_only and not always:
                raise Errno.EROFS
            if self.closed:
                await wait_for(self.opened)
            elif self.sb.cache.over_limit and not always:
                await self.commit()
            else:
                self.handles += 1
                return

    def stop(self) -> None:
        """End a handle."""
        self.handles -= 1
        if self.handles == 0:
            self.idle.wake_up()

    # -- the order of names

    def name_added(self, ino: int, block: int) -> None:
        """Inode `ino` has a new name, in directory block `block`."""
        blocks = self.added.setdefault(ino, [])
        if block not in blocks:
            blocks.append(block)

    async def removal_rank(self, handle: Handle, ino: int, block: int) -> int:
        others = [at for at in self.added.get(ino, ()) if at != block]
        if not others:
            return RANK_NAMES
        if block in self.early or any(at in self.late for at in others):
            await handle.restart()
            return RANK_NAMES
        self.early.update(dict.fromkeys(others))
        self.late[block] = None
        return RANK_REMOVALS

    # -- commits

    async def commit(self) -> None:
        """Make all metadata stable that is dirty now. Raises EIO."""
        sb = self.sb
        async with self.lock:
            sb.check_sound()
            if sb.read_only:
                return
            order = self.added, self.early, self.late
            self.closed = True
            try:
                while self.handles:
                    await wait_for(self.idle)
                sb.check_sound()
                taken = await self._take()
            finally:
                self.closed = False
                self.opened.wake_up()
            try:
                await sb.cache.write_out(taken)
            except BaseException:
                sb.thaw(stable=False)
                self._restore_order(*order)
                raise
            if sb.discards:
                await sb.discard_freed()
            sb.thaw(stable=True)

    async def _take(self) -> DirtySet:
        """A copy of all that is dirty. No handle is held, and none starts meanwhile."""
        sb = self.sb
        nameless = [inode for inode in sb.dirty_inodes.values() if inode.nlink == 0]
        for inode in [inode for inode in sb.dirty_inodes.values() if inode.nlink]:
            await sb.store_inode(inode)
            sb.dirty_inodes.pop(inode.ino, None)
        await sb.store_groups()
        await sb.store_counts()
        taken = sb.cache.take_dirty()
        if sb.orphans_changed:
            nameless += [inode for inode in sb.orphans.values() if inode not in nameless]
            sb.chain_orphans()
        for inode in nameless:
            await sb.store_inode(inode, RANK_FREED)
            sb.dirty_inodes.pop(inode.ino, None)
        if sb.orphans_changed:
            await sb.store_orphan_head()
            sb.orphans_changed = False
        taken.extend(sb.cache.take_dirty())
        sb.freeze()
        self.added, self.early, self.late = {}, {}, {}
        return taken

    def _restore_order(
        self, added: dict[int, list[int]], early: dict[int, None], late: dict[int, None]
    ) -> None:
        """The commit failed: its blocks are dirty again, and bound by the same order."""
        for ino, blocks in added.items():
            for block in blocks:
                self.name_added(ino, block)
        self.early = early | self.early
        self.late = late | self.late
