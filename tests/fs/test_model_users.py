"""Random calls by several users are permitted and refused as on the host's tmpfs.

The host's side switches its thread's file system ids, which only root may.
"""

from __future__ import annotations

import os
import struct
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fs.driver import user
from fs.test_model import compare_trees
from fs.twins import BASE_DIR, Handle, Twins, twins
from uvm_async.kernel.cred import Cred

IDS = st.sampled_from([0, 1000, 1000, 1001])
NAMES = st.sampled_from([b"a", b"b", b"c"])
PATHS = st.one_of(NAMES, st.tuples(NAMES, NAMES).map(b"/".join))
MODES = st.sampled_from([0o777, 0o1777, 0o755, 0o700, 0o2775, 0o6755, 0o077, 0o500, 0o644, 0o060])
ACCESS = st.sampled_from(
    [os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_TRUNC, os.O_RDWR | os.O_CREAT, os.O_NOATIME]
)
NO_DEVICE = 0xF000
"""A number that no driver has, on the host either."""
UTIME_NOW, UTIME_OMIT = 0x3FFFFFFF, 0x3FFFFFFE
NSEC = st.sampled_from([5, UTIME_NOW, UTIME_OMIT, 1_000_000_000])

OPERATIONS = st.one_of(
    st.tuples(st.just("become"), IDS, IDS),
    st.tuples(st.just("chmod"), PATHS, MODES),
    st.tuples(st.just("chmod"), st.just(b"."), MODES),
    st.tuples(st.just("chown"), PATHS, st.sampled_from([-1, 0, 1000, 1001]), IDS),
    st.tuples(st.just("mkdir"), PATHS, MODES),
    st.tuples(st.just("open"), PATHS, ACCESS, MODES),
    st.tuples(st.just("unlink"), PATHS, st.sampled_from([0, 0x200])),
    st.tuples(st.just("rename"), PATHS, PATHS, st.sampled_from([0, 0, 2])),
    st.tuples(st.just("link"), PATHS, PATHS),
    st.tuples(st.just("symlink"), PATHS, PATHS),
    st.tuples(st.just("mknod"), PATHS, st.sampled_from([0o010666, 0o020666, 0o100666])),
    st.tuples(st.just("truncate"), PATHS),
    st.tuples(st.just("utime"), PATHS, NSEC, NSEC),
    st.tuples(st.just("stat"), PATHS),
    st.tuples(st.just("write"), PATHS),
)


class Users:
    """Plays operations, now as this user, now as that."""

    def __init__(self, pair: Twins) -> None:
        self.pair = pair

    def do_become(self, uid: int, gid: int) -> None:
        host = self.pair.host
        host.call("setfsuid", 0)
        host.call("setfsgid", gid)
        host.call("setfsuid", uid)
        self.pair.guest.task.cred = user(uid, gid, *os.getgroups()) if uid else Cred(fsgid=gid)

    def do_chmod(self, path: bytes, mode: int) -> None:
        self.pair.agree("fchmodat", BASE_DIR, path, mode)

    def do_chown(self, path: bytes, uid: int, gid: int) -> None:
        self.pair.agree("fchownat", BASE_DIR, path, uid, gid, 0)

    def do_mkdir(self, path: bytes, mode: int) -> None:
        self.pair.agree("mkdirat", BASE_DIR, path, mode)

    def do_open(self, path: bytes, flags: int, mode: int) -> None:
        handle = self.pair.open(path, flags | os.O_NONBLOCK, mode)
        if isinstance(handle, Handle):
            self.pair.close_handle(handle)

    def do_write(self, path: bytes) -> None:
        handle = self.pair.open(path, os.O_WRONLY | os.O_NONBLOCK)
        if isinstance(handle, Handle):
            self.pair.agree("write", handle, bytearray(b"data"), 4)
            self.pair.close_handle(handle)

    def do_unlink(self, path: bytes, flags: int) -> None:
        self.pair.agree("unlinkat", BASE_DIR, path, flags)

    def do_rename(self, old: bytes, new: bytes, flags: int) -> None:
        self.pair.agree("renameat2", BASE_DIR, old, BASE_DIR, new, flags)

    def do_link(self, old: bytes, new: bytes) -> None:
        self.pair.agree("linkat", BASE_DIR, old, BASE_DIR, new, 0)

    def do_symlink(self, target: bytes, path: bytes) -> None:
        self.pair.agree("symlinkat", target, BASE_DIR, path)

    def do_mknod(self, path: bytes, mode: int) -> None:
        self.pair.agree("mknodat", BASE_DIR, path, mode, NO_DEVICE)

    def do_truncate(self, path: bytes) -> None:
        for side in self.pair.sides:
            side.call("fchdir", side.base)
        self.pair.agree("truncate", path, 10)

    def do_utime(self, path: bytes, atime: int, mtime: int) -> None:
        times = bytearray(struct.pack("<qqqq", 100, atime, 200, mtime))
        self.pair.agree("utimensat", BASE_DIR, path, times, 0)

    def do_stat(self, path: bytes) -> None:
        self.pair.stat(path)


FURNITURE: list[tuple[Any, ...]] = [
    ("chmod", b".", 0o777),
    ("become", 1000, 1000),
    ("mkdir", b"a", 0o777),
    ("chmod", b"a", 0o1777),
    ("open", b"b", os.O_RDWR | os.O_CREAT, 0o644),
    ("become", 1001, 1001),
    ("open", b"a/a", os.O_RDWR | os.O_CREAT, 0o4755),
    ("mkdir", b"a/b", 0o755),
]


@pytest.mark.needs_root
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)
@given(st.lists(OPERATIONS, min_size=1, max_size=30))
def test_users_may_do_what_they_may_do_on_the_host(operations: list[tuple[Any, ...]]) -> None:
    here = os.getcwd()
    with twins() as pair:
        player = Users(pair)
        try:
            for operation in (*FURNITURE, *operations):
                getattr(player, "do_" + operation[0])(*operation[1:])
            player.do_become(0, 0)
            compare_trees(pair)
        finally:
            player.do_become(0, 0)
            os.chdir(here)
