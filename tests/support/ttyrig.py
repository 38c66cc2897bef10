"""A terminal of the machine's, and one of the host's, that take the same steps."""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import termios
import time
import tty as host_tty
from typing import Any

from fs.driver import Sim
from uvm_async.errors import Errno
from uvm_async.fs.anon import anon_path
from uvm_async.kernel.cred import Cred
from uvm_async.kernel.signal import PendingSignals, SigHand
from uvm_async.kernel.task import Process, Task
from uvm_async.mm.iov import KernelIter
from uvm_async.tty.base import Tty
from uvm_async.tty.file import TtyFile
from uvm_async.tty.termios import Termios

TCGETS, TCSETS, FIONREAD = 0x5401, 0x5402, 0x541B


class Jobs:
    """Processes of a kernel without a scheduler, and the signals they were sent."""

    def __init__(self, sim: Sim) -> None:
        self.sim = sim
        kernel: Any = sim.kernel
        self.kernel = kernel
        kernel.processes, kernel.tasks = {}, {}
        kernel.sent = []
        kernel.orphaned = []
        kernel.kill_pgrp = self._kill_pgrp
        kernel.send_signal = lambda task, signo: kernel.sent.append((task.pid, signo))
        kernel.pgrp_members = lambda pgrp: [p for p in kernel.processes.values() if p.pgrp == pgrp]
        kernel.orphaned_pgrp = lambda pgrp: pgrp in kernel.orphaned

    def _kill_pgrp(self, pgrp: int, signo: int) -> int:
        self.kernel.sent.append((-pgrp, signo))
        return 1

    def take_signals(self) -> list[tuple[int, int]]:
        """(pid or -pgrp, signal) since last asked."""
        sent, self.kernel.sent = self.kernel.sent, []
        return sent

    def process(self, pid: int, *, session: int, pgrp: int, tty: Tty | None = None) -> Any:
        """A process with one thread; answers the thread."""
        process = Process(pid, None)
        process.session, process.pgrp, process.tty = session, pgrp, tty
        process.pending = PendingSignals()
        task: Any = Task(self.kernel, pid, process)
        like = self.sim.task()
        task.mm, task.files, task.fs, task.cred = like.mm, like.files, like.fs, Cred()
        task.sighand, task.pending = SigHand(), PendingSignals()
        for name in ("signal_pending", "standing", "deadline_ns", "woken"):
            setattr(task, name, getattr(like, name))
        task.wake = lambda: _wake(task)
        process.tasks.append(task)
        process.leader = task
        self.kernel.processes[pid] = process
        self.kernel.tasks[pid] = task
        return task


def _wake(task: Any) -> None:
    for queue in task.standing:
        queue.waiters.pop(task, None)
    task.standing = ()
    task.woken = True


class Ours:
    """A terminal of the machine's, its typist and a program that never waits."""

    def __init__(self, sim: Sim) -> None:
        self.sim = sim
        self.jobs = Jobs(sim)
        self.tty = Tty(self.jobs.kernel, b"tty", os.makedev(4, 64))
        self.task = self.jobs.process(10, session=10, pgrp=10)
        path = anon_path(sim.kernel, b"[tty]")  # type: ignore[arg-type]
        self.file = TtyFile(path, os.O_RDWR | os.O_NONBLOCK, self.tty)

    def set(self, raw: bytes) -> None:
        self.tty.set_termios(Termios().with_raw(raw))

    def type(self, data: bytes) -> None:
        self.tty.feed(data)

    def screen(self, expected: int = 0) -> bytes:
        return self.tty.out.take()

    def read(self, count: int) -> bytes | None:
        it = KernelIter(room=count)
        try:
            self.sim.run(self.task, lambda: self.file.read_iter(self.task, it))
        except Errno.EAGAIN:
            return None
        return bytes(it.data)

    def write(self, data: bytes) -> int | None:
        it = KernelIter(data)
        try:
            done: int = self.sim.run(self.task, lambda: self.file.write_iter(self.task, it))
        except Errno.EAGAIN:
            return None
        return done

    def pending(self, expected: int = 0) -> int:
        return self.tty.ldisc.readable()


class Theirs:
    """The host's pty."""

    def __init__(self) -> None:
        self.master, self.slave = os.openpty()
        host_tty.setraw(self.master)
        for fd in (self.master, self.slave):
            os.set_blocking(fd, False)

    def close(self) -> None:
        os.close(self.slave)
        os.close(self.master)

    def set(self, raw: bytes) -> None:
        fcntl.ioctl(self.slave, TCSETS, raw)

    def type(self, data: bytes) -> None:
        os.write(self.master, data)
        time.sleep(0.001)

    def screen(self, expected: int = 0) -> bytes:
        """What has come; the host hands it over in a thread of its own, which may take a while
        until there are the `expected` bytes."""
        shown = b""
        for _ in range(100):
            with contextlib.suppress(BlockingIOError):
                while True:
                    shown += os.read(self.master, 65536)
            if len(shown) >= expected:
                break
            time.sleep(0.001)
        return shown

    def read(self, count: int) -> bytes | None:
        try:
            return os.read(self.slave, count)
        except BlockingIOError:
            return None

    def write(self, data: bytes) -> int | None:
        try:
            return os.write(self.slave, data)
        except BlockingIOError:
            return None

    def pending(self, expected: int = 0) -> int:
        """FIONREAD, when it is what was expected or does not become it."""
        count = array.array("i", [0])
        for _ in range(100):
            fcntl.ioctl(self.slave, termios.FIONREAD, count)
            if count[0] == expected:
                break
            time.sleep(0.001)
        return count[0]
