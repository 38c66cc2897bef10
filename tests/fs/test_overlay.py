"""overlay: a guest changes everything, the lower file system nothing; the host is the oracle."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fs.hostrig import Rig, host_tree
from uvm_async.errors import Errno, from_oserror

NAMES = [b"a", b"b", b"c", b"d"]


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()


def plant(top: Path) -> Path:
    """A small tree in which the names of `NAMES` are of all types."""
    (top / "a" / "a").mkdir(parents=True)
    (top / "a" / "b").write_bytes(b"lower file" * 1000)
    (top / "a" / "c").symlink_to("b")
    (top / "a" / "a" / "a").write_bytes(b"deep")
    (top / "a" / "a" / "d").mkdir()
    (top / "b").write_bytes(bytes(range(256)) * 40)
    (top / "c").mkdir()
    os.link(top / "b", top / "c" / "b")
    return top


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    return plant(tmp_path / "lower")


def refused(kind: type[Errno], call: Any, *args: Any) -> None:
    with pytest.raises(kind):
        call(*args)


def test_lower_tree_shows_through(rig: Rig, lower: Path) -> None:
    rig.mount_over(lower)
    assert rig.tree() == host_tree(lower)


def test_host_never_sees_a_change(rig: Rig, lower: Path) -> None:
    before = host_tree(lower)
    rig.mount_over(lower)
    rig.write(b"/b", b"changed")
    rig.chmod(b"/a/b", 0o600)
    rig.unlink(b"/a/a/a")
    rig.rename(b"/a", b"/moved")
    rig.truncate(b"/moved/b", 3)
    rig.write(b"/moved/new", b"new")
    assert host_tree(lower) == before
    assert rig.read(b"/moved/b") == b"low"
    assert rig.read(b"/b")[:8] == b"changed\x07"


def test_write_takes_only_the_pages_it_touches(rig: Rig, tmp_path: Path) -> None:
    contents = os.urandom(1 << 20)
    (tmp_path / "big").write_bytes(contents)
    sb = rig.mount_over(tmp_path)
    rig.chmod(b"/big", 0o600)
    rig.rename(b"/big", b"/large")
    assert sb.used_pages == 0
    file = rig.open(b"/large", os.O_RDWR)
    rig.write_at(file, b"x", 500_000)
    rig.close_file(file)
    assert sb.used_pages == 1
    assert rig.read(b"/large") == contents[:500_000] + b"x" + contents[500_001:]


def test_truncating_open_reads_nothing(rig: Rig, lower: Path) -> None:
    sb = rig.mount_over(lower)
    os.unlink(lower / "b")
    assert rig.inode(b"/a").is_dir
    rig.write(b"/a/b", b"new", os.O_WRONLY | os.O_TRUNC)
    assert rig.read(b"/a/b") == b"new"
    assert sb.used_pages == 1


def test_bytes_cut_off_do_not_come_back(rig: Rig, lower: Path) -> None:
    rig.mount_over(lower)
    rig.truncate(b"/b", 100)
    rig.truncate(b"/b", 9000)
    assert rig.read(b"/b") == bytes(range(100)) + bytes(8900)
    rig.truncate(b"/a/b", 5000)
    rig.read(b"/a/b")
    rig.truncate(b"/a/b", 4500)
    rig.run(lambda: rig.inode(b"/a/b").fsync())
    rig.truncate(b"/a/b", 10000)
    assert rig.read(b"/a/b") == (b"lower file" * 1000)[:4500] + bytes(5500)


def test_open_reader_sees_what_is_written_later(rig: Rig, lower: Path) -> None:
    rig.mount_over(lower)
    reader = rig.open(b"/b")
    mapping = reader.mapping
    rig.write(b"/b", b"written")
    assert rig.read_at(reader, 7, 0) == b"written"
    assert rig.open(b"/b", os.O_RDWR).mapping is mapping


def test_inode_keeps_number_and_identity_through_every_change(rig: Rig, lower: Path) -> None:
    rig.mount_over(lower)
    inode, number = rig.inode(b"/a/b"), rig.inode(b"/a/b").ino
    listed = {name: number for name, number, _ in rig.entries(b"/a")}
    assert listed[b"b"] == number
    rig.write(b"/a/b", b"changed")
    rig.rename(b"/a/b", b"/x")
    rig.link(b"/x", b"/y")
    assert rig.inode(b"/y") is inode
    assert inode.ino == number
    assert inode.sb.dev == rig.inode(b"/a").sb.dev


def test_numbers_in_a_listing_are_those_that_stat_gives(rig: Rig, lower: Path) -> None:
    rig.mount_over(lower)
    rig.write(b"/new", b"")
    for name, number, kind in rig.entries(b"/"):
        inode = rig.inode(b"/" + name)
        assert (inode.ino, inode.mode >> 12) == (number, kind)
    numbers = [number for _, number, _ in rig.entries(b"/")]
    assert len(set(numbers)) == len(numbers)


def test_hard_links_of_the_lower_tree_stay_linked(rig: Rig, lower: Path) -> None:
    rig.mount_over(lower)
    rig.write(b"/c/b", b"through the other name")
    assert rig.read(b"/b").startswith(b"through the other name")
    rig.unlink(b"/b")
    assert rig.inode(b"/c/b").nlink == 1


def test_removed_names_stay_removed_and_can_be_made_anew(rig: Rig, lower: Path) -> None:
    rig.mount_over(lower)
    rig.unlink(b"/b")
    refused(Errno.ENOENT, rig.inode, b"/b")
    rig.unlink(b"/c/b")
    rig.rmdir(b"/c")
    rig.mkdir(b"/c")
    assert rig.names(b"/c") == []
    rig.write(b"/b", b"new")
    assert rig.read(b"/b") == b"new"
    assert sorted(rig.names(b"/")) == [b"a", b"b", b"c"]


def test_directory_with_only_lower_entries_is_not_empty(rig: Rig, lower: Path) -> None:
    rig.mount_over(lower)
    refused(Errno.ENOTEMPTY, rig.rmdir, b"/c")
    rig.mkdir(b"/empty")
    refused(Errno.ENOTEMPTY, rig.rename, b"/empty", b"/c")


def test_lower_directory_moves_with_all_that_is_below(rig: Rig, lower: Path) -> None:
    sb = rig.mount_over(lower)
    rig.rename(b"/a", b"/c/moved")
    refused(Errno.ENOENT, rig.inode, b"/a")
    assert rig.read(b"/c/moved/a/a") == b"deep"
    rig.mkdir(b"/a")
    assert rig.names(b"/a") == []
    rig.rename(b"/c/moved/a", b"/a/back")
    assert rig.read(b"/a/back/a") == b"deep"
    assert b"a" not in rig.names(b"/c/moved")
    assert sb.used_pages == 0


def test_listing_goes_on_where_it_was_while_names_change(rig: Rig, tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number:02}").touch()
    rig.mount_over(tmp_path)
    file = rig.open(b"/", os.O_RDONLY | os.O_DIRECTORY)
    seen: list[bytes] = []
    removed = 0
    while batch := rig.run(lambda: file.entries(7)):  # type: ignore[attr-defined]
        seen += [entry.name for entry in batch]
        file.pos = batch[-1].next_pos
        if removed < 4:
            rig.unlink(b"/%02d" % removed)
            rig.write(b"/new%d" % removed, b"")
            removed += 1
    for number in range(removed, 40):
        assert seen.count(b"%02d" % number) == 1
    assert len(seen) == len(set(seen))


def test_room_is_bounded_and_given_back(rig: Rig, lower: Path) -> None:
    sb = rig.mount_over(lower)
    sb.max_pages = 4
    file = rig.open(b"/a/b", os.O_RDWR)
    assert rig.write_at(file, bytes(8 * 4096), 0) == 4 * 4096
    refused(Errno.ENOSPC, rig.write_at, file, b"x", 5 * 4096)
    rig.close_file(file)
    rig.unlink(b"/a/b")
    assert sb.used_pages == 0
    assert sb.used_inodes == 0


def test_temporary_names_leave_nothing_behind(rig: Rig, lower: Path) -> None:
    sb = rig.mount_over(lower)
    root = sb.root
    before = len(root.entries)
    for number in range(50):
        rig.write(b"/t%d" % number, b"x")
        rig.unlink(b"/t%d" % number)
    assert len(root.entries) == before
    assert (sb.used_pages, sb.used_inodes) == (0, 0)


# -- the host as the oracle


class Host:
    """The same operations on a directory of the host."""

    def __init__(self, top: Path) -> None:
        self.top = os.fsencode(top)

    def at(self, path: bytes) -> bytes:
        return self.top + path

    def write(self, path: bytes, data: bytes, flags: int, pos: int) -> int:
        fd = os.open(self.at(path), flags, 0o644)
        try:
            return os.pwrite(fd, data, pos)
        finally:
            os.close(fd)

    def mkdir(self, path: bytes) -> None:
        os.mkdir(self.at(path), 0o755)

    def rmdir(self, path: bytes) -> None:
        os.rmdir(self.at(path))

    def unlink(self, path: bytes) -> None:
        os.unlink(self.at(path))

    def symlink(self, target: bytes, path: bytes) -> None:
        os.symlink(target, self.at(path))

    def link(self, old: bytes, new: bytes) -> None:
        os.link(self.at(old), self.at(new), follow_symlinks=False)

    def rename(self, old: bytes, new: bytes) -> None:
        os.rename(self.at(old), self.at(new))

    def truncate(self, path: bytes, size: int) -> None:
        os.truncate(self.at(path), size)

    def chmod(self, path: bytes, mode: int) -> None:
        os.chmod(self.at(path), mode)


class Guest(Host):
    """The same in the machine."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        for name in ("mkdir", "rmdir", "unlink", "symlink", "link", "truncate", "chmod"):
            setattr(self, name, getattr(rig, name))

    def write(self, path: bytes, data: bytes, flags: int, pos: int) -> int:
        file = self.rig.open(path, flags, 0o644)
        try:
            return self.rig.write_at(file, data, pos)
        finally:
            self.rig.close_file(file)

    def rename(self, old: bytes, new: bytes) -> None:
        self.rig.rename(old, new)

    def mkdir(self, path: bytes) -> None:
        self.rig.mkdir(path, 0o755)


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Errno as error:
        return type(error).__name__
    except OSError as error:
        return type(from_oserror(error)).__name__


paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(
    lambda names: b"/r" + b"".join(b"/" + name for name in names)
)
operations = st.one_of(
    st.tuples(
        st.just("write"),
        paths,
        st.integers(1, 9000).map(lambda size: random.Random(size).randbytes(size)),
        st.sampled_from(
            [os.O_WRONLY, os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_TRUNC | os.O_CREAT]
        ),
        st.integers(0, 9000),
    ),
    st.tuples(st.just("mkdir"), paths),
    st.tuples(st.just("rmdir"), paths),
    st.tuples(st.just("unlink"), paths),
    st.tuples(st.just("symlink"), st.sampled_from([b"a", b"../b", b"c/b", b"none"]), paths),
    st.tuples(st.just("link"), paths, paths),
    st.tuples(st.just("rename"), paths, paths),
    st.tuples(st.just("truncate"), paths, st.integers(0, 12000)),
    st.tuples(st.just("chmod"), paths, st.sampled_from([0o711, 0o755, 0o700])),
)


def without_directory_links(tree: dict[bytes, tuple[Any, ...]]) -> dict[bytes, tuple[Any, ...]]:
    """Whether a file system counts subdirectories in st_nlink is its own affair."""
    return {
        path: entry[:1] if entry[0].startswith("0o4") else entry for path, entry in tree.items()
    }


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(operations, min_size=1, max_size=30))
def test_random_operations_leave_what_they_leave_on_the_host(todo: list[Any]) -> None:
    scratch = Path(tempfile.mkdtemp())
    rig = Rig(4 << 20)
    try:
        lower, model = scratch / "lower", scratch / "model"
        plant(lower / "r")
        plant(model / "r")
        before = host_tree(lower)
        rig.mount_over(lower)
        host, guest = Host(model), Guest(rig)
        for name, *args in todo:
            expected = outcome(lambda: getattr(host, name)(*args))  # noqa: B023
            assert outcome(lambda: getattr(guest, name)(*args)) == expected, (name, args)  # noqa: B023
        assert without_directory_links(rig.tree()) == without_directory_links(host_tree(model))
        assert host_tree(lower) == before
    finally:
        rig.close()
        shutil.rmtree(scratch)
