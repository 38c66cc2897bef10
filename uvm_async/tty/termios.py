"""termios: the settings of a terminal, as the ABI has them.

Linux: include/uapi/asm-generic/termbits.h, drivers/tty/tty_io.c (tty_std_termios).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

__all__ = ["TERMIOS", "TERMIOS2", "WINSIZE", "Cc", "Cflag", "Iflag", "Lflag", "Oflag", "Termios"]

TERMIOS: Final = struct.Struct("<4IB19s")
"""struct termios, as the kernel has it (36 bytes)."""
TERMIOS2: Final = struct.Struct("<4IB19s2I")
"""struct termios2 (44 bytes)."""
WINSIZE: Final = struct.Struct("<4H")
"""struct winsize: rows, columns, and pixels both ways."""
NCCS: Final = 19


class Iflag:
    """c_iflag: what happens to input."""

    IGNBRK = 0o1
    BRKINT = 0o2
    IGNPAR = 0o4
    PARMRK = 0o10
    INPCK = 0o20
    ISTRIP = 0o40
    INLCR = 0o100
    IGNCR = 0o200
    ICRNL = 0o400
    IUCLC = 0o1000
    IXON = 0o2000
    IXANY = 0o4000
    IXOFF = 0o10000
    IMAXBEL = 0o20000
    IUTF8 = 0o40000


class Oflag:
    """c_oflag: what happens to output."""

    OPOST = 0o1
    OLCUC = 0o2
    ONLCR = 0o4
    OCRNL = 0o10
    ONOCR = 0o20
    ONLRET = 0o40
    TABDLY = 0o14000
    XTABS = 0o14000


class Cflag:
    """c_cflag: the line."""

    CBAUD = 0o10017
    B38400 = 0o17
    CS8 = 0o60
    CREAD = 0o200
    HUPCL = 0o2000


class Lflag:
    """c_lflag: how the two meet."""

    ISIG = 0o1
    ICANON = 0o2
    ECHO = 0o10
    ECHOE = 0o20
    ECHOK = 0o40
    ECHONL = 0o100
    NOFLSH = 0o200
    TOSTOP = 0o400
    ECHOCTL = 0o1000
    ECHOPRT = 0o2000
    ECHOKE = 0o4000
    IEXTEN = 0o100000
    EXTPROC = 0o200000


class Cc:
    """Indices of c_cc."""

    INTR = 0
    QUIT = 1
    ERASE = 2
    KILL = 3
    EOF = 4
    TIME = 5
    MIN = 6
    START = 8
    STOP = 9
    SUSP = 10
    EOL = 11
    REPRINT = 12
    WERASE = 14
    LNEXT = 15
    EOL2 = 16


DEFAULT_CC: Final = bytes((3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0))
"""INIT_C_CC: ^C ^\\ DEL ^U ^D, time 0, min 1, -, ^Q ^S ^Z -, ^R ^O ^W ^V -."""


@dataclass(slots=True)
class Termios:
    """One terminal's settings; those of a new one by default."""

    iflag: int = Iflag.ICRNL | Iflag.IXON
    oflag: int = Oflag.OPOST | Oflag.ONLCR
    cflag: int = Cflag.B38400 | Cflag.CS8 | Cflag.CREAD | Cflag.HUPCL
    lflag: int = (
        Lflag.ISIG
        | Lflag.ICANON
        | Lflag.ECHO
        | Lflag.ECHOE
        | Lflag.ECHOK
        | Lflag.ECHOCTL
        | Lflag.ECHOKE
        | Lflag.IEXTEN
    )
    line: int = 0
    cc: bytes = field(default=DEFAULT_CC)
    ispeed: int = 38400
    ospeed: int = 38400

    def copy(self) -> Termios:
        """Settings of its own."""
        return Termios(
            self.iflag,
            self.oflag,
            self.cflag,
            self.lflag,
            self.line,
            self.cc,
            self.ispeed,
            self.ospeed,
        )

    def pack(self) -> bytes:
        """struct termios."""
        return TERMIOS.pack(self.iflag, self.oflag, self.cflag, self.lflag, self.line, self.cc)

    def pack2(self) -> bytes:
        """struct termios2."""
        return self.pack() + struct.pack("<2I", self.ispeed, self.ospeed)

    def with_raw(self, data: bytes) -> Termios:
        """The settings that a struct termios or termios2 asks for."""
        iflag, oflag, cflag, lflag, line, cc = TERMIOS.unpack(data[: TERMIOS.size])
        new = Termios(iflag, oflag, cflag, lflag, line, cc, self.ispeed, self.ospeed)
        if len(data) >= TERMIOS2.size:
            new.ispeed, new.ospeed = struct.unpack_from("<2I", data, TERMIOS.size)
        return new
