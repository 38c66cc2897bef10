"""hostfs: what guests see of the host, and what they cannot reach."""

from __future__ import annotations

import gc
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fs.hostrig import Rig, host_tree
from uvm_async.errors import Errno, UsageError
from uvm_async.fs.hostfs import Sight
from uvm_async.fs.hostfs import super as hostfs_super
from uvm_async.fs.hostfs.hostcalls import Access
from uvm_async.state import dump_graph, load_graph


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "top"
    (top / "dir" / "deep").mkdir(parents=True)
    (top / "file").write_bytes(b"contents")
    (top / "dir" / "big").write_bytes(bytes(range(256)) * 1024)
    (top / "dir" / "deep" / "leaf").write_bytes(b"leaf")
    (top / "relative").symlink_to("dir/deep/leaf")
    (top / "absolute").symlink_to("/file")
    os.link(top / "file", top / "dir" / "same")
    return top


def refused(kind: type[Errno], call: Any, *args: Any) -> None:
    with pytest.raises(kind):
        call(*args)


def test_guest_sees_names_attributes_and_contents_of_the_host(rig: Rig, tree: Path) -> None:
    rig.mount_host(tree, sight=Sight.SNAPSHOT)
    assert rig.tree() == host_tree(tree)
    for name in ("file", "dir", "dir/big", "relative"):
        status, inode = os.lstat(tree / name), rig.inode(b"/" + name.encode())
        assert (inode.mode, inode.nlink, inode.size) == (
            status.st_mode,
            status.st_nlink,
            status.st_size,
        )
        assert inode.mtime_ns == status.st_mtime_ns


def test_symlinks_are_followed_within_the_guests_root(rig: Rig, tree: Path) -> None:
    (tree / "outside").symlink_to("/etc/passwd")
    (tree / "climb").symlink_to("../../../../../../../../etc/passwd")
    rig.mount_host(tree)
    assert rig.read(b"/relative") == b"leaf"
    assert rig.read(b"/absolute") == b"contents"
    refused(Errno.ENOENT, rig.read, b"/outside")
    refused(Errno.ENOENT, rig.read, b"/climb")
    assert rig.inode(b"/../../file").ino == rig.inode(b"/file").ino


@pytest.mark.parametrize("sight", list(Sight))
def test_nothing_but_files_directories_and_symlinks_is_there(
    rig: Rig, tree: Path, sight: Sight
) -> None:
    os.mkfifo(tree / "fifo")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tree / "socket"))
    server.close()
    if os.geteuid() == 0:
        os.mknod(tree / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    rig.mount_host(tree, sight=sight)
    for name in (b"fifo", b"socket", b"null"):
        refused(Errno.ENOENT, rig.inode, b"/" + name)
        assert name not in rig.names(b"/")


@pytest.mark.parametrize("place", ["/proc", "/sys", "/dev"])
def test_host_kernels_own_file_systems_are_empty_directories(rig: Rig, place: str) -> None:
    rig.mount_host("/", sight=Sight.SNAPSHOT)
    path = place.encode()
    assert rig.inode(path).is_dir
    assert rig.names(path) == []
    refused(Errno.ENOENT, rig.inode, path + b"/self")
    refused(Errno.ENOENT, rig.inode, path + b"/self/mem")
    refused(Errno.ENOENT, rig.inode, path + b"/null")


def test_hidden_file_system_stays_hidden_when_it_is_the_root(rig: Rig) -> None:
    rig.mount_host("/proc")
    assert rig.names(b"/") == []
    refused(Errno.ENOENT, rig.inode, b"/self")


def test_nothing_can_be_changed(rig: Rig, tree: Path) -> None:
    rig.mount_host(tree)
    before = host_tree(tree)
    refused(Errno.EROFS, rig.open, b"/file", os.O_RDWR)
    refused(Errno.EROFS, rig.write, b"/new", b"")
    refused(Errno.EROFS, rig.mkdir, b"/newdir")
    refused(Errno.EROFS, rig.unlink, b"/file")
    refused(Errno.EROFS, rig.rename, b"/file", b"/other")
    assert host_tree(tree) == before


def test_hard_links_are_one_inode(rig: Rig, tree: Path) -> None:
    rig.mount_host(tree)
    assert rig.inode(b"/file") is rig.inode(b"/dir/same")


def test_descriptors_are_few_and_closed(rig: Rig, tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / str(number)).write_text(str(number))
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    sb = rig.mount_host(tmp_path)
    for number in range(300):
        assert rig.read(b"/%d" % number) == b"%d" % number
    held = len(os.listdir("/proc/self/fd")) - before
    assert held <= hostfs_super.DESCRIPTORS + 1
    rig.run(sb.umount)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_paths_deeper_than_the_descriptor_cache_are_reached(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    depth = 3 * hostfs_super.DESCRIPTORS
    monkeypatch.chdir(tmp_path)
    for _ in range(depth):
        os.mkdir("d")
        os.chdir("d")
    Path("leaf").write_bytes(b"deep")
    monkeypatch.undo()
    sb = rig.mount_host(tmp_path, sight=Sight.SNAPSHOT)
    path = b"/d" * depth + b"/leaf"
    inode = rig.inode(path)
    sb.descriptors.clear()
    assert rig.run(lambda: inode.read_pages(0, 1)) == b"deep"


def test_replaced_file_is_stale_in_a_snapshot(rig: Rig, tree: Path) -> None:
    sb = rig.mount_host(tree, sight=Sight.SNAPSHOT)
    inode = rig.inode(b"/file")
    (tree / "new").write_bytes(b"another")
    os.rename(tree / "new", tree / "file")
    sb.descriptors.clear()
    refused(Errno.ESTALE, rig.run, lambda: inode.read_pages(0, 1))


def test_replaced_directory_is_stale_in_a_snapshot(rig: Rig, tree: Path) -> None:
    sb = rig.mount_host(tree, sight=Sight.SNAPSHOT)
    inode = rig.inode(b"/dir/deep/leaf")
    os.rename(tree / "dir", tree / "elsewhere")
    (tree / "dir").symlink_to("elsewhere")
    sb.descriptors.clear()
    refused(Errno.ESTALE, rig.run, lambda: inode.read_pages(0, 1))


def test_file_replaced_by_a_device_is_never_opened(rig: Rig, tree: Path) -> None:
    sb = rig.mount_host(tree, sight=Sight.SNAPSHOT)
    inode = rig.inode(b"/file")
    os.unlink(tree / "file")
    os.mkfifo(tree / "file")  # an open for reading would wait for a writer
    sb.descriptors.clear()
    refused(Errno.ESTALE, rig.run, lambda: inode.read_pages(0, 1))


def test_snapshot_goes_on_after_a_freeze(rig: Rig, tree: Path) -> None:
    sb = rig.mount_host(tree, sight=Sight.SNAPSHOT)
    rig.read(b"/dir/deep/leaf")
    numbers = {name: rig.inode(name).ino for name in (b"/file", b"/dir", b"/dir/deep")}
    rig.kernel.frames = None
    sb.identities = {k: v for k, v in sb.identities.items() if v.mapping is None}
    thawed: Any = load_graph(dump_graph(sb))
    assert thawed.descriptors is None and thawed.root_fd is None

    async def walk(*names: bytes) -> Any:
        inode = thawed.root
        for name in names:
            inode = await inode.lookup(name)
        return inode

    leaf = rig.run(lambda: walk(b"dir", b"deep", b"leaf"))
    assert rig.run(lambda: leaf.read_pages(0, 1)) == b"leaf"
    assert rig.run(lambda: walk(b"file")).ino == numbers[b"/file"]
    assert rig.run(lambda: walk(b"dir", b"deep")).ino == numbers[b"/dir/deep"]


def test_live_view_follows_the_host(rig: Rig, tree: Path) -> None:
    rig.mount_host(tree, sight=Sight.LIVE)
    assert rig.read(b"/file") == b"contents"
    refused(Errno.ENOENT, rig.inode, b"/later")
    (tree / "later").write_bytes(b"now")
    (tree / "file").write_bytes(b"changed, and longer")
    os.utime(tree / "file", ns=(0, 5))
    assert rig.read(b"/later") == b"now"
    assert rig.read(b"/file") == b"changed, and longer"
    os.unlink(tree / "later")
    refused(Errno.ENOENT, rig.inode, b"/later")
    assert b"later" not in rig.names(b"/")


def test_listing_goes_on_where_it_was_while_the_host_changes(rig: Rig, tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number:02}").touch()
    rig.mount_host(tmp_path, sight=Sight.LIVE)
    first = rig.open(b"/", os.O_RDONLY | os.O_DIRECTORY)
    seen = [e.name for e in rig.run(lambda: first.entries(12))]  # type: ignore[attr-defined]
    first.pos = 12
    (tmp_path / "00").unlink()
    (tmp_path / "000").touch()
    assert b"000" in rig.names(b"/")
    rest = [e.name for e in rig.run(lambda: first.entries(100))]  # type: ignore[attr-defined]
    for name in (b"%02d" % number for number in range(20)):
        assert (seen + rest).count(name) == 1
    rig.close_file(first)


def test_deterministic_view_hides_what_varies(rig: Rig, tree: Path) -> None:
    os.utime(tree / "file", ns=(1, 10**18))
    rig.mount_host(tree, sight=Sight.SNAPSHOT, deterministic=True)
    inode = rig.inode(b"/file")
    assert inode.atime_ns == inode.mtime_ns == 10**18
    assert inode.blocks == 8
    assert rig.inode(b"/dir").size == 4096
    names = rig.names(b"/")
    assert names == sorted(names)
    numbers = [number for _, number, _ in rig.entries(b"/")]
    assert sorted([*numbers, 1]) == list(range(1, len(numbers) + 2))


def test_reading_leaves_the_hosts_access_time_alone(rig: Rig, tree: Path) -> None:
    os.utime(tree / "file", ns=(1, 10**18))
    rig.mount_host(tree)
    rig.read(b"/file")
    assert os.stat(tree / "file").st_atime_ns == 1


def test_cached_data_is_read_without_a_worker(rig: Rig, tree: Path) -> None:
    (tree / "dir" / "big").read_bytes()
    os.stat(tree / "dir" / "big")
    rig.mount_host(tree, sight=Sight.SNAPSHOT)
    rig.kernel.workers.ran.clear()
    assert len(rig.read(b"/dir/big")) == 1 << 18
    assert rig.kernel.workers.ran == []


def test_same_answers_where_everything_needs_a_worker(
    rig: Rig, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostfs_super, "find_cached", lambda *_: None)
    from uvm_async.fs.hostfs import inode as hostfs_inode

    monkeypatch.setattr(hostfs_inode, "read_cached", lambda *_: None)
    rig.mount_host(tree)
    assert rig.tree() == host_tree(tree)
    refused(Errno.ENOENT, rig.inode, b"/none")
    refused(Errno.ENOTDIR, rig.inode, b"/file/none")
    refused(Errno.ENAMETOOLONG, rig.inode, b"/" + b"n" * 256)


def test_missing_directory_is_a_users_mistake(rig: Rig, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        rig.host(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="Not a directory"):
        rig.host(tmp_path / "file")


def test_what_the_caller_may_not_read_is_refused_at_open(
    rig: Rig, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    rig.mount_host(tree)
    monkeypatch.setattr(hostfs_super, "reopen", refuse)
    refused(Errno.EACCES, rig.open, b"/file")


def test_ordinary_callers_ids_appear_as_root(
    rig: Rig, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = os.stat(tree / "file")
    monkeypatch.setattr(os, "geteuid", lambda: own.st_uid or 1000)
    monkeypatch.setattr(os, "getegid", lambda: own.st_gid)
    rig.mount_host(tree)
    inode = rig.inode(b"/file")
    assert inode.uid == (0 if own.st_uid else 65534)
    assert inode.gid == 0


class TestWritable:
    """`--bind HOST:GUEST:rw`."""

    def test_changes_reach_the_host_at_once(self, rig: Rig, tree: Path) -> None:
        rig.mount_host(tree, writable=True)
        rig.write(b"/new", b"hello")
        file = rig.open(b"/file", os.O_RDWR)
        rig.write_at(file, b"CON", 0)
        assert (tree / "file").read_bytes() == b"CONtents"
        rig.write_at(file, b"!" * 5000, 8)
        assert (tree / "file").read_bytes() == b"CONtents" + b"!" * 5000
        rig.close_file(file)
        rig.mkdir(b"/made", 0o750)
        rig.symlink(b"target", b"/made/link")
        rig.link(b"/new", b"/made/second")
        rig.rename(b"/dir/deep", b"/made/moved")
        rig.unlink(b"/relative")
        rig.chmod(b"/new", 0o640)
        rig.utime(b"/new", None, 123456789)
        rig.truncate(b"/dir/big", 10)
        assert os.stat(tree / "new").st_mtime_ns == 123456789
        assert rig.tree() == host_tree(tree)
        assert stat.S_IMODE(os.stat(tree / "made").st_mode) == 0o750
        assert os.stat(tree / "new").st_nlink == 2
        assert (tree / "made" / "moved" / "leaf").read_bytes() == b"leaf"
        assert (tree / "dir" / "big").stat().st_size == 10

    def test_mode_is_the_guests_not_the_hosts_umask(self, rig: Rig, tree: Path) -> None:
        old = os.umask(0o077)
        try:
            rig.mount_host(tree, writable=True)
            rig.task.fs.umask = 0
            rig.close_file(rig.open(b"/wide", os.O_CREAT | os.O_WRONLY, 0o666))
        finally:
            os.umask(old)
        assert stat.S_IMODE(os.stat(tree / "wide").st_mode) == 0o666

    def test_unlinked_file_lives_while_it_is_open(self, rig: Rig, tree: Path) -> None:
        sb = rig.mount_host(tree, writable=True)
        rig.write(b"/gone", b"still here")
        file = rig.open(b"/gone", os.O_RDWR)
        rig.unlink(b"/gone")
        assert not (tree / "gone").exists()
        assert file.inode.nlink == 0
        sb.descriptors.clear()
        rig.write_at(file, b"?", 9)
        assert rig.read_at(file, 100, 0) == b"still her?"
        rig.close_file(file)
        assert not sb.unnamed

    def test_rename_replaces_and_errors_are_the_hosts(self, rig: Rig, tree: Path) -> None:
        rig.mount_host(tree, writable=True)
        rig.write(b"/a", b"a")
        rig.write(b"/b", b"b")
        rig.rename(b"/a", b"/b")
        assert rig.read(b"/b") == b"a"
        refused(Errno.ENOTEMPTY, rig.rmdir, b"/dir")
        refused(Errno.EEXIST, rig.mkdir, b"/dir")
        refused(Errno.ENOTEMPTY, rig.rename, b"/dir/deep", b"/dir")
        rig.rename(b"/b", b"/file", 2)
        assert (rig.read(b"/b"), rig.read(b"/file")) == (b"contents", b"a")

    def test_host_writes_are_seen_at_the_next_open(self, rig: Rig, tree: Path) -> None:
        rig.mount_host(tree, writable=True)
        rig.write(b"/file", b"from the guest")
        assert rig.read(b"/file") == b"from the guest"
        (tree / "file").write_bytes(b"from the host, later")
        os.utime(tree / "file", ns=(0, 77))
        assert rig.read(b"/file") == b"from the host, later"

    def test_own_writes_do_not_empty_the_page_cache(self, rig: Rig, tree: Path) -> None:
        rig.mount_host(tree, writable=True)
        rig.write(b"/file", b"x" * 10000)
        inode = rig.inode(b"/file")
        assert inode.mapping is not None
        pages = dict(inode.mapping.pages)
        rig.close_file(rig.open(b"/file"))
        assert inode.mapping.pages == pages

    def test_devices_and_fifos_cannot_be_made(self, rig: Rig, tree: Path) -> None:
        rig.mount_host(tree, writable=True)
        root = rig.inode(b"/")
        refused(Errno.EPERM, rig.run, lambda: root.create(b"f", stat.S_IFIFO | 0o600, 0, 0))

    def test_read_only_access_keeps_no_write_descriptor(self, rig: Rig, tree: Path) -> None:
        sb = rig.mount_host(tree, writable=True)
        rig.read(b"/file")
        assert sb.kept(rig.inode(b"/file"), Access.WRITE) is None

    def test_ordinary_guest_cannot_give_files_away(
        self, rig: Rig, tree: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sb = rig.mount_host(tree, writable=True)
        sb.caller = (os.geteuid(), os.getegid())
        refused(Errno.EINVAL, rig.chown, b"/file", 1234, -1)
        rig.chown(b"/file", 0, 0)
