"""Advisory locks: who is refused, who waits, and whose locks end when."""

from __future__ import annotations

import fcntl
import os
import random
import struct
import tempfile
from collections.abc import Iterator

import pytest

from fs.driver import Sim
from fs.shell import Shell
from uvm_async.errors import Errno
from uvm_async.sched.wait import Interrupted

F_GETLK, F_SETLK, F_SETLKW, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW = 5, 6, 7, 36, 37, 38
RD, WR, UN = 0, 1, 2
FLOCK = struct.Struct("<hh4xqqi4x")


@pytest.fixture
def sh() -> Iterator[Shell]:
    shell = Shell(Sim.boot())
    yield shell
    shell.sim.close()


def record(sh: Shell, kind: int, start: int = 0, length: int = 0, pid: int = 0) -> int:
    return sh.data(FLOCK.pack(kind, 0, start, length, pid))


def lock(sh: Shell, fd: int, kind: int, start: int = 0, length: int = 0, cmd: int = F_SETLK) -> int:
    return sh.do("fcntl", fd, cmd, record(sh, kind, start, length))


def seen(sh: Shell, fd: int, kind: int, start: int = 0, length: int = 0) -> tuple[int, ...]:
    """F_GETLK: (type, start, length, pid) of what is in the way."""
    addr = record(sh, kind, start, length)
    sh.do("fcntl", fd, F_GETLK, addr)
    found = FLOCK.unpack(sh.task.mm.peek(addr, FLOCK.size))
    return found[0], found[2], found[3], found[4]


def test_record_locks_exclude_other_processes_by_range(sh: Shell) -> None:
    fd = sh.do("open", b"/f", os.O_RDWR | os.O_CREAT, 0o600)
    other = sh.other()
    lock(sh, fd, WR, 10, 10)
    assert other.error("fcntl", fd, F_SETLK, record(other, RD, 15, 1)) == "EAGAIN"
    assert lock(other, fd, WR, 0, 10) == 0
    assert lock(other, fd, RD, 20) == 0
    assert seen(other, fd, RD) == (WR, 10, 10, sh.task.pid)
    assert seen(sh, fd, WR, 5, 3) == (WR, 0, 10, other.task.pid)
    assert seen(sh, fd, RD, 30, 5)[0] == UN


def test_waiting_for_a_record_lock_ends_when_it_is_given_up(sh: Shell) -> None:
    fd = sh.do("open", b"/f", os.O_RDWR | os.O_CREAT, 0o600)
    other = sh.other()
    lock(sh, fd, WR, 0, 10)
    wait = other.begin("fcntl", fd, F_SETLKW, record(other, RD, 5, 1))
    assert wait.blocked
    lock(sh, fd, UN, 0, 5)
    assert wait.blocked
    lock(sh, fd, RD, 5, 5)
    assert wait.answer() == 0
    assert sh.error("fcntl", fd, F_SETLK, record(sh, WR, 5, 1)) == "EAGAIN"


def test_two_who_would_wait_for_each_other_are_told(sh: Shell) -> None:
    fd = sh.do("open", b"/f", os.O_RDWR | os.O_CREAT, 0o600)
    second, third = sh.other(), sh.other()
    for place, shell in enumerate((sh, second, third)):
        lock(shell, fd, WR, place, 1)
    assert sh.begin("fcntl", fd, F_SETLKW, record(sh, WR, 1, 1)).blocked
    assert second.begin("fcntl", fd, F_SETLKW, record(second, WR, 2, 1)).blocked
    assert (
        third.error("fcntl", fd, F_SETLKW, record(third, WR, 0, 1)) == "EDEADLOCK"
    )  # the same number


def test_who_was_interrupted_no_longer_counts_as_waiting(sh: Shell) -> None:
    fd = sh.do("open", b"/f", os.O_RDWR | os.O_CREAT, 0o600)
    other = sh.other()
    lock(sh, fd, WR, 0, 1)
    lock(other, fd, WR, 1, 1)
    wait = sh.begin("fcntl", fd, F_SETLKW, record(sh, WR, 1, 1))
    sh.sim.signal(sh.task)
    with pytest.raises(Interrupted):
        wait.answer()
    assert other.begin("fcntl", fd, F_SETLKW, record(other, WR, 0, 1)).blocked


def test_closing_any_descriptor_of_a_file_drops_the_processs_record_locks(sh: Shell) -> None:
    fd = sh.do("open", b"/f", os.O_RDWR | os.O_CREAT, 0o600)
    other = sh.other()
    lock(sh, fd, WR)
    again = sh.do("open", b"/f", os.O_RDONLY, 0)
    assert other.error("fcntl", fd, F_SETLK, record(other, RD)) == "EAGAIN"
    sh.do("close", again)
    assert lock(other, fd, WR) == 0


def test_a_lock_of_an_open_file_is_its_own_and_ends_with_it(sh: Shell) -> None:
    fd = sh.do("open", b"/f", os.O_RDWR | os.O_CREAT, 0o600)
    again = sh.do("open", b"/f", os.O_RDWR, 0)
    copy = sh.do("dup", fd)
    lock(sh, fd, WR, cmd=F_OFD_SETLK)
    assert sh.error("fcntl", again, F_OFD_SETLK, record(sh, RD)) == "EAGAIN"
    assert sh.error("fcntl", again, F_SETLK, record(sh, RD)) == "EAGAIN"
    assert lock(sh, copy, WR, cmd=F_OFD_SETLK) == 0
    sh.do("close", fd)
    assert sh.error("fcntl", again, F_OFD_SETLK, record(sh, RD)) == "EAGAIN"
    sh.do("close", copy)
    assert lock(sh, again, RD, cmd=F_OFD_SETLK) == 0
    assert sh.error("fcntl", again, F_OFD_SETLK, record(sh, RD, pid=7)) == "EINVAL"


def test_a_record_lock_needs_the_matching_access(sh: Shell) -> None:
    sh.create(b"/f")
    reading = sh.do("open", b"/f", os.O_RDONLY, 0)
    writing = sh.do("open", b"/f", os.O_WRONLY, 0)
    assert sh.error("fcntl", reading, F_SETLK, record(sh, WR)) == "EBADF"
    assert sh.error("fcntl", writing, F_SETLK, record(sh, RD)) == "EBADF"
    assert sh.error("fcntl", reading, F_SETLK, 64) == "EFAULT"
    assert sh.error("fcntl", reading, F_SETLK, record(sh, 9)) == "EINVAL"
    assert sh.error("fcntl", reading, F_SETLK, record(sh, RD, -1)) == "EINVAL"
    assert sh.error("fcntl", reading, F_SETLK, record(sh, RD, 2**63 - 1, 2)) == "EOVERFLOW"


def test_flock_belongs_to_the_open_file(sh: Shell) -> None:
    fd = sh.do("open", b"/f", os.O_RDWR | os.O_CREAT, 0o600)
    again = sh.do("open", b"/f", os.O_RDONLY, 0)
    assert sh.do("flock", fd, fcntl.LOCK_SH) == 0
    assert sh.do("flock", again, fcntl.LOCK_SH) == 0
    assert sh.error("flock", again, fcntl.LOCK_EX | fcntl.LOCK_NB) == "EAGAIN"
    child = sh.other()
    sh.do("close", fd)
    wait = sh.begin("flock", again, fcntl.LOCK_EX)
    assert wait.blocked, "the child has the file open still"
    child.do("close", fd)
    assert wait.answer() == 0
    assert sh.error("flock", again, 16) == "EINVAL"
    with pytest.raises(Errno.EBADF):
        sh.do("flock", 99, fcntl.LOCK_SH)


def test_splitting_and_joining_ranges_goes_as_on_the_host(sh: Shell) -> None:
    """Two owners (open files) lock and unlock at random; each answer is the host's."""
    chance = random.Random(7)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        path = os.path.join(directory, "f")
        host = [os.open(path, os.O_RDWR | os.O_CREAT, 0o600) for _ in range(3)]
        guest = [sh.do("open", b"/f", os.O_RDWR | os.O_CREAT, 0o600) for _ in range(3)]
        for _ in range(2000):
            sh.task.mm.next_free = 0
            who, kind = chance.randrange(3), chance.choice((RD, RD, WR, UN, UN))
            start, length = chance.randrange(30), chance.choice((0, 1, 3, 10, -5))
            cmd = chance.choice((F_OFD_SETLK, F_OFD_SETLK, F_OFD_GETLK))
            raw = FLOCK.pack(kind, 0, start, length, 0)
            assert on_host(host[who], cmd, raw) == on_guest(sh, guest[who], cmd, raw)
        for fd in host:
            os.close(fd)


def on_host(fd: int, cmd: int, raw: bytes) -> str | bytes:
    try:
        return fcntl.fcntl(fd, cmd, raw)
    except OSError as error:
        return os.strerror(error.errno)


def on_guest(sh: Shell, fd: int, cmd: int, raw: bytes) -> str | bytes:
    addr = sh.data(raw)
    try:
        sh.do("fcntl", fd, cmd, addr)
    except Errno as error:
        return os.strerror(error.errno)
    return sh.task.mm.peek(addr, FLOCK.size)
