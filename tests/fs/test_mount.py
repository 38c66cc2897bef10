"""Mounts: what a walk finds, what is busy, and when a file system ends."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from fs.driver import Sim
from fs.shell import Shell
from uvm_async.fs.inode import SuperBlock
from uvm_async.kernel.cred import Cred

MS_RDONLY, MS_REMOUNT, MS_BIND, MS_MOVE, MS_REC, MS_NODEV, MS_NOEXEC = (
    1,
    32,
    4096,
    8192,
    16384,
    4,
    8,
)
MNT_DETACH = 2


@pytest.fixture
def sh() -> Iterator[Shell]:
    shell = Shell(Sim.boot())
    for path in (b"/m", b"/n", b"/m/under"):
        shell.do("mkdir", path, 0o755)
    yield shell
    shell.sim.close()


def mount(sh: Shell, where: bytes, flags: int = 0, options: bytes = b"") -> int:
    return sh.do("mount", b"none", where, b"tmpfs", flags, options)


def super_blocks(sh: Shell) -> list[SuperBlock]:
    found: list[SuperBlock] = sh.sim.kernel.mounts.super_blocks()
    return found


def test_a_mount_hides_what_is_below_and_umount_shows_it_again(sh: Shell) -> None:
    mount(sh, b"/m")
    assert sh.error("access", b"/m/under", 0) == "ENOENT"
    sh.create(b"/m/f", b"on top")
    assert sh.do("umount2", b"/m", 0) == 0
    assert sh.do("access", b"/m/under", 0) == 0
    assert sh.error("access", b"/m/f", 0) == "ENOENT"


def test_dotdot_leaves_a_mount_through_its_mount_point(sh: Shell) -> None:
    sh.do("mkdir", b"/m/under/deep", 0o755)
    mount(sh, b"/m/under/deep")
    sh.do("chdir", b"/m/under/deep")
    sh.do("chdir", b"..")
    sh.do("getcwd", sh.room(64), 64)
    assert sh.peek(9) == b"/m/under\0"


def test_mounts_stack(sh: Shell) -> None:
    mount(sh, b"/m")
    sh.create(b"/m/first")
    mount(sh, b"/m")
    sh.create(b"/m/second")
    assert sh.error("access", b"/m/first", 0) == "ENOENT"
    sh.do("umount2", b"/m", 0)
    assert sh.do("access", b"/m/first", 0) == 0


def test_a_file_system_in_use_is_busy_until_its_last_file_is_closed(sh: Shell) -> None:
    mount(sh, b"/m")
    fd = sh.do("open", b"/m/f", os.O_RDWR | os.O_CREAT, 0o600)
    assert sh.error("umount2", b"/m", 0) == "EBUSY"
    sh.do("chdir", b"/m")
    sh.do("close", fd)
    assert sh.error("umount2", b"/m", 0) == "EBUSY"
    sh.do("chdir", b"/")
    assert sh.do("umount2", b"/m", 0) == 0
    assert len(super_blocks(sh)) == 1


def test_a_detached_file_system_lives_on_for_those_who_use_it(sh: Shell) -> None:
    mount(sh, b"/m")
    fd = sh.do("open", b"/m/f", os.O_RDWR | os.O_CREAT, 0o600)
    sh.do("umount2", b"/m", MNT_DETACH)
    assert sh.error("access", b"/m/f", 0) == "ENOENT"
    sh.write(fd, b"still there")
    assert len(super_blocks(sh)) == 2
    sh.do("close", fd)
    assert len(super_blocks(sh)) == 1


def test_memory_of_an_unmounted_file_system_is_given_back(sh: Shell) -> None:
    free = sh.sim.kernel.frames.free()
    mount(sh, b"/m")
    sh.create(b"/m/f", b"x" * 50_000)
    sh.do("mkdir", b"/m/d", 0o755)
    sh.create(b"/m/d/g", b"y" * 50_000)
    assert sh.sim.kernel.frames.free() < free
    sh.do("umount2", b"/m", 0)
    assert sh.sim.kernel.frames.free() == free


def test_a_mount_point_cannot_be_removed_or_renamed(sh: Shell) -> None:
    mount(sh, b"/m")
    assert sh.error("rmdir", b"/m") == "EBUSY"
    assert sh.error("rename", b"/m", b"/other") == "EBUSY"
    assert sh.error("rename", b"/n", b"/m") == "EBUSY"


def test_names_do_not_cross_mounts(sh: Shell) -> None:
    mount(sh, b"/m")
    sh.create(b"/f")
    assert sh.error("rename", b"/f", b"/m/f") == "EXDEV"
    assert sh.error("link", b"/f", b"/m/f") == "EXDEV"


def test_a_read_only_mount_refuses_every_change(sh: Shell) -> None:
    mount(sh, b"/m")
    sh.create(b"/m/f", b"kept")
    sh.do("mkdir", b"/m/d", 0o755)
    sh.do("mount", b"none", b"/m", b"", MS_REMOUNT | MS_BIND | MS_RDONLY, b"")
    for name, *args in (
        ("open", b"/m/new", os.O_CREAT | os.O_WRONLY, 0o600),
        ("open", b"/m/f", os.O_WRONLY, 0),
        ("open", b"/m/f", os.O_RDONLY | os.O_TRUNC, 0),
        ("mkdir", b"/m/e", 0o755),
        ("rmdir", b"/m/d"),
        ("unlink", b"/m/f"),
        ("rename", b"/m/f", b"/m/g"),
        ("link", b"/m/f", b"/m/g"),
        ("symlink", b"f", b"/m/g"),
        ("chmod", b"/m/f", 0o777),
        ("chown", b"/m/f", 1, 1),
        ("truncate", b"/m/f", 0),
        ("utimes", b"/m/f", 0),
        ("access", b"/m/f", os.W_OK),
    ):
        assert sh.error(name, *args) == "EROFS", name
    assert sh.error("mkdir", b"/m/d", 0o755) == "EEXIST"
    assert sh.contents(b"/m/f") == b"kept"
    sh.do("mount", b"none", b"/m", b"", MS_REMOUNT | MS_BIND, b"")
    assert sh.do("unlink", b"/m/f") == 0


def test_a_bind_mount_shows_the_same_files_elsewhere(sh: Shell) -> None:
    sh.create(b"/m/f", b"one")
    mount(sh, b"/m/under")
    sh.create(b"/m/under/g")
    sh.do("mount", b"/m", b"/n", b"", MS_BIND, b"")
    assert sh.contents(b"/n/f") == b"one"
    assert sh.inode(b"/n/f") is sh.inode(b"/m/f")
    assert sh.error("access", b"/n/under/g", 0) == "ENOENT"
    sh.do("chdir", b"/n/under")
    sh.do("chdir", b"../..")
    sh.do("getcwd", sh.room(16), 16)
    assert sh.peek(2) == b"/\0"
    sh.do("umount2", b"/n", 0)
    sh.do("mount", b"/m", b"/n", b"", MS_BIND | MS_REC, b"")
    assert sh.do("access", b"/n/under/g", 0) == 0


def test_a_single_file_can_be_bound(sh: Shell) -> None:
    sh.create(b"/f", b"source")
    sh.create(b"/g", b"target")
    sh.do("mount", b"/f", b"/g", b"", MS_BIND, b"")
    assert sh.contents(b"/g") == b"source"
    assert sh.error("mount", b"/f", b"/n", b"", MS_BIND, b"") == "ENOTDIR"


def test_a_mount_can_be_moved_but_not_into_itself(sh: Shell) -> None:
    mount(sh, b"/m")
    sh.do("mkdir", b"/m/inner", 0o755)
    assert sh.error("mount", b"/m", b"/m/inner", b"", MS_MOVE, b"") == "ELOOP"
    assert sh.do("mount", b"/m", b"/n", b"", MS_MOVE, b"") == 0
    assert sh.do("access", b"/n/inner", 0) == 0
    assert sh.do("access", b"/m/under", 0) == 0


def test_what_mount_refuses(sh: Shell) -> None:
    assert sh.error("mount", b"none", b"/m", b"nosuchfs", 0, b"") == "ENODEV"
    assert sh.error("mount", b"none", b"/nowhere", b"tmpfs", 0, b"") == "ENOENT"
    assert sh.error("mount", b"none", b"/m", b"tmpfs", 0, b"size=abc") == "EINVAL"
    assert sh.error("mount", b"none", b"/m", b"tmpfs", 0, b"nonsense") == "EINVAL"
    assert sh.error("umount2", b"/m", 0) == "EINVAL"
    assert sh.error("umount2", b"/", 0) == "EINVAL"
    sh.create(b"/f")
    assert sh.error("mount", b"none", b"/f", b"tmpfs", 0, b"") == "ENOTDIR"
    sh.task.cred = Cred(capabilities=0)
    assert sh.error("mount", b"none", b"/m", b"tmpfs", 0, b"") == "EPERM"
    assert sh.error("umount2", b"/m", 0) == "EPERM"


def test_tmpfs_keeps_to_its_size_and_its_number_of_inodes(sh: Shell) -> None:
    mount(sh, b"/m", 0, b"size=16k,nr_inodes=4,mode=700,uid=5,gid=6")
    inode = sh.inode(b"/m/.")
    assert (inode.mode & 0o7777, inode.uid, inode.gid) == (0o700, 5, 6)
    fd = sh.do("open", b"/m/f", os.O_RDWR | os.O_CREAT, 0o600)
    assert sh.write(fd, b"x" * 20_000) == 16384
    assert sh.error("write", fd, sh.data(b"y"), 1) == "ENOSPC"
    sh.do("ftruncate", fd, 5000)
    assert sh.do("pwrite64", fd, sh.data(b"z"), 1, 12_000) == 1
    sh.create(b"/m/g")
    sh.do("mkdir", b"/m/d", 0o755)
    assert sh.error("mkdir", b"/m/e", 0o755) == "ENOSPC"
    assert sh.error("link", b"/m/f", b"/m/h") == "ENOSPC"
    sh.do("unlink", b"/m/g")
    assert sh.do("link", b"/m/f", b"/m/h") == 0


def test_a_mount_without_devices_or_programs(sh: Shell) -> None:
    mount(sh, b"/m", MS_NODEV | MS_NOEXEC)
    sh.do("mknod", b"/m/dev", 0o020666, 0x103)
    assert sh.error("open", b"/m/dev", os.O_RDWR, 0) == "EACCES"
    sh.create(b"/m/prog", mode=0o755)
    assert sh.error("access", b"/m/prog", os.X_OK) == "EACCES"


def test_chroot_confines_dotdot_and_absolute_links(sh: Shell) -> None:
    sh.create(b"/m/inside", b"in")
    sh.create(b"/inside", b"out")
    sh.do("symlink", b"/inside", b"/m/link")
    sh.do("chroot", b"/m")
    sh.do("chdir", b"/")
    assert sh.contents(b"/link") == b"in"
    assert sh.contents(b"../../inside") == b"in"
    sh.do("getcwd", sh.room(16), 16)
    assert sh.peek(2) == b"/\0"


def test_a_directory_outside_the_root_is_called_unreachable(sh: Shell) -> None:
    sh.do("chdir", b"/n")
    sh.do("chroot", b"/m")
    sh.do("getcwd", sh.room(64), 64)
    assert sh.peek(16) == b"(unreachable)/n\0"
