"""The outer terminal, and what ties it to the machine's console.

Where both input and output are a terminal of which we are the foreground, it is
put into raw mode: keys go to the console as they are, whose line discipline edits,
echoes and makes signals of them.  Where only output is, the console is for output
alone, and the outer terminal keeps its own ways.

The terminal's settings are put back however this ends, short of SIGKILL.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import io
import os
import signal
import struct
import sys
import termios
import tty
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from uvm_async.descriptors import Watch, write_all

if TYPE_CHECKING:
    from uvm_async.tty.console import Console

__all__ = ["Terminal"]

STDIN, STDOUT, STDERR = 0, 1, 2
WINSIZE: Final = struct.Struct("<4H")
CHUNK_BYTES: Final = 4096
FULL_RETRY_S: Final = 0.02
"""How long to leave keys where they are when the console has no room for more."""
NCCS: Final = 19


def _is_foreground(fd: int) -> bool:
    try:
        return os.isatty(fd) and os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False


class Terminal:
    """Our own terminal, if we have one."""

    def __init__(self) -> None:
        self.shows = os.isatty(STDOUT)
        """Output is a terminal: the program's is the console."""
        self.raw = self.shows and _is_foreground(STDIN)
        """Keys are the console's as well."""
        self._saved: list[Any] | None = None
        self._console: Console | None = None
        self._writing: asyncio.Task[None] | None = None
        self._watch: Watch | None = None

    def is_console(self, fd: int) -> bool:
        """Is standard stream `fd` to be the console?"""
        return self.raw and os.isatty(fd) if fd == STDIN else self.shows and os.isatty(fd)

    # -- settings

    @contextlib.contextmanager
    def prepared(self) -> Iterator[None]:
        """Raw, where it is to be; as it was, afterwards."""
        if not self.raw:
            yield
            return
        self._saved = termios.tcgetattr(STDIN)
        try:
            self._enter()
            self._end_lines_with("\r\n")
            yield
        finally:
            self._end_lines_with("\n")
            self._restore()

    def _enter(self) -> None:
        with contextlib.suppress(termios.error):
            tty.setraw(STDIN, termios.TCSADRAIN)

    def _end_lines_with(self, newline: str) -> None:
        """Our own messages."""
        if isinstance(sys.stderr, io.TextIOWrapper) and os.isatty(STDERR):
            sys.stderr.reconfigure(newline=newline)

    def _restore(self) -> None:
        if self._saved is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(STDIN, termios.TCSADRAIN, self._saved)

    # -- the tie

    @contextlib.contextmanager
    def tied(self, console: Console) -> Iterator[None]:
        """Keys go to `console`, what it shows comes here, and it has the window's size."""
        if not self.shows:
            yield
            return
        loop = asyncio.get_running_loop()
        self._console = console
        self._resized()
        loop.add_signal_handler(signal.SIGWINCH, self._resized)
        console.set_output(self._wake)
        if self.raw:
            self._copy_settings(console)
            loop.add_signal_handler(signal.SIGTSTP, self._stop)
            self._read()
        try:
            yield
        finally:
            self._pause()
            self._console = None
            for signo in (signal.SIGWINCH, signal.SIGTSTP) if self.raw else (signal.SIGWINCH,):
                loop.remove_signal_handler(signo)

    def _copy_settings(self, console: Console) -> None:
        """The guest finds its terminal as the caller had it."""
        if self._saved is None:
            return
        new = console.tty.termios.copy()
        new.iflag, new.oflag, _, new.lflag = self._saved[:4]
        cc = self._saved[6]
        new.cc = bytes(c if isinstance(c, int) else c[0] for c in cc[:NCCS])
        console.tty.set_termios(new)

    def _resized(self) -> None:
        if self._console is None:
            return
        with contextlib.suppress(OSError):
            size = WINSIZE.unpack(fcntl.ioctl(STDOUT, termios.TIOCGWINSZ, bytes(WINSIZE.size)))
            self._console.set_winsize(*size)

    def _stop(self) -> None:
        """SIGTSTP from outside: stop as anybody would, with the terminal as it was."""
        self._restore()
        os.kill(os.getpid(), signal.SIGSTOP)
        if _is_foreground(STDIN):
            self._enter()
        self._resized()

    # -- keys

    def _read(self) -> None:
        if self._watch is None and self._console is not None:
            self._watch = Watch(STDIN, self._readable)

    def _pause(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def _readable(self) -> None:
        console = self._console
        assert console is not None
        if not console.room:
            self._pause()
            asyncio.get_running_loop().call_later(FULL_RETRY_S, self._read)
            return
        try:
            data = os.read(STDIN, min(console.room, CHUNK_BYTES))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            console.feed(data)
        else:
            self._pause()
            console.hang_up()

    # -- the screen

    def _wake(self) -> None:
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        console = self._console
        if console is None:
            return
        loop = asyncio.get_running_loop()
        while data := console.take():
            if not self.raw:  # the outer terminal adds its own carriage returns
                data = data.replace(b"\r\n", b"\n")
            try:
                await loop.run_in_executor(None, write_all, STDOUT, data)
            except OSError:
                console.hang_up()
                return

    async def flush(self) -> None:
        """Everything the guest has shown is on the screen."""
        if self._console is not None:
            self._wake()
            assert self._writing is not None
            await self._writing
