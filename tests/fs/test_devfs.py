"""/dev: the memory devices, and devices that appear."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Any

import pytest

from fs.hostrig import Rig
from uvm_async.errors import Errno
from uvm_async.fs.chardev import CharDevice, NullFile
from uvm_async.fs.devfs import devfs, register_device
from uvm_async.mm.iov import KernelIter, UserIter
from uvm_async.state import Entity, dump_graph, load_graph


class Entropy(Entity):
    def bytes(self, count: int) -> bytes:
        return b"\x5a" * count


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig(4 << 20)
    rig.kernel.entropy = Entropy()
    rig.mount(rig.run(lambda: devfs(rig.kernel)))
    yield rig
    rig.close()


def host_answers(path: str, call: Any) -> Any:
    """What the host's device answers: a value, or the errno's name."""
    fd = os.open(path, os.O_RDWR)
    try:
        return call(fd)
    except OSError as error:
        return os.strerror(error.errno or 0)
    finally:
        os.close(fd)


@pytest.mark.parametrize("name", ["null", "zero", "full", "random", "urandom"])
def test_nodes_are_those_of_the_host(rig: Rig, name: str) -> None:
    inode = rig.inode(b"/" + name.encode())
    status = os.stat("/dev/" + name)
    assert (inode.mode, inode.rdev) == (status.st_mode, status.st_rdev)


@pytest.mark.parametrize("name", ["null", "zero", "full"])
def test_memory_devices_answer_as_the_hosts(rig: Rig, name: str) -> None:
    path = "/dev/" + name
    file = rig.open(b"/" + name.encode(), os.O_RDWR)

    def outcome(call: Any) -> Any:
        try:
            return call()
        except Errno as error:
            return os.strerror(error.errno)

    assert outcome(lambda: rig.read_at(file, 10)) == host_answers(path, lambda fd: os.read(fd, 10))
    assert outcome(lambda: rig.write_at(file, b"abc")) == host_answers(
        path, lambda fd: os.write(fd, b"abc")
    )
    assert outcome(lambda: rig.run(lambda: file.llseek(5, 0))) == host_answers(
        path, lambda fd: os.lseek(fd, 5, 0)
    )


def test_zero_fills_far_more_than_a_chunk(rig: Rig) -> None:
    assert rig.read_at(rig.open(b"/zero"), 1 << 20) == bytes(1 << 20)


def test_random_is_the_machines_entropy(rig: Rig) -> None:
    assert rig.read_at(rig.open(b"/urandom"), 100_000) == b"\x5a" * 100_000
    file = rig.open(b"/random", os.O_RDWR)
    assert rig.write_at(file, bytes(100_000)) == 100_000
    addr = rig.task.mm.alloc(4)
    rig.run(lambda: file.ioctl(rig.task, 0x80045200, addr))
    assert rig.task.mm.peek(addr, 4) == b"\0\1\0\0"


def test_null_swallows_even_a_bad_address_and_zero_does_not_give_to_one(rig: Rig) -> None:
    mm: Any = rig.task.mm
    null, zero = rig.open(b"/null", os.O_RDWR), rig.open(b"/zero", os.O_RDWR)
    bad, edge = 8, mm.BASE + mm.SIZE - 10

    def at(addr: int, *, write: bool) -> UserIter:
        return UserIter(mm, [(addr, 100)], write=write)

    assert rig.run(lambda: null.write_iter(rig.task, at(bad, write=False))) == 100
    with pytest.raises(Errno.EFAULT):
        rig.run(lambda: zero.read_iter(rig.task, at(bad, write=True)))
    assert rig.run(lambda: zero.read_iter(rig.task, at(edge, write=True))) == 10


def test_zero_can_be_mapped_and_gives_its_frames_back(rig: Rig) -> None:
    free = rig.kernel.frames.free()
    file = rig.open(b"/zero", os.O_RDWR)
    mapping = file.mapping
    assert mapping is not None
    rig.run(lambda: mapping.page(7))
    assert rig.open(b"/null").mapping is None
    rig.close_file(file)
    assert rig.kernel.frames.free() == free


def test_links_and_mount_points_are_there(rig: Rig) -> None:
    assert rig.readlink(b"/stdin") == b"/proc/self/fd/0"
    assert rig.readlink(b"/fd") == b"/proc/self/fd"
    assert rig.inode(b"/shm").mode == stat.S_IFDIR | 0o1777


def test_device_appears_even_where_its_name_was_known_not_to_exist(rig: Rig) -> None:
    with pytest.raises(Errno.ENOENT):
        rig.open(b"/vda")
    driver = CharDevice(NullFile)
    rdev = os.makedev(254, 0)
    rig.run(lambda: register_device(rig.kernel, b"vda", stat.S_IFBLK | 0o660, rdev, driver, gid=6))
    inode = rig.inode(b"/vda")
    assert (inode.mode, inode.rdev, inode.gid) == (stat.S_IFBLK | 0o660, rdev, 6)
    assert isinstance(rig.open(b"/vda"), NullFile)


def test_node_made_by_a_guest_leads_to_the_same_driver(rig: Rig) -> None:
    root = rig.inode(b"/")
    null = os.makedev(1, 3)
    rig.run(lambda: root.create(b"mine", stat.S_IFCHR | 0o666, 0, 0, null))
    assert isinstance(rig.open(b"/mine"), NullFile)
    rig.run(lambda: root.create(b"nobody", stat.S_IFCHR | 0o666, 0, 0, os.makedev(99, 9)))
    with pytest.raises(Errno.ENXIO):
        rig.open(b"/nobody")


def test_devices_survive_a_freeze(rig: Rig) -> None:
    rig.kernel.frames = None
    thawed: Any = load_graph(dump_graph(rig.kernel.mounts.devices))
    driver = thawed.find(stat.S_IFCHR, os.makedev(1, 3))
    assert driver.make is NullFile


def test_reading_nothing_is_no_error(rig: Rig) -> None:
    file = rig.open(b"/zero")
    assert rig.run(lambda: file.read_iter(rig.task, KernelIter())) == 0
