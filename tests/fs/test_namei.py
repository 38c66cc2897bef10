"""Walks: symlinks, `..`, O_PATH, AT_EMPTY_PATH, openat2; held against the host call by call."""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Iterator

import pytest

from fs.driver import Sim
from fs.shell import Shell
from fs.twins import BASE_DIR, Handle, Twins, read_directory, twins
from uvm_async.errors import Errno
from uvm_async.fs.inode import Inode, Path
from uvm_async.fs.tmpfs.inode import TmpfsInode

O_PATH, O_NOFOLLOW, O_DIRECTORY, O_CREAT = os.O_PATH, os.O_NOFOLLOW, os.O_DIRECTORY, os.O_CREAT
AT_EMPTY_PATH, AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW = 0x1000, 0x400, 0x100


@pytest.fixture
def pair() -> Iterator[Twins]:
    with twins() as both:
        for path in (b"d", b"d/e"):
            both.agree("mkdirat", BASE_DIR, path, 0o755)
        for path in (b"f", b"d/g"):
            handle = both.open(path, os.O_RDWR | O_CREAT)
            assert isinstance(handle, Handle)
            both.close_handle(handle)
        yield both


def opened(pair: Twins, path: bytes, flags: int) -> Handle:
    handle = pair.open(path, flags)
    assert isinstance(handle, Handle), handle
    return handle


def test_forty_symlinks_are_followed_and_no_more(pair: Twins) -> None:
    pair.agree("symlinkat", b"f", BASE_DIR, b"l0")
    for number in range(1, 42):
        pair.agree("symlinkat", b"l%d" % (number - 1), BASE_DIR, b"l%d" % number)
    assert pair.stat(b"l39") == 0
    assert pair.stat(b"l40") == "ELOOP"
    assert pair.stat(b"l41", AT_SYMLINK_NOFOLLOW) == 0
    pair.agree("symlinkat", b"self", BASE_DIR, b"self")
    for flags in (0, O_CREAT, O_PATH, O_DIRECTORY):
        assert pair.open(b"self", flags) == "ELOOP"
    pair.agree("symlinkat", b"d", BASE_DIR, b"ld")
    assert pair.stat(b"ld/../" * 40 + b"f") == 0
    assert pair.stat(b"ld/../" * 41 + b"f") == "ELOOP"


@pytest.mark.parametrize("target", [b"nowhere", b"d/new", b"d/", b"d", b"f", b"f/", b"", b".."])
def test_creating_through_a_symlink(pair: Twins, target: bytes) -> None:
    pair.agree("symlinkat", target, BASE_DIR, b"link")
    for flags in (O_CREAT, O_CREAT | os.O_EXCL, O_CREAT | O_NOFOLLOW, O_CREAT | os.O_RDWR):
        handle = pair.open(b"link", flags)
        if isinstance(handle, Handle):
            pair.stat_handle(handle)
    assert pair.listing(b".") and pair.listing(b"d")
    for path in (b"link", b"link/", b"link/."):
        pair.agree("mkdirat", BASE_DIR, path, 0o755)
        pair.agree("unlinkat", BASE_DIR, path, 0x200)
        pair.stat(path)
        pair.stat(path, AT_SYMLINK_NOFOLLOW)
        pair.agree("readlinkat", BASE_DIR, path, bytearray(20), 20)


def test_what_a_descriptor_of_a_place_can_do(pair: Twins) -> None:
    for path, flags in ((b"f", O_PATH), (b"d", O_PATH | O_DIRECTORY), (b"f", O_PATH | O_CREAT)):
        handle = opened(pair, path, flags)
        for name, *args in (
            ("read", bytearray(4), 4),
            ("write", bytearray(4), 4),
            ("lseek", 0, 0),
            ("ftruncate", 0),
            ("fchmod", 0o600),
            ("fchown", -1, -1),
            ("ioctl", 0x5421, bytearray(4)),
            ("getdents64", bytearray(100), 100),
            ("fcntl", 1, 0),
            ("fcntl", 3, 0),
            ("fcntl", 4, 0),
            ("flock", 1),
            ("fsync",),
            ("fchdir",),
            ("fallocate", 0, 0, 1),
        ):
            if name == "fchdir" and path == b"d":
                continue
            pair.agree(name, handle, *args)
        pair.stat_handle(handle)
        pair.agree("linkat", handle, b"", BASE_DIR, b"new", AT_EMPTY_PATH)
        pair.agree("unlinkat", BASE_DIR, b"new", 0)
        pair.agree("fchmodat2", handle, b"", 0o640, AT_EMPTY_PATH)
        pair.agree("fchownat", handle, b"", -1, -1, AT_EMPTY_PATH)
        pair.agree("utimensat", handle, b"", 0, AT_EMPTY_PATH)
        pair.agree("faccessat2", handle, b"", 4, AT_EMPTY_PATH)


def test_a_descriptor_of_a_symlink_itself(pair: Twins) -> None:
    pair.agree("symlinkat", b"d/g", BASE_DIR, b"link")
    assert pair.open(b"link", O_NOFOLLOW) == "ELOOP"
    handle = opened(pair, b"link", O_PATH | O_NOFOLLOW)
    pair.stat_handle(handle)
    assert pair.agree("readlinkat", handle, b"", bytearray(10), 10) == 3
    assert pair.agree("readlinkat", BASE_DIR, b"", bytearray(10), 10) == "ENOENT"
    assert pair.agree("openat", handle, b"x", 0, 0) == "ENOTDIR"


def test_relative_paths_and_bad_directories(pair: Twins) -> None:
    directory = opened(pair, b"d", O_DIRECTORY)
    file = opened(pair, b"f", os.O_RDONLY)
    for at in (directory, file, 9999, -1):
        for path in (b"g", b"", b"../f", b"/", b"nowhere"):
            pair.agree("faccessat", at, path, 0)
            pair.agree("readlinkat", at, path, bytearray(8), 8)
            pair.agree("mkdirat", at, b"g" if path == b"/" else path, 0o700)
            pair.agree("unlinkat", at, path, 0x200)
    assert pair.agree("newfstatat", file, b"", bytearray(0), 0x10000) == "EINVAL"


HOW = [
    dict(zip(("flags", "mode", "resolve"), values, strict=True))
    for values in itertools.product(
        (0, O_PATH, O_CREAT | os.O_RDWR, O_DIRECTORY | O_CREAT, 1 << 40),
        (0, 0o600),
        (0, 1, 2, 4, 8, 16, 8 | 16, 32, 64),
    )
]


@pytest.mark.parametrize("how", HOW, ids=lambda how: "-".join(f"{v:o}" for v in how.values()))
def test_openat2_resolves_as_it_is_told(pair: Twins, how: dict[str, int]) -> None:
    pair.agree("symlinkat", b"../f", BASE_DIR, b"d/up")
    pair.agree("symlinkat", b"/f", BASE_DIR, b"d/root")
    directory = opened(pair, b"d", O_DIRECTORY)
    raw = bytearray(struct.pack("<QQQ", how["flags"], how["mode"], how["resolve"]))
    for path in (b"g", b"e/../g", b"..", b"up", b"root", b"/", b"new", b"e/../../d/g", b"/g"):
        if path in (b"/", b"root", b"/g") and not how["resolve"] & 24:
            continue  # the two have different roots
        results = [side.call("openat2", directory.of(side), path, raw, 24) for side in pair.sides]
        if all(isinstance(result, int) for result in results):
            handle = pair._keep(results, "openat2")
            assert isinstance(handle, Handle)
            pair.stat_handle(handle)
        elif results[0] != "EAGAIN":  # what the host has cached is its own affair
            assert results[0] == results[1], (path, how)


def test_openat2_checks_the_size_of_its_argument(pair: Twins) -> None:
    raw = bytearray(struct.pack("<QQQ", O_PATH, 0, 0))
    for size, tail in ((23, b""), (32, bytes(8)), (32, b"\1" + bytes(7)), (5000, bytes(4976))):
        argument = raw + bytearray(tail)
        results = [side.call("openat2", side.base, b"f", argument, size) for side in pair.sides]
        if isinstance(results[0], int):
            pair._keep(results, "openat2")
        else:
            assert results[0] == results[1]


def test_a_listing_goes_on_while_names_come_and_go(pair: Twins) -> None:
    for number in range(50):
        pair.agree("mkdirat", BASE_DIR, b"d/%03d" % number, 0o755)
    handle = opened(pair, b"d", O_DIRECTORY)
    first: list[list[bytes]] = []
    for side in pair.sides:
        buffer = bytearray(400)
        assert isinstance(side.call("getdents64", handle.of(side), buffer, 400), int)
        first.append([bytes(buffer[19:20])])
    for number in range(0, 50, 3):
        pair.agree("unlinkat", BASE_DIR, b"d/%03d" % number, 0x200)
    pair.agree("mkdirat", BASE_DIR, b"d/late", 0o755)
    rest = [read_directory(side, handle.of(side)) for side in pair.sides]
    assert rest[0] == rest[1]


def test_a_removed_directory_lists_nothing(pair: Twins) -> None:
    handle = opened(pair, b"d/e", O_DIRECTORY)
    pair.agree("unlinkat", BASE_DIR, b"d/e", 0x200)
    assert pair.agree("getdents64", handle, bytearray(100), 100) == "ENOENT"
    assert pair.agree("faccessat", handle, b"..", 0) == 0
    assert pair.agree("mkdirat", handle, b"x", 0o755) == "ENOENT"
    assert pair.agree("linkat", BASE_DIR, b"f", handle, b"x", 0) == "ENOENT"
    pair.stat_handle(handle)


def test_renames_that_would_tie_a_knot(pair: Twins) -> None:
    for old, new, flags in itertools.product(
        (b"d", b"d/e", b"f", b"d/g", b".", b"d/..", b"d/."),
        (b"d/e/x", b"d", b"d/e", b"f/x", b"d/e/../e/y", b"..", b"d/e/."),
        (0, 1, 2),
    ):
        pair.agree("renameat2", BASE_DIR, old, BASE_DIR, new, flags)
        pair.listing(b".")
        pair.listing(b"d")


# -- magic links, which no file system of the host's can be asked for


class MagicLink(TmpfsInode):
    """A symlink that leads to a place rather than to a name."""

    target: Path

    async def get_link(self, task: object) -> Path:
        return self.target


@pytest.fixture
def sh() -> Iterator[Shell]:
    shell = Shell(Sim.boot())
    yield shell
    shell.sim.close()


def plant(sh: Shell, name: bytes, target: Path) -> None:
    root = sh.inode(b"/")
    link = MagicLink(root.sb, 99, 0o120777, 0, 0, 0)  # type: ignore[arg-type]
    link.target = target
    root._add(name, link)  # type: ignore[attr-defined]


def test_a_magic_link_leads_to_what_has_no_name_any_more(sh: Shell) -> None:
    fd = sh.do("open", b"/f", os.O_RDWR | O_CREAT, 0o600)
    sh.write(fd, b"hidden")
    path = sh.task.files.get(fd).path
    assert path is not None
    sh.do("unlink", b"/f")
    plant(sh, b"magic", path)
    assert sh.contents(b"/magic") == b"hidden"
    again = sh.do("open", b"/magic", os.O_WRONLY | O_CREAT | os.O_TRUNC, 0o600)
    sh.write(again, b"new")
    assert sh.do("readlink", b"/magic", sh.room(64), 64) == len(b"/f (deleted)")
    assert sh.peek(12) == b"/f (deleted)"


def test_a_pipe_can_be_opened_again_by_its_magic_link(sh: Shell) -> None:
    reader, writer = sh.pipe()
    path = sh.task.files.get(reader).path
    assert path is not None
    plant(sh, b"magic", path)
    other = sh.do("open", b"/magic", os.O_WRONLY | O_CREAT, 0o600)
    sh.write(other, b"through the name")
    assert sh.read(reader, 7) == b"through"
    sh.do("close", writer)
    sh.do("close", other)
    assert sh.read(reader, 20) == b" the name"
    assert sh.read(reader, 20) == b""


class Moody(TmpfsInode):
    """A directory whose entry is another inode each time it is asked for."""

    cache_names = False
    asked = 0

    async def lookup(self, name: bytes) -> Inode:
        self.asked += 1
        if self.asked % 2:
            raise Errno.ENOENT
        return TmpfsInode(self.tmpfs, 1000 + self.asked, 0o100644, 0, 0, 0)


def test_names_that_come_and_go_by_themselves_are_not_cached(sh: Shell) -> None:
    root = sh.inode(b"/")
    root._add(b"moody", Moody(root.sb, 99, 0o040755, 0, 0, 0))  # type: ignore[attr-defined, arg-type]
    assert sh.error("access", b"/moody/x", 0) == "ENOENT"
    assert sh.do("access", b"/moody/x", 0) == 0
    assert sh.error("access", b"/moody/x", 0) == "ENOENT"
    assert sh.inode(b"/moody/x").ino == 1004
