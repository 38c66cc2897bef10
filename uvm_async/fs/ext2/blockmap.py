"""From a file's block numbers to the disk's: direct and indirect blocks.

Linux: fs/ext2/inode.c (ext2_get_branch, ext2_truncate_blocks).  Twelve blocks are
named in the inode; the rest by trees of one, two and three levels of pointer
blocks ("nodes"), whose leaves are the data blocks.  Extents will be a second
implementation of these five functions.

Invariants:
- a pointer is set after what it points to is ready, and cleared before that is
  freed; both within one handle;
- changers hold the inode's `map_lock` (directories: the VFS's lock); readers need
  none, since each pointer changes at one instant;
- every pointer read from the disk is checked before it is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from uvm_async.errors import Errno
from uvm_async.fs.ext2.balloc import alloc_blocks, free_blocks
from uvm_async.fs.ext2.layout import DIRECT_BLOCKS

if TYPE_CHECKING:
    from uvm_async.fs.ext2.inode import Ext2Inode
    from uvm_async.fs.ext2.superblock import Ext2SuperBlock

__all__ = ["Run", "allocate", "map_blocks", "max_file_bytes", "missing_nodes", "truncate"]

NodeKey = tuple[int, int]
"""A pointer block: (its level: 1 names data, first file block it covers)."""


@dataclass(slots=True, frozen=True)
class Run:
    """`count` blocks of the file from `lblk` on lie at `phys` on the disk (0: a hole)."""

    lblk: int
    phys: int
    count: int


@dataclass(slots=True, frozen=True)
class _Place:
    """Where the pointer to a file block is: `offsets[0]` in the inode, the rest in nodes."""

    offsets: tuple[int, ...]
    nodes: tuple[NodeKey, ...]
    in_leaf: int
    """How many blocks from this one on have their pointers in the same table."""


def _locate(sb: Ext2SuperBlock, lblk: int) -> _Place:
    per = sb.pointers
    if lblk < DIRECT_BLOCKS:
        return _Place((lblk,), (), DIRECT_BLOCKS - lblk)
    base = DIRECT_BLOCKS
    for level in (1, 2, 3):
        span = per**level
        if lblk < base + span:
            offsets = [DIRECT_BLOCKS + level - 1]
            nodes = []
            rest = lblk - base
            first = base
            for depth in range(level, 0, -1):
                nodes.append((depth, first))
                at, rest = divmod(rest, per ** (depth - 1))
                offsets.append(at)
                first += at * per ** (depth - 1)
            return _Place(tuple(offsets), tuple(nodes), per - offsets[-1])
        base += span
    raise Errno.EFBIG


def max_file_bytes(block_size: int) -> int:
    """The longest file: what the trees can name, and what i_blocks can count."""
    per = block_size // 4
    named = DIRECT_BLOCKS + per + per**2 + per**3
    counted = (1 << 32) * 512 // block_size
    # The nodes are counted too.
    for level in (1, 2, 3):
        nodes = -(-counted // per**level)
        counted -= nodes if level < 3 else 0
    return min(named, counted) * block_size


async def _table(inode: Ext2Inode, block: int) -> memoryview:
    """The pointers in a node. Good until the next await."""
    buffer = await inode.ext2.cache.bread(block)
    return memoryview(buffer.data).cast("I")


async def _leaf(inode: Ext2Inode, place: _Place) -> tuple[int, int]:
    """Walk to the node that names the block: (its block, 0), or (0, how many nodes lack)."""
    block = inode.block[place.offsets[0]]
    for depth in range(len(place.nodes)):
        if block == 0:
            return 0, len(place.nodes) - depth
        inode.ext2.check_blocks(block, 1, f"inode {inode.ino}: pointer block")
        if depth == len(place.nodes) - 1:
            return block, 0
        block = (await _table(inode, block))[place.offsets[depth + 1]]
    raise AssertionError("not for direct blocks")


async def map_blocks(inode: Ext2Inode, lblk: int, count: int) -> list[Run]:
    """The runs that make up file blocks [lblk, lblk + count), holes included. Raises EIO, EFBIG."""
    sb = inode.ext2
    runs: list[Run] = []
    while count > 0:
        place = _locate(sb, lblk)
        here = min(count, place.in_leaf)
        if not place.nodes:
            numbers = inode.block[lblk : lblk + here]
        else:
            leaf, _ = await _leaf(inode, place)
            at = place.offsets[-1]
            numbers = (await _table(inode, leaf))[at : at + here].tolist() if leaf else [0] * here
        _append_runs(sb, runs, lblk, numbers)
        lblk += here
        count -= here
    for run in runs:
        if run.phys:
            sb.check_blocks(run.phys, run.count, f"inode {inode.ino}: block {run.lblk}")
    return runs


def _append_runs(sb: Ext2SuperBlock, runs: list[Run], lblk: int, numbers: list[int]) -> None:
    at = 0
    while at < len(numbers):
        phys = numbers[at]
        end = at + 1
        if phys:
            while end < len(numbers) and numbers[end] == phys + end - at:
                end += 1
        else:
            while end < len(numbers) and numbers[end] == 0:
                end += 1
        last = runs[-1] if runs else None
        if last and ((last.phys and phys == last.phys + last.count) or last.phys == phys == 0):
            runs[-1] = Run(last.lblk, last.phys, last.count + end - at)
        else:
            runs.append(Run(lblk + at, phys, end - at))
        at = end


async def missing_nodes(inode: Ext2Inode, lblk: int) -> tuple[tuple[NodeKey, ...], int]:
    """The pointer blocks that must be made before `lblk` can be mapped, and for how many
    blocks from there on the answer is the same. Raises EIO, EFBIG."""
    place = _locate(inode.ext2, lblk)
    if not place.nodes:
        return (), place.in_leaf
    _, lacking = await _leaf(inode, place)
    return place.nodes[len(place.nodes) - lacking :], place.in_leaf


async def allocate(inode: Ext2Inode, lblk: int, count: int) -> Run:
    """Map a hole that begins at `lblk`; answers what was mapped, at most `count` blocks.

    Takes what the inode has reserved, if it has. Within a handle. Raises ENOSPC, EIO.
    """
    sb = inode.ext2
    place = _locate(sb, lblk)
    goal = await _goal(inode, lblk)
    holder = 0  # the node that holds the pointer; 0: the inode
    block = 0
    for depth, key in enumerate(place.nodes):
        at = place.offsets[depth]
        block = (await _table(inode, holder))[at] if holder else inode.block[at]
        if block == 0:
            block, _ = await alloc_blocks(sb, goal, 1, promised=inode.promised_node(key))
            sb.cache.mark_dirty(sb.cache.getblk(block))
            inode.charge(1)
            inode.keep_promise_node(key)
            await _point(inode, holder, at, [block])
            goal = block + 1
        sb.check_blocks(block, 1, f"inode {inode.ino}: pointer block")
        holder = block
    at = place.offsets[-1]
    most, promised = inode.promised_run(lblk, min(count, place.in_leaf))
    first, taken = await alloc_blocks(sb, goal, most, promised=promised)
    sb.cache.forget(first, taken)
    inode.charge(taken)
    if promised:
        inode.keep_promise(lblk, taken)
    await _point(inode, holder, at, list(range(first, first + taken)))
    return Run(lblk, first, taken)


async def _point(inode: Ext2Inode, holder: int, at: int, blocks: list[int]) -> None:
    if not holder:
        inode.block[at : at + len(blocks)] = blocks
        inode.mark_dirty()
        return
    sb = inode.ext2
    try:
        buffer = await sb.cache.bread(holder)
    except Errno.EIO:
        inode.charge(-len(blocks))
        await free_blocks(sb, blocks[0], len(blocks))
        raise
    memoryview(buffer.data).cast("I")[at : at + len(blocks)] = memoryview(
        b"".join(block.to_bytes(4, "little") for block in blocks)
    ).cast("I")
    sb.cache.mark_dirty(buffer)


async def _goal(inode: Ext2Inode, lblk: int) -> int:
    """Behind the block before; else the beginning of the inode's group."""
    if lblk > 0:
        (before,) = await map_blocks(inode, lblk - 1, 1)
        if before.phys:
            return before.phys + 1
    return inode.ext2.groups[inode.group].first_block


async def truncate(inode: Ext2Inode, lblk: int) -> None:
    """Unmap and free all blocks from `lblk` on, and nodes that name nothing else.

    Within a handle. Raises EIO.
    """
    sb = inode.ext2
    freed: list[int] = []
    for at in range(lblk, DIRECT_BLOCKS):
        if inode.block[at]:
            freed.append(inode.block[at])
            inode.block[at] = 0
    base = DIRECT_BLOCKS
    for level in (1, 2, 3):
        at = DIRECT_BLOCKS + level - 1
        span = sb.pointers**level
        if inode.block[at] and lblk < base + span:
            keep = max(0, lblk - base)
            await _prune(inode, inode.block[at], level, keep, freed)
            if keep == 0:
                inode.block[at] = 0
        base += span
    inode.mark_dirty()
    inode.charge(-len(freed))
    for start, count in _gather(freed):
        await free_blocks(sb, start, count)


async def _prune(inode: Ext2Inode, node: int, level: int, keep: int, freed: list[int]) -> None:
    """Free what `node` names beyond its first `keep` data blocks, and itself if none is kept."""
    sb = inode.ext2
    sb.check_blocks(node, 1, f"inode {inode.ino}: pointer block")
    span = sb.pointers ** (level - 1)
    numbers = (await _table(inode, node)).tolist()
    first = keep // span
    for at in range(first, len(numbers)):
        child = numbers[at]
        if child and level > 1:
            await _prune(inode, child, level - 1, max(0, keep - at * span), freed)
        elif child:
            freed.append(child)
    if keep == 0:
        freed.append(node)
        return
    first += keep % span > 0  # the one that is kept in part
    buffer = await sb.cache.bread(node)
    buffer.data[first * 4 :] = bytes(len(buffer.data) - first * 4)
    sb.cache.mark_dirty(buffer)


def _gather(blocks: list[int]) -> list[tuple[int, int]]:
    """Sorted (start, count) runs."""
    runs: list[tuple[int, int]] = []
    for block in sorted(blocks):
        if runs and block == runs[-1][0] + runs[-1][1]:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((block, 1))
    return runs
