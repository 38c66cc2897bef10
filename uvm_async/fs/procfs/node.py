"""procfs: nodes: what a name is, said in tables, and the inodes made from them.

Linux: fs/proc/generic.c, fs/proc/base.c, fs/seq_file.c.  A table says for each name
what it is: a `Text` (a function of a task that answers the contents), a `Link`, or
a `Dir` (a class of inodes).  The functions are plain module-level ones, so that
inodes are plain state.

The task a function gets is the one the directory is about (/proc/PID/...), or the
reader's where it is about nobody (/proc/meminfo).

Invariants:
- one inode for each path as long as its task lives, so a directory that somebody
  stands in keeps its name;
- an inode's number is a function of its path;
- contents are made when a read begins at 0, and kept for the reads that go on.
"""

from __future__ import annotations

import stat
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from uvm_async.errors import Errno
from uvm_async.fs.inode import DirEntry, File, Inode, Path, SuperBlock
from uvm_async.kernel.task import TaskState

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task
    from uvm_async.mm.iov import IovIter
    from uvm_async.mm.mm import Mm

__all__ = [
    "Dir",
    "Link",
    "Node",
    "ProcDir",
    "ProcInode",
    "ProcLink",
    "ProcText",
    "Text",
    "alive",
    "mm_of",
]

O_APPEND: Final = 0o2000
WRITE_LIMIT_BYTES: Final = 4096

Show = Callable[["Task"], bytes | Awaitable[bytes]]
Store = Callable[["Task", bytes], None]
Target = Callable[["Task"], bytes | Path]


@dataclass(frozen=True, slots=True)
class Text:
    """A file: `show(task)` answers the contents, `store(task, data)` takes what is written."""

    show: Show
    mode: int = 0o444
    store: Store | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """A symlink: `target(task)` is its text, or the place it leads to (a magic link)."""

    target: Target
    mode: int = 0o777


@dataclass(frozen=True, slots=True)
class Dir:
    """A directory whose inode is of class `make`."""

    make: type[ProcDir]
    mode: int = 0o555


Node = Text | Link | Dir


def alive(task: Task) -> bool:
    """Is it still one of the machine's tasks (zombies are)?"""
    return task.kernel.tasks.get(task.pid) is task


def mm_of(task: Task) -> Mm | None:
    """Its memory; None once it has exited."""
    if task.state in (TaskState.ZOMBIE, TaskState.DEAD) or task.process.zombie:
        return None
    return task.mm if task.mm.users else None


class ProcInode(Inode):
    """Any inode of procfs."""

    def __init__(
        self, sb: SuperBlock, path: bytes, mode: int, target: Task | None, *, nlink: int = 1
    ) -> None:
        now = sb.kernel.clock.realtime_ns()
        super().__init__(sb, zlib.crc32(path) or 1, mode, nlink=nlink, now_ns=now)
        self.path = path
        self.target = target
        """The task it is about; None: whoever looks."""
        self.blksize = 1024
        self.own()

    def own(self) -> None:
        """It belongs to the task's effective user."""
        if self.target is not None:
            self.uid, self.gid = self.target.cred.euid, self.target.cred.egid

    async def refresh(self) -> None:
        self.own()

    def subject(self, reader: Task) -> Task:
        """The task it is about. Raises ESRCH once that is gone."""
        if self.target is None:
            return reader
        if not alive(self.target):
            raise Errno.ESRCH
        return self.target

    async def setattr(
        self,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
        ctime_ns: int | None = None,
    ) -> None:
        """Files may be cut to nothing (O_TRUNC), which does nothing. Raises EPERM."""
        if mode is not None or uid is not None or gid is not None:
            raise Errno.EPERM


class ProcText(ProcInode):
    """A file made of text."""

    def __init__(self, sb: SuperBlock, path: bytes, node: Text, target: Task | None) -> None:
        super().__init__(sb, path, stat.S_IFREG | node.mode, target)
        self.show = node.show
        self.store = node.store

    async def contents(self, reader: Task) -> bytes:
        """What it says now. Raises ESRCH."""
        made = self.show(self.subject(reader))
        return made if isinstance(made, bytes) else await made

    async def open(self, task: Task, path: Path, flags: int) -> File:
        self.subject(task)
        return ProcFile(path, flags)


class ProcFile(File):
    """An open `ProcText`."""

    seekable: ClassVar[bool] = True

    def __init__(self, path: Path, flags: int) -> None:
        super().__init__(path, flags)
        self.contents: bytes | None = None

    @property
    def text(self) -> ProcText:
        inode = self.inode
        assert isinstance(inode, ProcText)
        return inode

    async def read_iter(self, task: Task, it: IovIter, pos: int | None = None) -> int:
        start = self.pos if pos is None else pos
        if self.contents is None or start == 0:
            self.contents = await self.text.contents(task)
        done = await it.copy_to(self.contents[start : start + it.count])
        if pos is None:
            self.pos = start + done
        return done

    async def write_iter(self, task: Task, it: IovIter, pos: int | None = None) -> int:
        """Raises EINVAL (nothing can be written, or not this), ESRCH."""
        text = self.text
        if text.store is None:
            raise Errno.EINVAL
        data = await it.copy_from(min(it.count, WRITE_LIMIT_BYTES))
        text.store(text.subject(task), data)
        return len(data)

    async def llseek(self, offset: int, whence: int) -> int:
        """Raises EINVAL; there is no end to seek from."""
        pos = offset + (self.pos if whence == 1 else 0)
        if whence not in (0, 1) or pos < 0:
            raise Errno.EINVAL
        self.pos = pos
        return pos


class ProcLink(ProcInode):
    """A symlink."""

    def __init__(self, sb: SuperBlock, path: bytes, node: Link, target: Task | None) -> None:
        super().__init__(sb, path, stat.S_IFLNK | node.mode, target)
        self.leads_to = node.target

    async def get_link(self, task: Task) -> bytes | Path:
        """Raises ENOENT, ESRCH."""
        return self.leads_to(self.subject(task))


class ProcDir(ProcInode):
    """A directory whose names are in `table`. Subclasses may add names of their own."""

    table: ClassVar[Mapping[bytes, Node]] = {}

    def __init__(self, sb: SuperBlock, path: bytes, target: Task | None, mode: int = 0o555) -> None:
        super().__init__(sb, path, stat.S_IFDIR | mode, target, nlink=2)
        self.children: dict[bytes, ProcInode] = {}
        self.nlink += sum(1 for node in self.table.values() if isinstance(node, Dir))

    def child_path(self, name: bytes) -> bytes:
        return self.path + b"/" + name

    # Nothing can be made here, and Linux calls that ENOENT (proc has no such operations).

    async def create(self, name: bytes, mode: int, uid: int, gid: int, rdev: int = 0) -> Inode:
        raise Errno.ENOENT

    async def mkdir(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        raise Errno.ENOENT

    async def symlink(self, name: bytes, target: bytes, uid: int, gid: int) -> Inode:
        raise Errno.ENOENT

    def make(self, name: bytes, node: Node) -> ProcInode:
        """The inode of an entry, made at first use."""
        inode = self.children.get(name)
        if inode is None:
            path = self.child_path(name)
            if isinstance(node, Text):
                inode = ProcText(self.sb, path, node, self.target)
            elif isinstance(node, Link):
                inode = ProcLink(self.sb, path, node, self.target)
            else:
                inode = node.make(self.sb, path, self.target, node.mode)
            self.children[name] = inode
        inode.own()
        return inode

    async def lookup(self, name: bytes) -> Inode:
        if self.target is not None and not alive(self.target):
            raise Errno.ENOENT
        node = self.table.get(name)
        if node is None:
            raise Errno.ENOENT
        return self.make(name, node)

    def entry(self, name: bytes, node: Node, cookie: int) -> DirEntry:
        kind = stat.S_IFREG
        if isinstance(node, Link):
            kind = stat.S_IFLNK
        elif isinstance(node, Dir):
            kind = stat.S_IFDIR
        return DirEntry(name, zlib.crc32(self.child_path(name)) or 1, kind >> 12, cookie)

    async def readdir(self, pos: int, limit: int) -> list[DirEntry]:
        if self.target is not None and not alive(self.target):
            raise Errno.ENOENT
        names = list(self.table.items())[pos : pos + limit]
        return [
            self.entry(name, node, pos + number) for number, (name, node) in enumerate(names, 1)
        ]


class NumberedDir(ProcDir):
    """A directory of numbers that come and go by themselves, after what is in `table`."""

    cache_names: ClassVar[bool] = False

    def numbers(self) -> list[int]:
        """What is there now, in ascending order."""
        raise NotImplementedError

    def node(self, number: int) -> Node:
        """What a number that is there is."""
        raise NotImplementedError

    def numbered(self, number: int) -> ProcInode:
        """The inode of a number that is there."""
        return self.make(b"%d" % number, self.node(number))

    async def lookup(self, name: bytes) -> Inode:
        number = int(name) if name.isdigit() and (name == b"0" or name[0] != 0x30) else -1
        if number >= 0:
            if self.target is not None and not alive(self.target):
                raise Errno.ENOENT
            if number in self.numbers():
                return self.numbered(number)
            self.children.pop(name, None)
            raise Errno.ENOENT
        return await super().lookup(name)

    async def readdir(self, pos: int, limit: int) -> list[DirEntry]:
        found = await super().readdir(pos, limit) if pos < len(self.table) else []
        first = len(self.table) + 1  # cookie of number 0
        for number in self.numbers():
            if len(found) >= limit:
                break
            if first + number > pos:
                found.append(self.entry(b"%d" % number, self.node(number), first + number))
        return found
