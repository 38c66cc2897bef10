"""Which times of a file and of its directory each call changes: as on the host's tmpfs."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable

import pytest

from fs.twins import BASE_DIR, Guest, Handle, Host, Twins, twins

PAUSE_NS = 12_000_000
"""More than a tick of the host's file times."""
WATCHED = (b".", b"d", b"f", b"d/g", b"l")
O_PATH_HERE = os.O_PATH | os.O_NOFOLLOW
RDWR, CREAT = os.O_RDWR, os.O_CREAT


def times(side: Host | Guest, handle: Handle) -> tuple[int, ...]:
    """(access, modification, change) in nanoseconds."""
    buffer = bytearray(144)
    assert side.call("fstat", handle.of(side), buffer) == 0
    values = struct.unpack_from("<6q", buffer, 72)
    return tuple(values[at] * 10**9 + values[at + 1] for at in (0, 2, 4))


def opened(pair: Twins, path: bytes, flags: int = RDWR) -> Handle:
    handle = pair.open(path, flags)
    assert isinstance(handle, Handle)
    return handle


def furnish(pair: Twins) -> None:
    pair.agree("mkdirat", BASE_DIR, b"d", 0o755)
    for path in (b"f", b"d/g"):
        handle = opened(pair, path, RDWR | CREAT)
        pair.agree("write", handle, bytearray(b"content"), 7)
        pair.close_handle(handle)
    pair.agree("symlinkat", b"f", BASE_DIR, b"l")


def with_file(use: Callable[[Twins, Handle], object], flags: int = RDWR) -> Callable[[Twins], None]:
    def action(pair: Twins) -> None:
        handle = opened(pair, b"f", flags)
        use(pair, handle)
        pair.close_handle(handle)

    return action


def with_directory(pair: Twins) -> None:
    pair.listing(b"d")


def twice(action: Callable[[Twins], object]) -> Callable[[Twins], None]:
    """The second of two, as relatime treats it otherwise than the first."""

    def both(pair: Twins) -> None:
        action(pair)
        wait(pair)
        remember(pair)
        action(pair)

    return both


def call(name: str, *args: object) -> Callable[[Twins], None]:
    def action(pair: Twins) -> None:
        assert pair.agree(name, *args) == 0

    return action


def read_some(pair: Twins, handle: Handle) -> None:
    pair.agree("read", handle, bytearray(3), 3)


ACTIONS: dict[str, Callable[[Twins], None]] = {
    "nothing": lambda pair: None,
    "open": with_file(lambda pair, handle: None),
    "read": with_file(read_some),
    "read twice": twice(with_file(read_some)),
    "read with O_NOATIME": with_file(read_some, RDWR | os.O_NOATIME),
    "read nothing": with_file(lambda pair, handle: pair.agree("read", handle, bytearray(0), 0)),
    "write": with_file(lambda pair, handle: pair.agree("write", handle, bytearray(b"x"), 1)),
    "write nothing": with_file(lambda pair, handle: pair.agree("write", handle, bytearray(0), 0)),
    "list": with_directory,
    "list twice": twice(with_directory),
    "readlink": lambda pair: void(pair.agree("readlinkat", BASE_DIR, b"l", bytearray(9), 9)),
    "follow": lambda pair: pair.close_handle(opened(pair, b"l", os.O_RDONLY)),
    "truncate by open": with_file(lambda pair, handle: None, RDWR | os.O_TRUNC),
    "ftruncate": with_file(lambda pair, handle: pair.agree("ftruncate", handle, 3)),
    "ftruncate to the same": with_file(lambda pair, handle: pair.agree("ftruncate", handle, 7)),
    "fallocate": with_file(lambda pair, handle: pair.agree("fallocate", handle, 0, 0, 9000)),
    "fallocate, size kept": with_file(
        lambda pair, handle: pair.agree("fallocate", handle, 1, 0, 9000)
    ),
    "create": lambda pair: pair.close_handle(opened(pair, b"d/new", RDWR | CREAT)),
    "create what exists": lambda pair: pair.close_handle(opened(pair, b"f", RDWR | CREAT)),
    "mkdir": call("mkdirat", BASE_DIR, b"d/new", 0o755),
    "symlink": call("symlinkat", b"x", BASE_DIR, b"d/new"),
    "link": call("linkat", BASE_DIR, b"f", BASE_DIR, b"d/new", 0),
    "unlink": call("unlinkat", BASE_DIR, b"d/g", 0),
    "unlink one of two": lambda pair: (
        call("linkat", BASE_DIR, b"f", BASE_DIR, b"d/new", 0)(pair),
        wait(pair),
        remember(pair),
        call("unlinkat", BASE_DIR, b"d/new", 0)(pair),
    )[3],
    "rename": call("renameat2", BASE_DIR, b"d/g", BASE_DIR, b"d/h", 0),
    "rename to another directory": call("renameat2", BASE_DIR, b"f", BASE_DIR, b"d/f", 0),
    "rename over": call("renameat2", BASE_DIR, b"f", BASE_DIR, b"d/g", 0),
    "exchange": call("renameat2", BASE_DIR, b"f", BASE_DIR, b"d/g", 2),
    "chmod": call("fchmodat", BASE_DIR, b"f", 0o600),
    "chmod to the same": call("fchmodat", BASE_DIR, b"f", 0o644),
    "chown to nobody else": call("fchownat", BASE_DIR, b"f", -1, -1, 0),
    "utimensat": call("utimensat", BASE_DIR, b"f", 0, 0),
    "utimensat of one": call(
        "utimensat", BASE_DIR, b"f", bytearray(struct.pack("<4q", 0, 0x3FFFFFFE, 5, 6)), 0
    ),
}


def void(_: object) -> None:
    """For calls whose answer is not 0."""


def wait(pair: Twins) -> None:
    time.sleep(PAUSE_NS / 1e9)
    pair.guest.sim.pass_time(PAUSE_NS)


def remember(pair: Twins) -> None:
    """Hold on to the watched inodes, whatever their names will be, and to their times."""
    watched = pair.memory.setdefault(
        "watched", {path: opened(pair, path, O_PATH_HERE) for path in WATCHED}
    )
    pair.memory["before"] = [
        {path: times(side, handle) for path, handle in watched.items()} for side in pair.sides
    ]


def changes(pair: Twins) -> list[dict[bytes, list[str]]]:
    """For each side: which of the three times of each inode are others than before."""
    result: list[dict[bytes, list[str]]] = []
    for side, before in zip(pair.sides, pair.memory["before"], strict=True):
        changed: dict[bytes, list[str]] = {}
        for path, handle in pair.memory["watched"].items():
            pairs = zip(("atime", "mtime", "ctime"), before[path], times(side, handle), strict=True)
            changed[path] = [name for name, old, new in pairs if old != new]
        result.append(changed)
    return result


@pytest.mark.parametrize("name", ACTIONS)
def test_times_change_as_on_the_host(name: str) -> None:
    with twins() as pair:
        furnish(pair)
        wait(pair)
        remember(pair)
        ACTIONS[name](pair)
        host, guest = changes(pair)
        assert guest == host
