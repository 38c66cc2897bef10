"""A terminal: settings, size, who may use it, and what is on its line.

Linux: drivers/tty/tty_io.c, tty_jobctrl.c; struct tty_struct.  What is between
the line and the reader is the line discipline (`n_tty.py`).

Job control: a terminal may be the controlling terminal of one session, and has
one foreground process group of it.  Whoever else of the session reads gets
SIGTTIN, and SIGTTOU for changing settings (for writing too, if TOSTOP is set).

Invariants:
- `session` is None, or the session whose processes have `Process.tty` set to this;
- `foreground` is None whenever `session` is.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from uvm_async.errors import Errno
from uvm_async.kernel.signal import SIG_IGN, sigmask
from uvm_async.sched.wait import Interrupted, WaitQueue
from uvm_async.state import Entity
from uvm_async.tty.n_tty import LineDiscipline
from uvm_async.tty.stream import StreamOut
from uvm_async.tty.termios import Termios

if TYPE_CHECKING:
    from uvm_async.kernel.kernel import Kernel
    from uvm_async.kernel.task import Process, Task

__all__ = ["Tty"]

SIGHUP, SIGCONT, SIGTTIN, SIGTTOU, SIGWINCH = 1, 18, 21, 22, 28


class Tty(Entity):
    """Linux: struct tty_struct."""

    def __init__(self, kernel: Kernel, name: bytes, rdev: int) -> None:
        self.kernel = kernel
        self.name = name
        self.rdev = rdev
        self.termios = Termios()
        self.winsize = (0, 0, 0, 0)
        """Rows, columns, pixels across and down."""
        self.session: int | None = None
        self.pgrp: int | None = None
        self.stopped = False
        """By ^S, or TCXONC."""
        self.stopped_by_ioctl = False
        self.exclusive = False
        self.hung_up = False
        self.opens = 0
        self.incoming = bytearray()
        """Input for which the line discipline has had no room."""
        self.out = StreamOut()
        """What is on its way to the screen."""
        self.read_wait = WaitQueue()
        self.ldisc = LineDiscipline(self)

    @property
    def foreground(self) -> int:
        """The foreground process group; -1 if there is none."""
        return -1 if self.pgrp is None else self.pgrp

    # -- the line

    def feed(self, data: bytes) -> None:
        """Somebody has typed."""
        self.incoming += data
        self.pump()

    def pump(self) -> None:
        """Let the line discipline have what there is room for."""
        if not self.incoming:
            return
        taken = self.ldisc.receive(bytes(self.incoming))
        del self.incoming[:taken]
        if self.ldisc.has_input():
            self.read_wait.wake_up()

    def put(self, data: bytes) -> None:
        """Bytes for the screen."""
        self.out.put(data)

    @property
    def room(self) -> int:
        """How many bytes a writer may put out now."""
        return 0 if self.stopped else self.out.room

    def stop(self) -> None:
        """^S: writers wait."""
        self.stopped = True

    def start(self) -> None:
        """^Q: they go on, unless it was a program that stopped the output."""
        if self.stopped and not self.stopped_by_ioctl:
            self.stopped = False
            self.out.wait.wake_up()

    def flush_output(self) -> None:
        """Throw away what has not reached the screen."""
        self.out.take()

    def flush_input(self) -> None:
        """Throw away what has not been read."""
        self.ldisc.flush_input()
        self.incoming.clear()

    def set_termios(self, new: Termios) -> None:
        """Other settings from now on."""
        old, self.termios = self.termios, new
        self.ldisc.settings_changed(old)
        self.read_wait.wake_up()
        self.out.wait.wake_up()
        self.pump()

    def set_winsize(self, rows: int, columns: int, xpixels: int = 0, ypixels: int = 0) -> None:
        """The window has another size: the foreground hears of it."""
        size = (rows, columns, xpixels, ypixels)
        if size != self.winsize:
            self.winsize = size
            self.signal_foreground(SIGWINCH)

    def hang_up(self) -> None:
        """The line is gone: readers see the end, writers an error, the session SIGHUP."""
        self.hung_up = True
        self.out.hang_up()
        if self.session is not None:
            leader = self.kernel.processes.get(self.session)
            if leader is not None and leader.tasks:
                for signo in (SIGHUP, SIGCONT):
                    self.kernel.send_signal(leader.tasks[0], signo)
        self.signal_foreground(SIGHUP)
        self._let_session_go()
        self.read_wait.wake_up()

    # -- job control

    def signal_foreground(self, signo: int) -> None:
        """The foreground process group gets a signal, if there is one."""
        if self.pgrp is not None:
            self.kernel.kill_pgrp(self.pgrp, signo)

    def make_controlling(self, process: Process) -> None:
        """It is the session leader `process`'s terminal now, and that its foreground."""
        self.session, self.pgrp = process.session, process.pgrp
        process.tty = self

    def _let_session_go(self) -> None:
        for process in self.kernel.processes.values():
            if process.tty is self:
                process.tty = None
        self.session = self.pgrp = None

    def steal(self) -> None:
        """TIOCSCTTY by root: the session that had it has none now."""
        self._let_session_go()

    def session_ended(self) -> None:
        """The session leader has gone, or given it up (Linux: disassociate_ctty)."""
        for signo in (SIGHUP, SIGCONT):
            self.signal_foreground(signo)
        self._let_session_go()

    def check_change(self, task: Task, signo: int = SIGTTOU) -> None:
        """May `task` use the terminal? One in the background gets `signo` (and its call is
        restarted), or EIO if it will not listen or nobody could continue it. SIGTTOU that is
        ignored or blocked is permission."""
        process = task.process
        if process.tty is not self or self.pgrp is None or process.pgrp == self.pgrp:
            return
        ignored = task.blocked & sigmask(signo) or task.sighand.get(signo).handler == SIG_IGN
        if ignored:
            if signo == SIGTTIN:
                raise Errno.EIO
            return
        if self.kernel.orphaned_pgrp(process.pgrp):
            raise Errno.EIO
        self.kernel.kill_pgrp(process.pgrp, signo)
        raise Interrupted("sys")

    def __repr__(self) -> str:
        return f"<Tty {self.name.decode()} {os.major(self.rdev)}:{os.minor(self.rdev)}>"
