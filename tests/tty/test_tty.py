"""Terminals: who may use one, how long reads wait, and what programs ask of one."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from typing import Any

import pytest

from fs.driver import Sim
from support.ttyrig import TCSETS, Ours
from uvm_async.errors import Errno
from uvm_async.fs.devfs import devfs
from uvm_async.fs.namei import AT_FDCWD, open_path
from uvm_async.kernel.cred import Cred
from uvm_async.kernel.signal import SigAction
from uvm_async.mm.iov import KernelIter
from uvm_async.sched.wait import Interrupted
from uvm_async.state import dump_graph, load_graph
from uvm_async.tty.base import Tty
from uvm_async.tty.console import Console, register_ttys
from uvm_async.tty.file import TtyFile
from uvm_async.tty.termios import Cflag, Lflag, Termios

SIGHUP, SIGINT, SIGQUIT, SIGCONT, SIGTSTP, SIGTTIN, SIGTTOU, SIGWINCH = 1, 2, 3, 18, 20, 21, 22, 28
TIOCSCTTY, TIOCGPGRP, TIOCSPGRP, TIOCNOTTY, TIOCGSID = 0x540E, 0x540F, 0x5410, 0x5422, 0x5429
TCSETSW, TCSETSF, TCXONC, TCFLSH, TIOCSTI = 0x5403, 0x5404, 0x540A, 0x540B, 0x5412
TIOCGWINSZ, TIOCSWINSZ, TCGETS, FIONREAD, TCGETS2 = 0x5413, 0x5414, 0x5401, 0x541B, 0x802C542A


@pytest.fixture
def sim() -> Iterator[Sim]:
    sim = Sim.boot(4 << 20)
    yield sim
    sim.close()


@pytest.fixture
def ours(sim: Sim) -> Ours:
    """A terminal with a session leader (10) in its foreground."""
    ours = Ours(sim)
    ours.tty.make_controlling(ours.task.process)
    ours.file.flags &= ~os.O_NONBLOCK
    return ours


def read(ours: Ours, count: int, task: Any = None) -> Any:
    """Begin a read; its answer is what was read."""
    task = task or ours.task

    async def call() -> bytes:
        it = KernelIter(room=count)
        await ours.file.read_iter(task, it)
        return bytes(it.data)

    return ours.sim.start(task, call)


def write(ours: Ours, data: bytes, task: Any = None) -> Any:
    task = task or ours.task
    return ours.sim.start(task, lambda: ours.file.write_iter(task, KernelIter(data)))


def ioctl(ours: Ours, cmd: int, arg: int = 0, task: Any = None) -> Any:
    task = task or ours.task
    return ours.sim.start(task, lambda: ours.file.ioctl(task, cmd, arg)).answer()


def ioctl_out(ours: Ours, cmd: int, size: int, task: Any = None) -> bytes:
    task = task or ours.task
    addr = task.mm.alloc(size)
    ioctl(ours, cmd, addr, task)
    return bytes(task.mm.peek(addr, size))


@pytest.mark.parametrize(("cmd", "size"), [(TCGETS, 36), (TCGETS2, 44)])
def test_new_terminal_has_the_hosts_settings(ours: Ours, cmd: int, size: int) -> None:
    master, slave = os.openpty()
    hosts = fcntl.ioctl(slave, cmd, bytes(size))
    os.close(master)
    os.close(slave)
    mine = bytearray(ioctl_out(ours, cmd, size))
    mine[8:12] = (int.from_bytes(mine[8:12], "little") & ~Cflag.HUPCL).to_bytes(4, "little")
    assert bytes(mine) == hosts  # but that a pty has no line to hang up


@pytest.mark.parametrize(
    ("key", "signo"), [(b"\x03", SIGINT), (b"\x1c", SIGQUIT), (b"\x1a", SIGTSTP)]
)
def test_keys_signal_the_foreground(ours: Ours, key: bytes, signo: int) -> None:
    ours.tty.pgrp = 77
    ours.type(b"lost" + key + b"kept\n")
    assert ours.jobs.take_signals() == [(-77, signo)]
    ours.tty.pgrp = 10
    assert read(ours, 100).answer() == b"kept\n"


def test_reader_waits_for_a_line_and_gets_one(ours: Ours) -> None:
    call = read(ours, 100)
    for key in b"ab\x7fc":
        ours.type(bytes((key,)))
        ours.sim.settle()
        assert call.blocked
    ours.type(b"\nmore\n")
    ours.sim.settle()
    assert call.answer() == b"ac\n"
    assert read(ours, 2).answer() == b"mo"
    assert read(ours, 100).answer() == b"re\n"


def test_end_of_file_is_read_once(ours: Ours) -> None:
    ours.type(b"\x04half\x04\x04")
    assert [read(ours, 100).answer() for _ in range(3)] == [b"", b"half", b""]
    assert read(ours, 100).blocked


def raw(ours: Ours, minimum: int, tenths: int) -> None:
    cc = bytearray(Termios().cc)
    cc[6], cc[5] = minimum, tenths
    ours.tty.set_termios(Termios(iflag=0, oflag=0, lflag=0, cc=bytes(cc)))


def test_minimum_without_time_waits_for_so_many(ours: Ours) -> None:
    raw(ours, 3, 0)
    call = read(ours, 10)
    ours.type(b"ab")
    ours.sim.settle()
    assert call.blocked
    ours.type(b"cd")
    ours.sim.settle()
    assert call.answer() == b"abcd"


def test_minimum_with_time_ends_when_typing_pauses(ours: Ours) -> None:
    raw(ours, 5, 2)
    call = read(ours, 10)
    ours.sim.pass_time(10**10)
    assert call.blocked
    ours.type(b"a")
    ours.sim.settle()
    ours.sim.pass_time(150_000_000)
    ours.type(b"b")
    ours.sim.settle()
    ours.sim.pass_time(150_000_000)
    assert call.blocked
    ours.sim.pass_time(60_000_000)
    assert call.answer() == b"ab"


def test_time_without_minimum_runs_from_the_call_on(ours: Ours) -> None:
    raw(ours, 0, 5)
    call = read(ours, 10)
    ours.sim.pass_time(400_000_000)
    assert call.blocked
    ours.sim.pass_time(110_000_000)
    assert call.answer() == b""
    call = read(ours, 10)
    ours.type(b"x")
    ours.sim.settle()
    assert call.answer() == b"x"


def test_neither_minimum_nor_time_never_waits(ours: Ours) -> None:
    raw(ours, 0, 0)
    assert read(ours, 10).answer() == b""


def test_signal_gives_a_raw_reader_what_has_come(ours: Ours) -> None:
    raw(ours, 5, 0)
    call = read(ours, 10)
    ours.type(b"ab")
    ours.sim.signal(ours.task)
    assert call.answer() == b"ab"
    call = read(ours, 10)
    ours.sim.signal(ours.task)
    with pytest.raises(Interrupted):
        call.answer()


def test_background_reader_is_stopped(ours: Ours) -> None:
    other = ours.jobs.process(20, session=10, pgrp=20, tty=ours.tty)
    ours.type(b"line\n")
    with pytest.raises(Interrupted):
        read(ours, 10, other).answer()
    assert ours.jobs.take_signals() == [(-20, SIGTTIN)]
    other.sighand.actions[SIGTTIN] = SigAction(1)
    with pytest.raises(Errno.EIO):
        read(ours, 10, other).answer()
    other.sighand.actions.clear()
    other.blocked = 1 << (SIGTTIN - 1)
    with pytest.raises(Errno.EIO):
        read(ours, 10, other).answer()
    other.blocked = 0
    ours.jobs.kernel.orphaned.append(20)
    with pytest.raises(Errno.EIO):
        read(ours, 10, other).answer()
    stranger = ours.jobs.process(30, session=30, pgrp=30)
    assert read(ours, 10, stranger).answer() == b"line\n"


def test_background_writer_is_stopped_only_if_asked(ours: Ours) -> None:
    other = ours.jobs.process(20, session=10, pgrp=20, tty=ours.tty)
    assert write(ours, b"x", other).answer() == 1
    ours.tty.termios.lflag |= Lflag.TOSTOP
    with pytest.raises(Interrupted):
        write(ours, b"x", other).answer()
    assert ours.jobs.take_signals() == [(-20, SIGTTOU)]
    other.sighand.actions[SIGTTOU] = SigAction(1)
    assert write(ours, b"x", other).answer() == 1


def test_background_may_not_change_settings(ours: Ours) -> None:
    other = ours.jobs.process(20, session=10, pgrp=20, tty=ours.tty)
    addr = other.mm.alloc(Termios(lflag=0).pack())
    for cmd, arg in ((TCSETS, addr), (TCFLSH, 0), (TCXONC, 0), (TIOCSPGRP, addr)):
        with pytest.raises(Interrupted):
            ioctl(ours, cmd, arg, other)
        assert ours.jobs.take_signals() == [(-20, SIGTTOU)]
    other.blocked = 1 << (SIGTTOU - 1)
    ioctl(ours, TCSETS, addr, other)
    assert ours.tty.termios.lflag == 0


def test_writer_waits_while_output_is_stopped_and_for_room(ours: Ours) -> None:
    ours.type(b"\x13")
    call = write(ours, b"hello\n")
    assert call.blocked and ours.screen() == b""
    ours.type(b"\x11")
    ours.sim.settle()
    assert call.answer() == 6
    assert ours.screen() == b"hello\r\n"
    call = write(ours, b"\n" * 200_000)
    shown = b""
    while call.blocked:
        shown += ours.screen()
        ours.sim.settle()
    assert call.answer() == 200_000
    assert shown + ours.screen() == b"\r\n" * 200_000


def test_output_stopped_by_a_program_is_not_started_by_a_key(ours: Ours) -> None:
    ioctl(ours, TCXONC, 0)
    ours.type(b"\x11")
    assert write(ours, b"x").blocked
    ours.sim.calls.clear()
    ioctl(ours, TCXONC, 1)
    assert write(ours, b"y").answer() == 1
    with pytest.raises(Errno.EINVAL):
        ioctl(ours, TCXONC, 9)


def test_settings_wait_for_output_and_throw_input_away(ours: Ours) -> None:
    write(ours, b"out").answer()
    ours.type(b"typed\n")
    addr = ours.task.mm.alloc(Termios(lflag=0).pack())
    call = ours.sim.start(ours.task, lambda: ours.file.ioctl(ours.task, TCSETSF, addr))
    assert call.blocked
    ours.screen()
    ours.sim.settle()
    call.answer()
    assert ours.tty.termios.lflag == 0
    assert ours.pending() == 0


def test_window_size_is_told_to_the_foreground_once(ours: Ours) -> None:
    addr = ours.task.mm.alloc(b"\x18\x00\x50\x00\0\0\0\0")
    ioctl(ours, TIOCSWINSZ, addr)
    ioctl(ours, TIOCSWINSZ, addr)
    assert ours.jobs.take_signals() == [(-10, SIGWINCH)]
    assert ioctl_out(ours, TIOCGWINSZ, 8) == b"\x18\x00\x50\x00\0\0\0\0"


def test_foreground_is_set_within_the_session_only(ours: Ours) -> None:
    jobs = ours.jobs
    jobs.process(20, session=10, pgrp=20, tty=ours.tty)
    stranger = jobs.process(30, session=30, pgrp=30)

    def set_to(pgrp: int, task: Any = None) -> None:
        task = task or ours.task
        ioctl(ours, TIOCSPGRP, task.mm.alloc(pgrp.to_bytes(4, "little", signed=True)), task)

    set_to(20)
    assert ioctl_out(ours, TIOCGPGRP, 4) == b"\x14\0\0\0"
    ours.task.blocked = 1 << (SIGTTOU - 1)
    for pgrp, error in ((-1, Errno.EINVAL), (99, Errno.ESRCH), (30, Errno.EPERM)):
        with pytest.raises(error):
            set_to(pgrp)
    with pytest.raises(Errno.ENOTTY):
        set_to(30, stranger)
    with pytest.raises(Errno.ENOTTY):
        ioctl_out(ours, TIOCGPGRP, 4, stranger)
    assert ioctl_out(ours, TIOCGSID, 4) == b"\x0a\0\0\0"


def test_terminal_belongs_to_one_session(ours: Ours) -> None:
    jobs = ours.jobs
    leader = jobs.process(30, session=30, pgrp=30)
    member = jobs.process(31, session=30, pgrp=30)
    ioctl(ours, TIOCSCTTY)  # it is ours already
    with pytest.raises(Errno.EPERM):
        ioctl(ours, TIOCSCTTY, 0, member)
    with pytest.raises(Errno.EPERM):
        ioctl(ours, TIOCSCTTY, 0, leader)
    ioctl(ours, TIOCSCTTY, 1, leader)  # root may steal it
    assert (ours.tty.session, leader.process.tty, ours.task.process.tty) == (30, ours.tty, None)
    with pytest.raises(Errno.ENOTTY):
        ioctl(ours, TIOCNOTTY)


def test_leader_that_lets_go_hangs_up_the_foreground(ours: Ours) -> None:
    job = ours.jobs.process(20, session=10, pgrp=20, tty=ours.tty)
    ours.tty.pgrp = 20
    ioctl(ours, TIOCNOTTY, 0, job)
    assert job.process.tty is None and ours.tty.session == 10
    ioctl(ours, TIOCNOTTY)
    assert ours.jobs.take_signals() == [(-20, SIGHUP), (-20, SIGCONT)]
    assert (ours.tty.session, ours.tty.pgrp, ours.task.process.tty) == (None, None, None)


def test_hang_up_ends_readers_and_refuses_writers(ours: Ours) -> None:
    call = read(ours, 10)
    ours.tty.hang_up()
    ours.sim.settle()
    assert call.answer() == b""
    assert (10, SIGHUP) in ours.jobs.take_signals()
    with pytest.raises(Errno.EIO):
        write(ours, b"x").answer()
    assert ours.file.poll(ours.task) & 0x10
    with pytest.raises(Errno.EIO):
        ioctl_out(ours, TCGETS, 36)


def test_poll_tells_what_would_not_wait(ours: Ours) -> None:
    assert ours.file.poll(ours.task) == 0x104
    ours.type(b"half")
    assert not ours.file.poll(ours.task) & 1
    ours.type(b"\n")
    assert ours.file.poll(ours.task) & 1
    ours.type(b"\x13")
    assert not ours.file.poll(ours.task) & 4


def test_unknown_requests_are_refused(ours: Ours) -> None:
    with pytest.raises(Errno.ENOTTY):
        ioctl(ours, 0x1234)
    with pytest.raises(Errno.EIO):
        ioctl(ours, TIOCSTI)
    with pytest.raises(Errno.EFAULT):
        ioctl(ours, TCGETS, 8)


def test_terminal_survives_a_freeze(ours: Ours) -> None:
    ours.type(b"line\nhal")
    ours.tty.kernel = None
    thawed: Any = load_graph(dump_graph(ours.tty))
    assert isinstance(thawed, Tty)
    assert thawed.ldisc.take(100) == b"line\n"
    thawed.feed(b"f\n")
    assert thawed.ldisc.take(100) == b"half\n"
    assert thawed.out.take() == b"line\r\nhalf\r\n"


class TestConsole:
    """/dev/console, /dev/ttyS0 and /dev/tty."""

    @pytest.fixture
    def console(self, sim: Sim, ours: Ours) -> Console:
        kernel: Any = ours.jobs.kernel
        console = Console(kernel)

        async def boot() -> None:
            await register_ttys(kernel, console)
            await kernel.mounts.attach(await devfs(kernel))

        sim.run(ours.task, boot)
        return console

    def process(self, ours: Ours, pid: int, session: int) -> Any:
        task = ours.jobs.process(pid, session=session, pgrp=session)
        task.fs = ours.sim.task().fs
        return task

    def open(self, ours: Ours, task: Any, path: bytes, flags: int = os.O_RDWR) -> TtyFile:
        file = ours.sim.run(task, lambda: open_path(task, AT_FDCWD, path, flags))
        assert isinstance(file, TtyFile)
        return file

    def test_leader_gets_it_by_opening_it(self, ours: Ours, console: Console) -> None:
        leader, member = self.process(ours, 50, 50), self.process(ours, 51, 50)
        self.open(ours, member, b"/ttyS0")
        self.open(ours, leader, b"/ttyS0", os.O_RDWR | os.O_NOCTTY)
        self.open(ours, leader, b"/ttyS0", os.O_WRONLY)
        self.open(ours, leader, b"/console")
        assert leader.process.tty is None
        with pytest.raises(Errno.ENXIO):
            self.open(ours, leader, b"/tty")
        self.open(ours, leader, b"/ttyS0")
        assert leader.process.tty is console.tty
        assert (console.tty.session, console.tty.pgrp) == (50, 50)
        assert self.open(ours, leader, b"/tty").tty is console.tty
        other = self.process(ours, 60, 60)
        self.open(ours, other, b"/ttyS0")
        assert other.process.tty is None

    def test_bytes_go_out_and_come_in(self, ours: Ours, console: Console) -> None:
        task = self.process(ours, 50, 50)
        called: list[int] = []
        console.set_output(lambda: called.append(1))
        file = self.open(ours, task, b"/ttyS0")
        ours.sim.run(task, lambda: file.write_iter(task, KernelIter(b"login: \n")))
        assert called and console.take() == b"login: \r\n"
        console.feed(b"root\n")
        it = KernelIter(room=100)
        ours.sim.run(task, lambda: file.read_iter(task, it))
        assert bytes(it.data) == b"root\n"
        assert console.take() == b"root\r\n"

    def test_first_process_gets_an_open_terminal(self, ours: Ours, console: Console) -> None:
        task = self.process(ours, 50, 50)
        file = ours.sim.run(task, lambda: console.open_for(task.process))
        assert task.process.tty is console.tty
        assert file.inode.rdev == os.makedev(4, 64)

    def test_exclusive_use_refuses_others(self, ours: Ours, console: Console) -> None:
        task = self.process(ours, 50, 50)
        file = self.open(ours, task, b"/ttyS0")
        ours.sim.run(task, lambda: file.ioctl(task, 0x540C, 0))
        self.open(ours, task, b"/ttyS0")  # root
        task.cred = Cred(capabilities=0)
        with pytest.raises(Errno.EBUSY):
            self.open(ours, task, b"/ttyS0")
