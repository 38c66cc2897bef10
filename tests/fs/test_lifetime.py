"""Inodes end once, when nothing leads to them any more; a frozen machine keeps all that lives."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from fs.driver import FakeKernel, Sim, user
from fs.shell import Shell
from uvm_async.errors import Errno
from uvm_async.fs.file import allow_write_access, deny_write_access
from uvm_async.fs.tmpfs import TmpfsSuperBlock
from uvm_async.kernel.cred import Cred
from uvm_async.state import dump_graph, load_graph


@pytest.fixture
def sh() -> Iterator[Shell]:
    shell = Shell(Sim.boot())
    yield shell
    shell.sim.close()


def pages(sh: Shell) -> int:
    """Pages that the root file system holds."""
    sb = sh.sim.root.mount.sb
    assert isinstance(sb, TmpfsSuperBlock)
    return sb.used_pages


def test_an_unlinked_file_lives_until_its_last_descriptor_is_closed(sh: Shell) -> None:
    fd = sh.do("open", b"/f", os.O_RDWR | os.O_CREAT, 0o600)
    sh.write(fd, b"x" * 10_000)
    copy = sh.do("dup", fd)
    sh.do("unlink", b"/f")
    sh.do("close", fd)
    assert pages(sh) == 3
    sh.do("lseek", copy, 0, 0)
    assert sh.read(copy, 5) == b"xxxxx"
    sh.do("close", copy)
    assert pages(sh) == 0


def test_a_file_replaced_by_rename_ends(sh: Shell) -> None:
    sh.create(b"/f", b"x" * 5000)
    sh.create(b"/g", b"new")
    sh.do("rename", b"/g", b"/f")
    assert pages(sh) == 1
    assert sh.contents(b"/f") == b"new"


def test_a_file_without_a_name_can_be_given_one(sh: Shell) -> None:
    fd = sh.do("open", b"/", os.O_TMPFILE | os.O_RDWR, 0o600)
    sh.write(fd, b"temporary")
    assert sh.inode(b"/").size == 40
    sh.do("linkat", fd, b"", -100, b"/named", 0x1000)
    sh.do("close", fd)
    assert sh.contents(b"/named") == b"temporary"
    exclusive = sh.do("open", b"/", os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)
    assert sh.error("linkat", exclusive, b"", -100, b"/never", 0x1000) == "ENOENT"


def test_a_memfd_ends_with_its_last_file(sh: Shell) -> None:
    free = sh.sim.kernel.frames.free()
    fd = sh.do("memfd_create", b"name", 2)
    sh.write(fd, b"m" * 20_000)
    assert sh.sim.kernel.frames.free() == free - 5
    sh.do("close", fd)
    assert sh.sim.kernel.frames.free() == free


def test_seals_hold(sh: Shell) -> None:
    fd = sh.do("memfd_create", b"name", 2)
    sh.write(fd, b"m" * 100)
    assert sh.do("fcntl", fd, 1033, 2 | 4) == 0
    assert sh.error("ftruncate", fd, 50) == "EPERM"
    assert sh.error("ftruncate", fd, 200) == "EPERM"
    assert sh.do("pwrite64", fd, sh.data(b"x"), 1, 0) == 1
    assert sh.do("fcntl", fd, 1033, 8 | 1) == 0
    assert sh.error("pwrite64", fd, sh.data(b"x"), 1, 0) == "EPERM"
    assert sh.error("fcntl", fd, 1033, 0x10) == "EPERM"
    assert sh.do("fcntl", fd, 1034, 0) == 15


def test_a_removed_working_directory_still_stands(sh: Shell) -> None:
    sh.do("mkdir", b"/d", 0o755)
    sh.do("chdir", b"/d")
    sh.do("rmdir", b"/d")
    assert sh.error("getcwd", sh.room(10), 10) == "ENOENT"
    assert sh.error("mkdir", b"x", 0o755) == "ENOENT"
    assert sh.error("open", b"x", os.O_CREAT, 0o600) == "ENOENT"
    assert sh.do("chdir", b"..") == 0


def test_a_program_that_runs_cannot_be_written_and_one_that_is_written_cannot_run(
    sh: Shell,
) -> None:
    sh.create(b"/prog", b"#!")
    inode = sh.inode(b"/prog")
    deny_write_access(inode)
    assert sh.error("open", b"/prog", os.O_WRONLY, 0) == "ETXTBSY"
    assert sh.error("truncate", b"/prog", 0) == "ETXTBSY"
    allow_write_access(inode)
    fd = sh.do("open", b"/prog", os.O_WRONLY, 0)
    with pytest.raises(Errno.ETXTBSY):
        deny_write_access(inode)
    sh.do("close", fd)
    deny_write_access(inode)


def test_a_thread_may_close_what_another_is_using(sh: Shell) -> None:
    reader, writer = sh.pipe()
    thread = sh.other(threads=True)
    assert thread.task.files is sh.task.files
    read = thread.begin("read", reader, thread.room(4), 4)
    sh.do("close", reader)
    sh.do("close", writer)
    with pytest.raises(Errno.EBADF):
        read.answer()
    assert sh.task.files.deferred == []


def test_fork_shares_positions_and_exec_closes_what_is_marked(sh: Shell) -> None:
    sh.create(b"/f", b"0123456789")
    fd = sh.do("open", b"/f", os.O_RDONLY, 0)
    marked = sh.do("open", b"/f", os.O_RDONLY | os.O_CLOEXEC, 0)
    child = sh.other()
    assert sh.read(fd, 3) == b"012"
    assert child.read(fd, 3) == b"345"
    child.sim.finish(child.task.files.close_on_exec(child.task))
    assert child.error("fcntl", marked, 1, 0) == "EBADF"
    assert sh.do("fcntl", marked, 1, 0) == 1


def test_when_a_table_goes_everything_in_it_is_closed(sh: Shell) -> None:
    child = sh.other()
    fd = child.do("open", b"/f", os.O_RDWR | os.O_CREAT, 0o600)
    child.write(fd, b"x" * 5000)
    child.do("unlink", b"/f")
    child.sim.finish(child.task.files.put(child.task))
    child.sim.finish(child.task.fs.put())
    assert pages(sh) == 0
    assert sh.sim.root.inode.opens == 2, "root and working directory of the first task"


def test_descriptors_run_out_at_the_limit(sh: Shell) -> None:
    sh.task.process.rlimits[7] = (4, 4)
    fds = [sh.do("open", b"/", os.O_RDONLY, 0) for _ in range(4)]
    assert fds == [0, 1, 2, 3]
    assert sh.error("open", b"/nowhere", os.O_RDONLY, 0) == "EMFILE"
    assert sh.error("pipe2", sh.room(8), 0) == "EMFILE"
    assert sh.error("dup", 0) == "EMFILE"
    assert sh.error("dup2", 0, 4) == "EBADF"
    assert sh.error("fcntl", 0, 0, 4) == "EINVAL"
    sh.do("close", 1)
    assert sh.do("dup", 0) == 1
    sh.do("close", 2)
    assert sh.error("pipe2", sh.room(8), 0) == "EMFILE"
    assert sh.do("dup", 0) == 2


def test_a_frozen_graph_thaws_to_the_same_tree_with_the_same_sleepers(sh: Shell) -> None:
    sh.do("mkdir", b"/d", 0o755)
    sh.create(b"/d/f")
    sh.do("mount", b"none", b"/d", b"tmpfs", 0, b"")
    sh.do("mknod", b"/fifo", 0o010666, 0)
    reader, writer = sh.pipe()
    ep = sh.do("epoll_create1", 0)
    sh.do("epoll_ctl", ep, 1, reader, sh.data(bytes(12)))
    size = 100_000
    assert sh.begin("write", writer, sh.data(b"w" * size), size).blocked
    opener = sh.other()
    assert opener.begin("open", opener.text(b"/fifo"), os.O_RDONLY, 0).blocked
    kernel = sh.sim.kernel
    frames, kernel.frames = kernel.frames, None  # type: ignore[assignment]
    kernel.tasks = [sh.task, opener.task]  # type: ignore[attr-defined]
    for sb in kernel.mounts.super_blocks():
        for inode in sb.root.inodes():
            if inode.mapping is not None:
                inode.mapping.frames = None
    thawed: Any = load_graph(dump_graph(kernel))
    kernel.frames = frames
    assert isinstance(thawed, FakeKernel)
    writer_task, opener_task = thawed.tasks  # type: ignore[attr-defined]
    pipe = writer_task.files.get(reader).pipe
    assert writer_task.restart.done == pipe.used_bytes == 65536
    assert list(pipe.write_wait.waiters) == [writer_task]
    assert opener_task.restart.file.path.inode.pipe.readers == 1
    assert len(thawed.mounts.mounts) == 2
    top = thawed.mounts.root_path()
    child = top.dentry.children[b"d"]
    assert thawed.mounts.children[top.mount, child] is child.mounted


def test_pwritev2_appends_when_it_is_told_to(sh: Shell) -> None:
    sh.create(b"/f", b"0123456789")
    fd = sh.do("open", b"/f", os.O_RDWR, 0)
    segment = sh.data(struct.pack("<QQ", sh.data(b"more"), 4))
    assert sh.do("pwritev2", fd, segment, 1, 2, 0, 16) == 4
    assert sh.contents(b"/f") == b"0123456789more"
    assert sh.do("lseek", fd, 0, 1) == 0
    assert sh.do("pwritev2", fd, segment, 1, -1, 0, 16) == 4
    assert sh.do("lseek", fd, 0, 1) == 18


def test_only_who_opened_a_file_may_name_it_by_its_descriptor(sh: Shell) -> None:
    sh.do("chmod", b"/", 0o777)
    sh.task.cred = user(1000, 1000)
    fd = sh.do("open", b"/", os.O_TMPFILE | os.O_RDWR, 0o600)
    sh.do("linkat", fd, b"", -100, b"/mine", 0x1000)
    sh.task.cred = user(1001, 1001)
    assert sh.error("linkat", fd, b"", -100, b"/stolen", 0x1000) == "ENOENT"
    sh.task.cred = Cred()
    assert sh.do("linkat", fd, b"", -100, b"/by_root", 0x1000) == 0
