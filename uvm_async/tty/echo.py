"""The screen's side of the line discipline: echoes, and what becomes of output.

Linux: drivers/tty/n_tty.c (echo buffer, do_output_char).  Both know the column the
cursor is in, for tabs: those that are expanded, and those that are rubbed out.

Echoes are queued as operations and come out at the end of a chunk of input, or when
there are many; while output is stopped they wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uvm_async.state import Entity
from uvm_async.tty.termios import Iflag, Lflag, Oflag

if TYPE_CHECKING:
    from uvm_async.tty.base import Tty

__all__ = ["BACKSPACE", "NEWLINE", "RETURN", "TAB", "Screen", "is_control"]

ECHO_BYTES: Final = 4096
ECHO_WATERMARK: Final = 256
"""So many pending echoes come out before the end of the chunk."""
NEWLINE, RETURN, TAB, BACKSPACE = 10, 13, 9, 8
RUB_OUT: Final = (BACKSPACE, 32, BACKSPACE)

# Operations in the queue; smaller numbers are bytes.
AS_CONTROL: Final = 1 << 8
"""Plus a byte: show it as ^X."""
SET_CANON_COLUMN: Final = 2 << 8
MOVE_BACK: Final = 3 << 8
ERASE_TAB: Final = 4 << 8
"""Plus the columns used in the tab's area, plus 8 if they are counted from a tab."""
LITERAL: Final = 5 << 8
"""Plus a byte that is put out as it is (0xff)."""


def is_control(byte: int) -> bool:
    return byte < 32 or byte == 127


def to_upper(byte: int) -> int:
    """Of Latin-1, as Linux's toupper (sharp s is lower case without an upper)."""
    if 97 <= byte <= 122 or (byte >= 223 and byte != 247):
        return byte - 32
    return byte


class Screen(Entity):
    """Where the cursor is, and what is to be echoed."""

    def __init__(self, tty: Tty) -> None:
        self.tty = tty
        self.echoes: list[int] = []
        self.column = 0
        self.canon_column = 0
        """Where the line that is being typed began."""

    # -- echoes

    def echo(self, byte: int) -> None:
        """Echo a byte, a control character as ^X if ECHOCTL is set."""
        if byte == 0xFF:
            self.echoes.append(LITERAL + byte)
        elif self.tty.termios.lflag & Lflag.ECHOCTL and is_control(byte) and byte != TAB:
            self.echoes.append(AS_CONTROL + byte)
        else:
            self.echoes.append(byte)

    def echo_raw(self, byte: int) -> None:
        """Echo a byte as it is."""
        self.echoes.append(LITERAL + byte if byte == 0xFF else byte)

    def rub_out(self) -> None:
        """Take a character of one column off the screen."""
        self.echoes += RUB_OUT

    def erase_tab(self, columns: int, *, after_tab: bool) -> None:
        """Take a tab off the screen: `columns` were used since the line's start, or since the
        last tab before it."""
        self.echoes.append(ERASE_TAB + (columns & 7) + (8 if after_tab else 0))

    def move_back(self) -> None:
        """The last byte took no column."""
        self.echoes.append(MOVE_BACK)

    def line_begins(self) -> None:
        """What is echoed next is the first of a line."""
        self.echoes.append(SET_CANON_COLUMN)

    def commit(self) -> None:
        """An echo is complete."""
        if len(self.echoes) >= ECHO_WATERMARK:
            self.flush()

    def flush(self) -> None:
        """Put out what is to be echoed, unless output is stopped."""
        if self.tty.stopped:
            del self.echoes[:-ECHO_BYTES]
            return
        if not self.echoes:
            return
        out = bytearray()
        for operation in self.echoes:
            self._perform(operation >> 8 << 8, operation & 0xFF, out)
        self.echoes.clear()
        self.tty.put(bytes(out))

    def _perform(self, kind: int, value: int, out: bytearray) -> None:
        if kind == AS_CONTROL:
            out += b"^%c" % (value ^ 0x40)
            self.column += 2
        elif kind == LITERAL:
            out.append(value)
            self.column += 1
        elif kind == SET_CANON_COLUMN:
            self.canon_column = self.column
        elif kind == MOVE_BACK:
            self.column = max(self.column - 1, 0)
        elif kind == ERASE_TAB:
            used = value if value & 8 else value + self.canon_column
            back = 8 - (used & 7)
            out += b"\b" * back
            self.column = max(self.column - back, 0)
        else:
            self._put(value, out)

    # -- output

    def process(self, data: bytes) -> bytes:
        """What a program's output looks like on the line."""
        out = bytearray()
        for byte in data:
            self._put(byte, out)
        return bytes(out)

    def is_continuation(self, byte: int) -> bool:
        """Does it go on with a character of UTF-8 (if IUTF8 is set)?"""
        return byte & 0xC0 == 0x80 and bool(self.tty.termios.iflag & Iflag.IUTF8)

    def _put(self, byte: int, out: bytearray) -> None:
        oflag = self.tty.termios.oflag
        if not oflag & Oflag.OPOST:
            out.append(byte)
            return
        if byte == NEWLINE:
            if oflag & Oflag.ONLRET:
                self.column = 0
            if oflag & Oflag.ONLCR:
                self.canon_column = self.column = 0
                out += b"\r\n"
                return
            self.canon_column = self.column
        elif byte == RETURN:
            if oflag & Oflag.ONOCR and self.column == 0:
                return
            if oflag & Oflag.OCRNL:
                byte = NEWLINE
                if oflag & Oflag.ONLRET:
                    self.canon_column = self.column = 0
            else:
                self.canon_column = self.column = 0
        elif byte == TAB:
            spaces = 8 - (self.column & 7)
            self.column += spaces
            if oflag & Oflag.TABDLY == Oflag.XTABS:
                out += b" " * spaces
                return
        elif byte == BACKSPACE:
            self.column = max(self.column - 1, 0)
        elif not is_control(byte):
            if oflag & Oflag.OLCUC:
                byte = to_upper(byte)
            if not self.is_continuation(byte):
                self.column += 1
        out.append(byte)
