"""Decoded system calls, as `strace -f` prints them.

    [pid     2] openat(AT_FDCWD, "/etc/passwd", O_RDONLY) = 3
    [pid     3] read(0,  <unfinished ...>
    [pid     2] kill(3, SIGTERM) = 0
    [pid     3] <... read resumed>0x7ffe5000, 4096) = ? ERESTARTSYS (To be restarted ...)
    [pid     3] --- SIGTERM {si_signo=SIGTERM, si_code=SI_USER, si_pid=2, si_uid=0} ---

A call's line begins when it begins, and is broken off when another task has
something to say meanwhile; so what hangs is seen to hang.  A call that slept and
is run again is one call.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from uvm_async.arch import registers as r
from uvm_async.kernel.observer import FOREIGN_CALL, Observer
from uvm_async.syscalls.numbers import X86_64
from uvm_async.trace.arity import ARITY
from uvm_async.trace.flags import errno_name, signal_name
from uvm_async.trace.usermem import UserMemory
from uvm_async.trace.values import Call, quote, shower_of

if TYPE_CHECKING:
    from uvm_async.kernel.kernel import Kernel
    from uvm_async.kernel.signal import SigInfo
    from uvm_async.kernel.task import Task

__all__ = ["Strace"]

REGISTERS: Final = (r.RDI, r.RSI, r.RDX, r.R10, r.R8, r.R9)
NAMES: Final = {number: name for name, number in X86_64.items()}
EXEC: Final = frozenset({"execve", "execveat"})
NO_RETURN: Final = frozenset({"exit", "exit_group"})
HEX_RESULTS: Final = frozenset({"mmap", "mremap", "brk"})
FLUSH_BYTES: Final = 1 << 16
RESTARTS: Final = {
    "sys": "ERESTARTSYS (To be restarted if SA_RESTART is set)",
    "intr_nohand": "ERESTARTNOHAND (To be restarted if no handler)",
    "nohand": "ERESTARTNOHAND (To be restarted if no handler)",
    "block": "ERESTART_RESTARTBLOCK (Interrupted by signal)",
    "intr": "EINTR (Interrupted system call)",
}
SI_CODES: Final = {0: "SI_USER", 0x80: "SI_KERNEL", -1: "SI_QUEUE", -2: "SI_TIMER", -6: "SI_TKILL"}
CLD_CODES: Final = ("", "CLD_EXITED", "CLD_KILLED", "CLD_DUMPED", "CLD_TRAPPED", "CLD_STOPPED",
                    "CLD_CONTINUED")  # fmt: skip
SEGV_CODES: Final = {1: "SEGV_MAPERR", 2: "SEGV_ACCERR"}
SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV, SIGCHLD = 4, 5, 7, 8, 11, 17


class Strace(Observer):
    """Writes to a descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._newline = b"\r\n" if os.isatty(fd) else b"\n"
        """On a raw terminal a line feed alone does not return the carriage."""
        self._kernel: Kernel | None = None
        self._calls: dict[int, Call] = {}
        """Calls under way, by thread id: a task may be another object after a thaw."""
        self._open = 0
        """The thread whose line is not complete; 0: none."""
        self._text = bytearray()
        self._flush_due = False

    def attach(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def close(self) -> None:
        self._break_line()
        for pid, call in sorted(self._calls.items()):
            self._line(pid, f"<... {call.name} resumed> <the machine ended>")
        self._calls.clear()
        self._flush()

    # -- what is seen

    def executed(
        self, task: Task, path: bytes, argv: Sequence[bytes], envp: Sequence[bytes]
    ) -> None:
        shown = ", ".join(quote(argument) for argument in argv)
        text = f"execve({quote(path, 4096)}, [{shown}], /* {len(envp)} vars */) = 0"
        self._line(task.pid, text)

    def call_enter(self, task: Task, number: int) -> None:
        if task.pid in self._calls or self._kernel is None:
            return  # it slept, and is run again
        call = self._decode(task, number)
        self._calls[task.pid] = call
        self._break_line()
        self._write(f"[pid {task.pid:5}] {call.name}({self._arguments(call, done=False)}")
        self._open = task.pid

    def call_exit(self, task: Task, result: Any) -> None:
        self._finish(task, result if isinstance(result, int) else None)

    def call_interrupted(self, task: Task, restart: str) -> None:
        self._finish(task, None, f"? {RESTARTS.get(restart, restart)}")

    def signal(self, task: Task, info: SigInfo) -> None:
        self._line(task.pid, f"--- {signal_name(info.signo)} {{{', '.join(_siginfo(info))}}} ---")

    def gone(self, task: Task, status: int) -> None:
        if task.pid in self._calls:
            self._finish(task, None, "?")
        signo = status & 0x7F
        if signo:
            dumped = " (core dumped)" if status & 0x80 else ""
            self._line(task.pid, f"+++ killed by {signal_name(signo)}{dumped} +++")
        else:
            self._line(task.pid, f"+++ exited with {status >> 8 & 0xFF} +++")

    # -- calls

    def _decode(self, task: Task, number: int) -> Call:
        kernel, stub = self._kernel, task.stub
        assert kernel is not None and stub is not None
        entry = kernel.calls.get(number)
        u64 = kernel.physmem.u64
        raw = [u64[stub.regs + register] for register in REGISTERS]
        memory = UserMemory(kernel, task.mm)
        if number & FOREIGN_CALL:
            return Call(None, f"int80_syscall_{number & 0xFFFFFFFF}", (), memory)
        if entry is None:
            name = NAMES.get(number, f"syscall_{number:#x}")
            return Call(None, name, tuple(raw), memory)
        if entry.call.refused:
            return Call(None, entry.call.name, tuple(raw[: ARITY.get(entry.call.name, 6)]), memory)
        kinds = [kind.ctype for _, kind in entry.call.params]
        return Call(entry.call, entry.call.name, tuple(map(_signed, raw, kinds)), memory)

    def _arguments(self, call: Call, *, done: bool) -> str:
        """Those not shown yet: as far as they are known, or all."""
        if call.definition is None:
            words = [hex(value) if value else "0" for value in call.arguments[call.shown :]]
            call.shown = len(call.arguments)
            return ", ".join(words)
        text = ""
        for name, kind in call.definition.params[call.shown :]:
            value = call.arguments[call.shown]
            shower = shower_of(call.name, name, kind)
            if shower.out and not done:
                break
            shown = None if shower.out and call.failed else shower.show(call, value)
            if shown is None:
                if not done:
                    break
                shown = hex(value) if value else "NULL"
            if shown:
                text += f"{', ' if call.shown else ''}{shown}"
            call.shown += 1
        return text

    def _finish(self, task: Task, result: int | None, text: str = "") -> None:
        call = self._calls.pop(task.pid, None)
        if call is None:
            return
        if call.name in EXEC and (result is None or result == 0):
            call.memory = UserMemory(task.kernel, None)  # that of the arguments is gone
            result = 0 if not text else None
        else:
            call.memory = UserMemory(task.kernel, task.mm)
        call.result = result
        rest = self._arguments(call, done=True)
        if self._open != task.pid:
            self._break_line()
            self._write(f"[pid {task.pid:5}] <... {call.name} resumed>")
        self._open = 0
        self._end_line(f"{rest}) = {text or _result(call)}")

    # -- lines

    def _line(self, pid: int, text: str) -> None:
        self._break_line()
        self._write(f"[pid {pid:5}] ")
        self._end_line(text)

    def _break_line(self) -> None:
        if self._open:
            self._open = 0
            self._end_line(" <unfinished ...>")

    def _end_line(self, text: str) -> None:
        self._write(text)
        self._text += self._newline

    def _write(self, text: str) -> None:
        self._text += text.encode()
        if len(self._text) > FLUSH_BYTES:
            self._flush()
        elif not self._flush_due:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                self._flush()
                return
            self._flush_due = True
            loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Blocks when nobody reads, as strace does."""
        self._flush_due = False
        try:
            while self._text:
                del self._text[: os.write(self._fd, self._text)]
        except OSError:
            self._text.clear()


def _signed(value: int, ctype: str) -> int:
    size = 32 if ctype.endswith("32") else 64
    value &= (1 << size) - 1
    return value - (1 << size) if ctype[0] == "s" and value >> (size - 1) else value


def _result(call: Call) -> str:
    result = call.result
    if result is None or call.name in NO_RETURN:
        return "?"
    if call.failed:
        return f"-1 {errno_name(-result)} ({os.strerror(-result)})"
    if call.name in HEX_RESULTS:
        return hex(result)
    return str(result)


def _siginfo(info: SigInfo) -> list[str]:
    parts = [f"si_signo={signal_name(info.signo)}"]
    code = SI_CODES.get(info.code)
    if code is None and info.signo == SIGCHLD and 1 <= info.code < len(CLD_CODES):
        code = CLD_CODES[info.code]
    if code is None and info.signo == SIGSEGV:
        code = SEGV_CODES.get(info.code)
    parts.append(f"si_code={code or info.code}")
    if info.signo in (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP) and info.code > 0:
        parts.append(f"si_addr={info.addr:#x}" if info.addr else "si_addr=NULL")
    elif info.pid or info.code <= 0:
        parts.append(f"si_pid={info.pid}, si_uid={info.uid}")
    if info.signo == SIGCHLD and 1 <= info.code < len(CLD_CODES):
        shown = str(info.status) if info.code == 1 else signal_name(info.status)
        parts.append(f"si_status={shown}")
    return parts
