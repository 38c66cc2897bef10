"""Random sequences of system calls end on ext2 as they end on the host's tmpfs."""

from __future__ import annotations

import itertools
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fs.driver import Sim, user
from fs.test_model import FURNITURE, OPERATIONS, Player, compare_trees
from fs.twins import BASE, Guest, Host, Twins, comparable_stat, read_directory
from support.ext2rig import Workers, fsck, make_image
from uvm_async.block.blkdev import attach_disk
from uvm_async.block.disk import Disk
from uvm_async.errors import Errno
from uvm_async.fs.ext2.mount import mount_device
from uvm_async.sched.wait import host

UNLIKE_TMPFS = {"fallocate", "mknod"}
"""What ext2 does not do; what the host's tmpfs does only for some users."""


def alike(operation: tuple[Any, ...]) -> bool:
    """Is the answer the same on every file system?"""
    return operation[0] not in UNLIKE_TMPFS and not (operation[0] == "rename" and operation[3] & 8)


class Ext2Guest(Guest):
    """Our VFS, on an ext2 disk."""

    def __init__(self, image: Path) -> None:
        self.sim = Sim.boot()
        kernel: Any = self.sim.kernel
        kernel.workers = Workers()
        kernel.printk = self.complain
        self.messages: list[str] = []
        self.task = self.sim.task()
        self.handles: list[int] = []
        assert self.call("mkdir", b"/mnt", 0o755) == 0
        self.disk = self.sim.finish(host(Disk.open(kernel, image)))
        self.sb = self.sim.finish(
            mount_device(kernel, attach_disk(kernel, self.disk), read_only=False)
        )
        root = self.sim.root
        where = type(root)(root.mount, root.dentry.children[b"mnt"])
        self.mount = self.sim.finish(kernel.mounts.attach(self.sb, where))
        path = b"/mnt"
        for part in BASE.split(b"/"):
            path += b"/" + part
            assert self.call("mkdir", path, 0o755) == 0
        assert self.call("chown", path, os.geteuid(), os.getegid()) == 0
        if os.geteuid():
            self.task.cred = user(os.geteuid(), os.getegid(), *os.getgroups())
        self.base = self.call("open", path, os.O_RDONLY | os.O_DIRECTORY, 0)

    def complain(self, message: str) -> None:
        self.messages.append(message)

    def close(self) -> None:
        for fd in (*self.handles, self.base):
            self.call("close", fd)
        self.sim.finish(self.sim.kernel.mounts.detach(self.mount))
        self.sim.finish(host(self.disk.close()))
        super().close()


class Ext2Twins(Twins):
    """Sizes and order of directories are each file system's own."""

    def stat(self, path: bytes, flags: int = 0) -> Any:
        answers = []
        for side in self.sides:
            buffer = bytearray(144)
            answers.append((side.call("newfstatat", side.base, path, buffer, flags), shown(buffer)))
        assert answers[0] == answers[1], f"stat({path!r}): host {answers[0]}, guest {answers[1]}"
        return answers[0][0]

    def stat_handle(self, handle: Any) -> None:
        answers = []
        for side in self.sides:
            buffer = bytearray(144)
            answers.append((side.call("fstat", handle.of(side), buffer), shown(buffer)))
        assert answers[0] == answers[1], f"fstat: host {answers[0]}, guest {answers[1]}"

    def listing(self, path: bytes) -> Any:
        listings: list[Any] = []
        for side in self.sides:
            fd = side.call("openat", side.base, path, os.O_RDONLY | os.O_DIRECTORY, 0)
            if isinstance(fd, str):
                listings.append(fd)
                continue
            found = read_directory(side, fd)
            listings.append(sorted(found) if isinstance(found, list) else found)
            side.call("close", fd)
        assert listings[0] == listings[1], f"listing {path!r}: {listings}"
        return listings[0]


def shown(raw: bytearray) -> tuple[int, ...]:
    nlink, mode, uid, gid, size = comparable_stat(raw)
    return nlink, mode, uid, gid, 0 if stat.S_ISDIR(mode) else size


@pytest.fixture(scope="module", params=[1024, 4096])
def blank(request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty file system, to be copied."""
    directory = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield make_image(directory / "blank", size="2M", block_size=request.param)
    shutil.rmtree(directory)


@contextmanager
def twins_on(blank: Path) -> Iterator[Twins]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        image = Path(directory) / "disk"
        shutil.copy(blank, image)
        host_side = Host(os.path.join(directory, "host"))
        guest = Ext2Guest(image)
        yield Ext2Twins(host_side, guest)
        host_side.close()
        guest.close()
        assert guest.messages == []
        assert fsck(image) == ""


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(operations=st.lists(OPERATIONS.filter(alike), min_size=1, max_size=40))
def test_any_sequence_of_calls_ends_on_ext2_as_on_the_hosts_tmpfs(
    blank: Path, operations: list[tuple[Any, ...]]
) -> None:
    with twins_on(blank) as pair:
        player = Player(pair)
        for operation in itertools.chain(FURNITURE, operations):
            player.play(operation)
        compare_trees(pair)


def test_a_busy_file_system_cannot_be_unmounted(blank: Path, tmp_path: Path) -> None:
    image = tmp_path / "disk"
    shutil.copy(blank, image)
    guest = Ext2Guest(image)
    with pytest.raises(Errno.EBUSY):
        guest.sim.finish(guest.sim.kernel.mounts.detach(guest.mount))
    guest.close()
    assert fsck(image) == ""
