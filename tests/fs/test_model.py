"""Random sequences of file system calls end on our tmpfs as they end on the host's."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fs.twins import BASE_DIR, Handle, Twins, twins

NAMES = st.sampled_from([b"a", b"b", b"c", b"d"])
PATHS = st.one_of(
    NAMES,
    st.tuples(NAMES, NAMES).map(b"/".join),
    st.tuples(NAMES, NAMES, NAMES).map(b"/".join),
    NAMES.map(lambda name: name + b"/"),
    NAMES.map(lambda name: b"./" + name),
    st.tuples(NAMES, NAMES).map(lambda pair: pair[0] + b"/../" + pair[1]),
    st.sampled_from([b".", b"..", b"a/.", b"b/..", b"", b"a//b", b"x" * 256, b"a/" + b"y" * 256]),
)
SHORT = st.one_of(NAMES, st.tuples(NAMES, NAMES).map(b"/".join))
TARGETS = st.one_of(PATHS, st.sampled_from([b"c/", b"b/c/", b"a/..", b"nowhere"]))
OPEN_FLAGS = st.builds(
    lambda access, bits: access | sum(bits),
    st.sampled_from([os.O_RDONLY, os.O_WRONLY, os.O_RDWR]),
    st.lists(
        st.sampled_from(
            [
                os.O_CREAT,
                os.O_EXCL,
                os.O_TRUNC,
                os.O_APPEND,
                os.O_DIRECTORY,
                os.O_NOFOLLOW,
                os.O_PATH,
            ]
        ),
        unique=True,
        max_size=3,
    ),
)
SIZES = st.sampled_from([0, 1, 7, 100, 4095, 4096, 4097, 9000, 20000])
MODES = st.sampled_from([0o755, 0o700, 0o444, 0o4711, 0o2755, 0o1777, 0])

OPERATIONS = st.one_of(
    st.tuples(st.just("open"), PATHS, OPEN_FLAGS, MODES),
    st.tuples(st.just("open"), NAMES, st.just(os.O_RDWR | os.O_CREAT), st.just(0o644)),
    st.tuples(st.just("mkdir"), PATHS, MODES),
    st.tuples(st.just("mkdir"), NAMES, st.just(0o755)),
    st.tuples(st.just("unlink"), PATHS, st.sampled_from([0, 0, 0x200])),
    st.tuples(st.just("rename"), SHORT, SHORT, st.sampled_from([0, 0, 1, 2])),
    st.tuples(st.just("link"), SHORT, SHORT, st.just(0)),
    st.tuples(st.just("unlink"), SHORT, st.sampled_from([0, 0x200])),
    st.tuples(st.just("rename"), PATHS, PATHS, st.sampled_from([0, 0, 0, 1, 2, 3, 8])),
    st.tuples(st.just("link"), PATHS, PATHS, st.sampled_from([0, 0x400, 0x1000])),
    st.tuples(st.just("symlink"), TARGETS, PATHS),
    st.tuples(st.just("mknod"), PATHS, st.sampled_from([0o010644, 0o100600, 0o140600, 0o040700])),
    st.tuples(st.just("readlink"), PATHS),
    st.tuples(st.just("stat"), PATHS, st.sampled_from([0, 0x100])),
    st.tuples(st.just("list"), PATHS),
    st.tuples(st.just("access"), PATHS, st.integers(0, 8)),
    st.tuples(st.just("chmod"), PATHS, MODES),
    st.tuples(st.just("write"), st.integers(0, 5), SIZES),
    st.tuples(st.just("pwrite"), st.integers(0, 5), SIZES, SIZES),
    st.tuples(st.just("read"), st.integers(0, 5), SIZES),
    st.tuples(st.just("pread"), st.integers(0, 5), SIZES, SIZES),
    st.tuples(st.just("seek"), st.integers(0, 5), st.integers(-5000, 9000), st.integers(0, 2)),
    st.tuples(st.just("ftruncate"), st.integers(0, 5), SIZES),
    st.tuples(st.just("fallocate"), st.integers(0, 5), st.sampled_from([0, 1, 3]), SIZES, SIZES),
    st.tuples(st.just("close"), st.integers(0, 5)),
    st.tuples(st.just("fstat"), st.integers(0, 5)),
)


class Player:
    """Plays operations on a pair of twins."""

    def __init__(self, pair: Twins) -> None:
        self.pair = pair
        self.handles: list[Handle] = []
        self.filler = 0

    def play(self, operation: tuple[Any, ...]) -> None:
        getattr(self, "do_" + operation[0])(*operation[1:])

    def _handle(self, at: int) -> Handle | None:
        return self.handles[at % len(self.handles)] if self.handles else None

    def _data(self, size: int) -> bytearray:
        self.filler += 1
        return bytearray((b"%06d" % self.filler) * (size // 6 + 1))[:size]

    def do_open(self, path: bytes, flags: int, mode: int) -> None:
        handle = self.pair.open(path, flags | os.O_NONBLOCK, mode)
        if isinstance(handle, Handle):
            self.handles.append(handle)

    def do_close(self, at: int) -> None:
        handle = self._handle(at)
        if handle is not None:
            self.handles.remove(handle)
            self.pair.close_handle(handle)

    def do_mkdir(self, path: bytes, mode: int) -> None:
        self.pair.agree("mkdirat", BASE_DIR, path, mode)

    def do_unlink(self, path: bytes, flags: int) -> None:
        self.pair.agree("unlinkat", BASE_DIR, path, flags)

    def do_rename(self, old: bytes, new: bytes, flags: int) -> None:
        self.pair.agree("renameat2", BASE_DIR, old, BASE_DIR, new, flags)

    def do_link(self, old: bytes, new: bytes, flags: int) -> None:
        self.pair.agree("linkat", BASE_DIR, old, BASE_DIR, new, flags)

    def do_symlink(self, target: bytes, path: bytes) -> None:
        self.pair.agree("symlinkat", target, BASE_DIR, path)

    def do_mknod(self, path: bytes, mode: int) -> None:
        self.pair.agree("mknodat", BASE_DIR, path, mode, 0)

    def do_readlink(self, path: bytes) -> None:
        self.pair.agree("readlinkat", BASE_DIR, path, bytearray(300), 300)

    def do_stat(self, path: bytes, flags: int) -> None:
        self.pair.stat(path, flags)

    def do_list(self, path: bytes) -> None:
        self.pair.listing(path)

    def do_access(self, path: bytes, mode: int) -> None:
        self.pair.agree("faccessat", BASE_DIR, path, mode)

    def do_chmod(self, path: bytes, mode: int) -> None:
        self.pair.agree("fchmodat", BASE_DIR, path, mode)

    def do_write(self, at: int, size: int) -> None:
        if handle := self._handle(at):
            self.pair.agree("write", handle, self._data(size), size)

    def do_pwrite(self, at: int, size: int, pos: int) -> None:
        if handle := self._handle(at):
            self.pair.agree("pwrite64", handle, self._data(size), size, pos)

    def do_read(self, at: int, size: int) -> None:
        if handle := self._handle(at):
            self.pair.agree("read", handle, bytearray(size), size)

    def do_pread(self, at: int, size: int, pos: int) -> None:
        if handle := self._handle(at):
            self.pair.agree("pread64", handle, bytearray(size), size, pos)

    def do_seek(self, at: int, offset: int, whence: int) -> None:
        # Positions of a directory are the file system's own business.
        if (handle := self._handle(at)) and not self._is_directory(handle):
            self.pair.agree("lseek", handle, offset, whence)

    def _is_directory(self, handle: Handle) -> bool:
        buffer = bytearray(144)
        self.pair.host.call("fstat", handle.of(self.pair.host), buffer)
        return int.from_bytes(buffer[24:28], "little") & 0o170000 == 0o040000

    def do_ftruncate(self, at: int, size: int) -> None:
        if handle := self._handle(at):
            self.pair.agree("ftruncate", handle, size)

    def do_fallocate(self, at: int, mode: int, offset: int, size: int) -> None:
        if handle := self._handle(at):
            self.pair.agree("fallocate", handle, mode, offset, size)

    def do_fstat(self, at: int) -> None:
        if handle := self._handle(at):
            self.pair.stat_handle(handle)


FURNITURE: list[tuple[Any, ...]] = [
    ("mkdir", b"a", 0o755),
    ("mkdir", b"a/a", 0o755),
    ("mkdir", b"b", 0o777),
    ("mkdir", b"b/b", 0o1777),
    ("open", b"c", os.O_RDWR | os.O_CREAT, 0o644),
    ("write", 0, 5000),
    ("open", b"a/b", os.O_RDWR | os.O_CREAT, 0o600),
    ("open", b"b/c", os.O_WRONLY | os.O_CREAT, 0o755),
    ("symlink", b"a", b"d"),
    ("symlink", b"../c", b"a/d"),
    ("symlink", b"b/", b"a/c"),
]
"""What there is before a random sequence begins, so that its paths lead somewhere."""


def compare_trees(pair: Twins, path: bytes = b".") -> None:
    """Every directory lists alike, every inode has the same attributes."""
    entries = pair.listing(path)
    if isinstance(entries, str):
        return
    for name, kind in entries:
        if name in (b".", b".."):
            continue
        below = path + b"/" + name
        pair.stat(below, 0x100)
        if kind == 4:
            compare_trees(pair, below)
        elif kind == 10:
            pair.agree("readlinkat", BASE_DIR, below, bytearray(300), 300)
        elif kind == 8:
            handle = pair.open(below, os.O_RDONLY)
            if isinstance(handle, Handle):
                pair.agree("read", handle, bytearray(40000), 40000)
                pair.close_handle(handle)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)
@given(st.lists(OPERATIONS, min_size=1, max_size=40))
def test_any_sequence_of_calls_ends_as_on_the_hosts_tmpfs(
    operations: list[tuple[Any, ...]],
) -> None:
    with twins() as pair:
        player = Player(pair)
        for operation in (*FURNITURE, *operations):
            player.play(operation)
        compare_trees(pair)
