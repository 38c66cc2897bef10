"""`uvm run` on a terminal, seen through pexpect and on pyte's screen."""

from __future__ import annotations

import contextlib
import os
import signal
import termios
import time
from typing import Any

import pexpect
import pyte

from support.options import MachineOptions
from support.uvm import UVM, option_arguments

__all__ = ["Session"]

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "TERM": "xterm", "PS1": "ready> ", "HOME": "/"}
ROWS, COLUMNS = 30, 100


class Session:
    """A program of a machine, and the keys and the screen of its user."""

    def __init__(self, options: MachineOptions, *program: str, flags: tuple[str, ...] = ()) -> None:
        arguments = ["run", *option_arguments(options), *flags, "--", *program]
        self.child = pexpect.spawn(
            UVM, arguments, env=ENVIRONMENT, timeout=30, dimensions=(ROWS, COLUMNS)
        )
        self.child.delaybeforesend = 0.05
        self.before_raw = termios.tcgetattr(self.child.child_fd)

    def prompt(self) -> str:
        """Wait for the shell's prompt; what came before it."""
        self.child.expect_exact("ready> ")
        return str(self.child.before.decode())

    def line(self, text: str) -> str:
        """Type a line, and wait for the next prompt; what was shown meanwhile."""
        self.child.sendline(text)
        return self.prompt()

    def rest(self) -> bytes:
        """All that is shown until the end. `expect` would look at all of it at each read."""
        parts = []
        with contextlib.suppress(pexpect.EOF):
            while True:
                parts.append(self.child.read_nonblocking(65536, self.child.timeout))
        return b"".join(parts)

    def end(self) -> int:
        """Wait for the end; the status, negative for a death by signal."""
        self.child.expect(pexpect.EOF)
        self.child.close()
        if self.child.signalstatus is not None:
            return -self.child.signalstatus
        return int(self.child.exitstatus)

    @property
    def settings(self) -> list[Any]:
        """The outer terminal's settings now."""
        return termios.tcgetattr(self.child.child_fd)

    def is_raw(self) -> bool:
        """Does the outer terminal hand on keys as they are?"""
        return not self.settings[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def wait_until(self, condition: Any, seconds: float = 10) -> None:
        """Wait for something that no output announces."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.02)

    def signal(self, signo: signal.Signals) -> None:
        """From outside, to uvm itself."""
        os.kill(self.child.pid, signo)

    def display(self, data: bytes) -> list[str]:
        """The lines of a screen on which `data` has been shown, without trailing blanks."""
        screen = pyte.Screen(COLUMNS, ROWS)
        pyte.ByteStream(screen).feed(data)
        return [line.rstrip() for line in screen.display if line.strip()]
