"""ioctl_tty(2): what programs ask of a terminal.

Linux: drivers/tty/tty_io.c (tty_ioctl), tty_ioctl.c, tty_jobctrl.c.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.fs.permission import CAP_SYS_ADMIN, capable
from uvm_async.sched.wait import block_on
from uvm_async.tty.termios import TERMIOS, TERMIOS2, WINSIZE, Cc

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task
    from uvm_async.tty.base import Tty
    from uvm_async.tty.file import TtyFile

__all__ = ["tty_ioctl"]

TCGETS, TCSETS, TCSETSW, TCSETSF = 0x5401, 0x5402, 0x5403, 0x5404
TCSBRK, TCXONC, TCFLSH = 0x5409, 0x540A, 0x540B
TIOCEXCL, TIOCNXCL, TIOCSCTTY = 0x540C, 0x540D, 0x540E
TIOCGPGRP, TIOCSPGRP, TIOCOUTQ, TIOCSTI = 0x540F, 0x5410, 0x5411, 0x5412
TIOCGWINSZ, TIOCSWINSZ, FIONREAD = 0x5413, 0x5414, 0x541B
TIOCNOTTY, TIOCSETD, TIOCGETD, TCSBRKP, TIOCGSID = 0x5422, 0x5423, 0x5424, 0x5425, 0x5429
TCGETS2, TCSETS2, TCSETSW2, TCSETSF2 = 0x802C542A, 0x402C542B, 0x402C542C, 0x402C542D
TIOCGDEV, TIOCGEXCL = 0x80045432, 0x80045440
TCOOFF, TCOON, TCIOFF, TCION = range(4)
TCIFLUSH, TCOFLUSH, TCIOFLUSH = range(3)

Answer = Callable[["Task", "TtyFile", int], Awaitable[None]]


async def tty_ioctl(task: Task, file: TtyFile, cmd: int, arg: int) -> int:
    """Raises ENOTTY, EFAULT, EINVAL, EPERM, ESRCH, EIO."""
    if file.tty.hung_up:
        raise Errno.ENOTTY if cmd == TIOCSPGRP else Errno.EIO
    answer = ANSWERS.get(cmd)
    if answer is None:
        raise Errno.ENOTTY
    await answer(task, file, arg)
    return 0


async def _put_int(task: Task, addr: int, value: int) -> None:
    await task.mm.copy_to_user(addr, (value & 0xFFFFFFFF).to_bytes(4, "little"))


async def _get_int(task: Task, addr: int) -> int:
    return int.from_bytes(await task.mm.copy_from_user(addr, 4), "little", signed=True)


# -- settings


async def _get_termios(task: Task, file: TtyFile, arg: int) -> None:
    await task.mm.copy_to_user(arg, file.tty.termios.pack())


async def _get_termios2(task: Task, file: TtyFile, arg: int) -> None:
    await task.mm.copy_to_user(arg, file.tty.termios.pack2())


async def _wait_until_sent(task: Task, tty: Tty) -> None:
    """Until all output has reached the screen. May be interrupted."""
    if tty.out.buffer and not tty.out.broken:
        task.restart = "draining"
        await block_on(tty.out.wait)


async def _set(
    task: Task, file: TtyFile, arg: int, size: int, *, drain: bool = False, flush: bool = False
) -> None:
    tty = file.tty
    tty.check_change(task)
    data = await task.mm.copy_from_user(arg, size)
    if drain:
        await _wait_until_sent(task, tty)
    if flush:
        tty.flush_input()
    tty.set_termios(tty.termios.with_raw(data))


async def _set_now(task: Task, file: TtyFile, arg: int) -> None:
    await _set(task, file, arg, TERMIOS.size)


async def _set_drained(task: Task, file: TtyFile, arg: int) -> None:
    await _set(task, file, arg, TERMIOS.size, drain=True)


async def _set_flushed(task: Task, file: TtyFile, arg: int) -> None:
    await _set(task, file, arg, TERMIOS.size, drain=True, flush=True)


async def _set2_now(task: Task, file: TtyFile, arg: int) -> None:
    await _set(task, file, arg, TERMIOS2.size)


async def _set2_drained(task: Task, file: TtyFile, arg: int) -> None:
    await _set(task, file, arg, TERMIOS2.size, drain=True)


async def _set2_flushed(task: Task, file: TtyFile, arg: int) -> None:
    await _set(task, file, arg, TERMIOS2.size, drain=True, flush=True)


async def _get_winsize(task: Task, file: TtyFile, arg: int) -> None:
    await task.mm.copy_to_user(arg, WINSIZE.pack(*file.tty.winsize))


async def _set_winsize(task: Task, file: TtyFile, arg: int) -> None:
    file.tty.set_winsize(*WINSIZE.unpack(await task.mm.copy_from_user(arg, WINSIZE.size)))


async def _set_exclusive(task: Task, file: TtyFile, arg: int) -> None:
    file.tty.exclusive = True


async def _set_shared(task: Task, file: TtyFile, arg: int) -> None:
    file.tty.exclusive = False


async def _get_exclusive(task: Task, file: TtyFile, arg: int) -> None:
    await _put_int(task, arg, file.tty.exclusive)


async def _get_discipline(task: Task, file: TtyFile, arg: int) -> None:
    await _put_int(task, arg, file.tty.termios.line)


async def _set_discipline(task: Task, file: TtyFile, arg: int) -> None:
    """There is N_TTY only."""
    file.tty.check_change(task)
    if await _get_int(task, arg) != 0:
        raise Errno.EINVAL


async def _get_device(task: Task, file: TtyFile, arg: int) -> None:
    await _put_int(task, arg, file.tty.rdev)


# -- the line


async def _readable(task: Task, file: TtyFile, arg: int) -> None:
    await _put_int(task, arg, file.tty.ldisc.readable())


async def _unsent(task: Task, file: TtyFile, arg: int) -> None:
    await _put_int(task, arg, len(file.tty.out.buffer))


async def _flush(task: Task, file: TtyFile, arg: int) -> None:
    tty = file.tty
    tty.check_change(task)
    if arg not in (TCIFLUSH, TCOFLUSH, TCIOFLUSH):
        raise Errno.EINVAL
    if arg != TCOFLUSH:
        tty.flush_input()
    if arg != TCIFLUSH:
        tty.flush_output()


async def _flow(task: Task, file: TtyFile, arg: int) -> None:
    tty = file.tty
    tty.check_change(task)
    if arg == TCOOFF:
        tty.stopped = tty.stopped_by_ioctl = True
    elif arg == TCOON:
        if tty.stopped_by_ioctl:
            tty.stopped_by_ioctl = False
            tty.start()
    elif arg in (TCIOFF, TCION):
        byte = tty.termios.cc[Cc.STOP if arg == TCIOFF else Cc.START]
        if byte:
            tty.put(bytes((byte,)))
    else:
        raise Errno.EINVAL


async def _break(task: Task, file: TtyFile, arg: int) -> None:
    """tcdrain and tcsendbreak: there is no line that could be broken."""
    file.tty.check_change(task)
    await _wait_until_sent(task, file.tty)


async def _fake_input(task: Task, file: TtyFile, arg: int) -> None:
    """TIOCSTI, switched off as on most systems (dev.tty.legacy_tiocsti)."""
    raise Errno.EIO


# -- sessions and groups


async def _set_controlling(task: Task, file: TtyFile, arg: int) -> None:
    tty, process = file.tty, task.process
    leads = process.session == process.pid
    if leads and tty.session == process.session:
        return
    if not leads or process.tty is not None:
        raise Errno.EPERM
    privileged = capable(task.cred, CAP_SYS_ADMIN)
    if tty.session is not None:
        if arg != 1 or not privileged:
            raise Errno.EPERM
        tty.steal()
    if not file.readable and not privileged:
        raise Errno.EPERM
    tty.make_controlling(process)


async def _give_up_controlling(task: Task, file: TtyFile, arg: int) -> None:
    process = task.process
    if process.tty is not file.tty:
        raise Errno.ENOTTY
    if process.session == process.pid:
        file.tty.session_ended()
    process.tty = None


def _own_terminal(task: Task, tty: Tty) -> None:
    if task.process.tty is not tty:
        raise Errno.ENOTTY


async def _get_foreground(task: Task, file: TtyFile, arg: int) -> None:
    _own_terminal(task, file.tty)
    await _put_int(task, arg, file.tty.pgrp or 0)


async def _set_foreground(task: Task, file: TtyFile, arg: int) -> None:
    tty, process = file.tty, task.process
    try:
        tty.check_change(task)
    except Errno.EIO:
        raise Errno.ENOTTY from None
    pgrp = await _get_int(task, arg)
    if pgrp < 0:
        raise Errno.EINVAL
    if process.tty is not tty or tty.session != process.session:
        raise Errno.ENOTTY
    members = task.kernel.pgrp_members(pgrp)
    if not members:
        raise Errno.ESRCH
    if members[0].session != process.session:
        raise Errno.EPERM
    tty.pgrp = pgrp


async def _get_session(task: Task, file: TtyFile, arg: int) -> None:
    _own_terminal(task, file.tty)
    if file.tty.session is None:
        raise Errno.ENOTTY
    await _put_int(task, arg, file.tty.session)


ANSWERS: Final[dict[int, Answer]] = {
    TCGETS: _get_termios,
    TCSETS: _set_now,
    TCSETSW: _set_drained,
    TCSETSF: _set_flushed,
    TCGETS2: _get_termios2,
    TCSETS2: _set2_now,
    TCSETSW2: _set2_drained,
    TCSETSF2: _set2_flushed,
    TCSBRK: _break,
    TCSBRKP: _break,
    TCXONC: _flow,
    TCFLSH: _flush,
    TIOCEXCL: _set_exclusive,
    TIOCNXCL: _set_shared,
    TIOCGEXCL: _get_exclusive,
    TIOCSCTTY: _set_controlling,
    TIOCNOTTY: _give_up_controlling,
    TIOCGPGRP: _get_foreground,
    TIOCSPGRP: _set_foreground,
    TIOCGSID: _get_session,
    TIOCOUTQ: _unsent,
    TIOCSTI: _fake_input,
    TIOCGWINSZ: _get_winsize,
    TIOCSWINSZ: _set_winsize,
    FIONREAD: _readable,
    TIOCSETD: _set_discipline,
    TIOCGETD: _get_discipline,
    TIOCGDEV: _get_device,
}
