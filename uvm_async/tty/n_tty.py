"""The line discipline: what happens between the keys and the reader.

Linux: drivers/tty/n_tty.c.  In canonical mode input is gathered into lines that
can be edited; otherwise it is passed on as it comes.  Input is echoed, and some
of it turns into signals.

All `def`: a chunk of input is handled as a whole.  Echoes of a chunk come out at
its end, as in Linux; a signal throws away those of its own chunk.

Invariants (`queue` is what was received and not yet read):
- `queue[:canon]` is whole lines, `queue[canon:]` the line that is being edited;
- `marks` has, ascending, the positions in `queue[:canon]` at which a line ends; a
  NUL there is an end of file, which is read as nothing;
- at most `QUEUE_BYTES` are in `queue`; in canonical mode, what comes when it is
  full replaces the last byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uvm_async.state import Entity
from uvm_async.tty.echo import BACKSPACE, NEWLINE, RETURN, TAB, Screen, is_control
from uvm_async.tty.termios import Cc, Iflag, Lflag, Termios

if TYPE_CHECKING:
    from uvm_async.tty.base import Tty

__all__ = ["QUEUE_BYTES", "LineDiscipline"]

QUEUE_BYTES: Final = 4096
DISABLED: Final = 0
"""A control character that is NUL is none."""
SIGINT, SIGQUIT, SIGTSTP = 2, 3, 20


def to_lower(byte: int) -> int:
    """Of Latin-1, as Linux's tolower."""
    if 65 <= byte <= 90 or (192 <= byte <= 222 and byte != 215):
        return byte + 32
    return byte


def is_word(byte: int) -> bool:
    """A letter (of Latin-1), digit or underscore."""
    return (
        byte == 95
        or 48 <= byte <= 57
        or 65 <= byte <= 90
        or 97 <= byte <= 122
        or (byte >= 192 and byte not in (215, 247))
    )


class LineDiscipline(Entity):
    """N_TTY of one terminal."""

    def __init__(self, tty: Tty) -> None:
        self.tty = tty
        self.queue = bytearray()
        self.canon = 0
        self.marks: list[int] = []
        self.lnext = False
        self.erasing = False
        self.screen = Screen(tty)
        self.special: frozenset[int] = frozenset()
        """Bytes that mean something."""
        self.settings_changed(None)

    # -- settings

    @property
    def settings(self) -> Termios:
        return self.tty.termios

    @property
    def canonical(self) -> bool:
        return bool(self.settings.lflag & Lflag.ICANON) and not self.settings.lflag & Lflag.EXTPROC

    def _iflag(self, flag: int) -> bool:
        return bool(self.settings.iflag & flag)

    def _lflag(self, flag: int) -> bool:
        return bool(self.settings.lflag & flag)

    def settings_changed(self, old: Termios | None) -> None:
        """`settings` are new; `old` is what they were."""
        now = self.settings
        if old is None or (old.lflag ^ now.lflag) & (Lflag.ICANON | Lflag.EXTPROC):
            self.marks.clear()
            self.canon = 0
            if now.lflag & Lflag.ICANON and self.queue:
                self.canon = len(self.queue)
                self.marks.append(self.canon - 1)
            self.erasing = self.lnext = False
        self.special = frozenset(self._special_bytes()) - {DISABLED}
        if old is not None and old.iflag & Iflag.IXON and not now.iflag & Iflag.IXON:
            self.tty.start()
            self.screen.flush()

    def _special_bytes(self) -> list[int]:
        cc, found = self.settings.cc, []
        if self._iflag(Iflag.IGNCR | Iflag.ICRNL):
            found.append(RETURN)
        if self._iflag(Iflag.INLCR):
            found.append(NEWLINE)
        if self._lflag(Lflag.ICANON):
            found += [cc[Cc.ERASE], cc[Cc.KILL], cc[Cc.EOF], cc[Cc.EOL], NEWLINE]
            if self._lflag(Lflag.IEXTEN):
                found += [cc[Cc.WERASE], cc[Cc.LNEXT], cc[Cc.EOL2]]
                if self._lflag(Lflag.ECHO):
                    found.append(cc[Cc.REPRINT])
        if self._iflag(Iflag.IXON):
            found += [cc[Cc.START], cc[Cc.STOP]]
        if self._lflag(Lflag.ISIG):
            found += [cc[Cc.INTR], cc[Cc.QUIT], cc[Cc.SUSP]]
        return found

    # -- input

    def receive(self, data: bytes) -> int:
        """Take input; answers how many bytes there was room for."""
        done = 0
        while done < len(data):
            room = QUEUE_BYTES - len(self.queue)
            if self._iflag(Iflag.PARMRK):
                room = -(-room // 3)
            room -= 1
            if room <= 0:
                if not (self.canonical and self.canon == 0):
                    break
                if room < 0:
                    self.queue.pop()
                room = 1
            for byte in data[done : done + room]:
                self._receive_byte(byte)
            done += min(room, len(data) - done)
        if self._lflag(Lflag.ECHO | Lflag.ECHONL):
            self.screen.flush()
        return done

    def _receive_byte(self, byte: int) -> None:
        lnext, self.lnext = self.lnext, False
        if self._iflag(Iflag.ISTRIP):
            byte &= 0x7F
        if self._iflag(Iflag.IUCLC) and self._lflag(Lflag.IEXTEN):
            byte = to_lower(byte)
        if self._lflag(Lflag.EXTPROC):
            self._put(byte)
        elif lnext or byte not in self.special:
            self._receive_plain(byte)
        else:
            self._receive_special(byte)

    def _receive_plain(self, byte: int) -> None:
        self._start_on_any()
        self._echo_typed(byte)
        self._queue_byte(byte)

    def _start_on_any(self) -> None:
        """IXANY: whatever is typed makes stopped output go on."""
        if self.tty.stopped and self._iflag(Iflag.IXANY) and self._iflag(Iflag.IXON):
            self.tty.start()
            self.screen.flush()

    def _queue_byte(self, byte: int) -> None:
        if byte == 0xFF and self._iflag(Iflag.PARMRK):
            self._put(byte)
        self._put(byte)

    def _put(self, byte: int) -> None:
        self.queue.append(byte)

    def _receive_special(self, byte: int) -> None:
        cc = self.settings.cc
        if self._iflag(Iflag.IXON) and byte in (cc[Cc.START], cc[Cc.STOP]):
            if byte == cc[Cc.START]:
                self.tty.start()
                self.screen.flush()
            else:
                self.tty.stop()
            return
        if self._lflag(Lflag.ISIG):
            for index, signo in ((Cc.INTR, SIGINT), (Cc.QUIT, SIGQUIT), (Cc.SUSP, SIGTSTP)):
                if byte == cc[index]:
                    self._signal(signo, byte)
                    return
        self._start_on_any()
        if byte == RETURN:
            if self._iflag(Iflag.IGNCR):
                return
            if self._iflag(Iflag.ICRNL):
                byte = NEWLINE
        elif byte == NEWLINE and self._iflag(Iflag.INLCR):
            byte = RETURN
        if self._lflag(Lflag.ICANON) and self._edit(byte):
            return
        if self._lflag(Lflag.ECHO):
            if byte == NEWLINE:
                self._finish_erasing()
                self.screen.echo_raw(NEWLINE)
                self.screen.commit()
            else:
                self._echo_typed(byte)
        self._queue_byte(byte)

    def _signal(self, signo: int, byte: int) -> None:
        self.tty.signal_foreground(signo)
        if not self._lflag(Lflag.NOFLSH):
            self.screen.echoes.clear()
            self.tty.flush_output()
            self.flush_input()
        if self._iflag(Iflag.IXON):
            self.tty.start()
        if self._lflag(Lflag.ECHO):
            self.screen.echo(byte)
            self.screen.commit()
        else:
            self.screen.flush()

    def flush_input(self) -> None:
        """Forget what was received and not read."""
        self.queue.clear()
        self.marks.clear()
        self.canon = 0
        self.lnext = self.erasing = False

    # -- canonical mode

    def _edit(self, byte: int) -> bool:
        """A byte that edits or ends the line; False if it is none."""
        cc = self.settings.cc
        extended = self._lflag(Lflag.IEXTEN)
        if byte in (cc[Cc.ERASE], cc[Cc.KILL]) or (extended and byte == cc[Cc.WERASE]):
            self._erase(byte)
            self.screen.commit()
        elif extended and byte == cc[Cc.LNEXT]:
            self.lnext = True
            if self._lflag(Lflag.ECHO):
                self._finish_erasing()
                if self._lflag(Lflag.ECHOCTL):
                    self.screen.echo_raw(ord("^"))
                    self.screen.echo_raw(BACKSPACE)
                    self.screen.commit()
        elif extended and byte == cc[Cc.REPRINT] and self._lflag(Lflag.ECHO):
            self._finish_erasing()
            self.screen.echo(byte)
            self.screen.echo_raw(NEWLINE)
            for typed in self.queue[self.canon :]:
                self.screen.echo(typed)
            self.screen.commit()
        elif byte == NEWLINE:
            if self._lflag(Lflag.ECHO | Lflag.ECHONL):
                self.screen.echo_raw(NEWLINE)
                self.screen.commit()
            self._end_line(byte)
        elif byte == cc[Cc.EOF]:
            self._end_line(DISABLED)
        elif byte == cc[Cc.EOL] or (extended and byte == cc[Cc.EOL2]):
            if self._lflag(Lflag.ECHO):
                self._echo_in_line(byte)
            if byte == 0xFF and self._iflag(Iflag.PARMRK):
                self._put(byte)
            self._end_line(byte)
        else:
            return False
        return True

    def _end_line(self, byte: int) -> None:
        self._put(byte)
        self.canon = len(self.queue)
        self.marks.append(self.canon - 1)

    def _erase(self, byte: int) -> None:
        """ERASE, WERASE or KILL."""
        cc = self.settings.cc
        if len(self.queue) == self.canon:
            return
        by_word = False
        one = byte == cc[Cc.ERASE]
        if not one:
            by_word = byte == cc[Cc.WERASE]
            if not by_word and not self._kill_visibly():
                return
        seen_word = False
        while len(self.queue) > self.canon:
            head = len(self.queue) - 1
            while self.screen.is_continuation(self.queue[head]) and head != self.canon:
                head -= 1
            if self.screen.is_continuation(self.queue[head]):
                break  # the character began before this line
            first = self.queue[head]
            if by_word:
                if is_word(first):
                    seen_word = True
                elif seen_word:
                    break
            gone = bytes(self.queue[head:])
            del self.queue[head:]
            if self._lflag(Lflag.ECHO):
                self._show_erased(gone, one=one)
            if one:
                break
        if len(self.queue) == self.canon and self._lflag(Lflag.ECHO):
            self._finish_erasing()

    def _kill_visibly(self) -> bool:
        """KILL: True if the line is to be rubbed out on the screen; else it is gone already."""
        wanted = Lflag.ECHOK | Lflag.ECHOKE | Lflag.ECHOE
        if self._lflag(Lflag.ECHO) and self.settings.lflag & wanted == wanted:
            return True
        del self.queue[self.canon :]
        if self._lflag(Lflag.ECHO):
            self._finish_erasing()
            self.screen.echo(self.settings.cc[Cc.KILL])
            if self._lflag(Lflag.ECHOK):
                self.screen.echo_raw(NEWLINE)
        return False

    def _show_erased(self, gone: bytes, *, one: bool) -> None:
        """Echo that one character has been taken from the end of the line."""
        first = gone[0]
        if self._lflag(Lflag.ECHOPRT):
            if not self.erasing:
                self.screen.echo_raw(ord("\\"))
                self.erasing = True
            self.screen.echo(first)
            for byte in gone[1:]:
                self.screen.echo_raw(byte)
                self.screen.move_back()
        elif one and not self._lflag(Lflag.ECHOE):
            self.screen.echo(self.settings.cc[Cc.ERASE])
        elif first == TAB:
            self._erase_tab()
        else:
            if is_control(first) and self._lflag(Lflag.ECHOCTL):
                self.screen.rub_out()
            if not is_control(first) or self._lflag(Lflag.ECHOCTL):
                self.screen.rub_out()

    def _erase_tab(self) -> None:
        columns = 0
        after_tab = False
        for byte in reversed(self.queue[self.canon :]):
            if byte == TAB:
                after_tab = True
                break
            if is_control(byte):
                columns += 2 if self._lflag(Lflag.ECHOCTL) else 0
            elif not self.screen.is_continuation(byte):
                columns += 1
        self.screen.erase_tab(columns, after_tab=after_tab)

    def _finish_erasing(self) -> None:
        if self.erasing:
            self.screen.echo_raw(ord("/"))
            self.erasing = False

    # -- echo

    def _echo_typed(self, byte: int) -> None:
        """Echo a byte that goes into the line."""
        if self._lflag(Lflag.ECHO):
            self._finish_erasing()
            self._echo_in_line(byte)

    def _echo_in_line(self, byte: int) -> None:
        if len(self.queue) == self.canon:
            self.screen.line_begins()
        self.screen.echo(byte)
        self.screen.commit()

    # -- reading

    def readable(self) -> int:
        """FIONREAD: bytes that a read could get now."""
        if self.canonical:
            return self.canon - sum(1 for at in self.marks if self.queue[at] == DISABLED)
        return len(self.queue)

    def has_input(self) -> bool:
        """Would a read of the terminal find something (an end of file too)?"""
        return self.canon > 0 if self.canonical else bool(self.queue)

    def take(self, count: int) -> bytes:
        """Up to `count` bytes for a reader: of one line, in canonical mode."""
        if not self.canonical:
            data = bytes(self.queue[:count])
            self._drop(len(data))
            return data
        end = min(count, self.canon)
        if self.marks and self.marks[0] < end:
            at = self.marks[0]
            is_eof = self.queue[at] == DISABLED
            data = bytes(self.queue[: at if is_eof else at + 1])
            self._drop(at + 1)
            return data
        data = bytes(self.queue[:end])
        self._drop(end)
        if self.marks and self.marks[0] == 0 and self.queue[0] == DISABLED:
            self._drop(1)  # the line was read to its end: that it has one is no end of file
        return data

    def _drop(self, count: int) -> None:
        del self.queue[:count]
        self.canon = max(self.canon - count, 0)
        self.marks = [at - count for at in self.marks if at >= count]
