"""Signals: sending them, and what is pending.

Linux: kernel/signal.c, signal(7).  Delivery, which touches the guest's stack, is
in `kernel/sigframe.py`.

Signal masks are integers, bit n-1 for signal n.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from uvm_async.kernel.task import TaskState
from uvm_async.sched.wait import WaitQueue
from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.kernel.task import Process, Task

__all__ = [
    "PendingSignals",
    "SigAction",
    "SigHand",
    "SigInfo",
    "force_signal",
    "recalc_sigpending",
    "send_to_process",
    "send_to_task",
    "sigmask",
]

SIGHUP, SIGINT, SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGKILL = range(1, 10)
SIGUSR1, SIGSEGV, SIGUSR2, SIGPIPE, SIGALRM, SIGTERM, SIGSTKFLT, SIGCHLD, SIGCONT = range(10, 19)
SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGXCPU, SIGXFSZ, SIGVTALRM, SIGPROF = range(19, 28)
SIGWINCH, SIGIO, SIGPWR, SIGSYS = range(28, 32)
NSIG: Final = 64

SIG_DFL: Final = 0
SIG_IGN: Final = 1

SA_NOCLDSTOP: Final = 1
SA_NOCLDWAIT: Final = 2
SA_SIGINFO: Final = 4
SA_RESTORER: Final = 0x04000000
SA_ONSTACK: Final = 0x08000000
SA_RESTART: Final = 0x10000000
SA_NODEFER: Final = 0x40000000
SA_RESETHAND: Final = 0x80000000

SI_USER: Final = 0
SI_KERNEL: Final = 0x80
SI_QUEUE: Final = -1
SI_TIMER: Final = -2
SI_TKILL: Final = -6
CLD_EXITED, CLD_KILLED, CLD_DUMPED, CLD_TRAPPED, CLD_STOPPED, CLD_CONTINUED = range(1, 7)


def sigmask(*signals: int) -> int:
    """The mask with these signals."""
    mask = 0
    for signo in signals:
        mask |= 1 << (signo - 1)
    return mask


UNBLOCKABLE: Final = sigmask(SIGKILL, SIGSTOP)
STOP_SIGNALS: Final = sigmask(SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU)
IGNORED_BY_DEFAULT: Final = sigmask(SIGCHLD, SIGCONT, SIGURG, SIGWINCH)
SYNCHRONOUS: Final = sigmask(SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGSYS)
CORE_DUMPS: Final = sigmask(
    SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGXCPU, SIGXFSZ, SIGSYS
)


@dataclass(frozen=True, slots=True)
class SigAction:
    """sigaction(2), as the kernel keeps it."""

    handler: int = SIG_DFL
    flags: int = 0
    restorer: int = 0
    mask: int = 0


DEFAULT_ACTION: Final = SigAction()


@dataclass(slots=True)
class SigInfo:
    """siginfo_t: what is filled in depends on `signo` and `code` (man 2 sigaction)."""

    signo: int
    code: int = SI_KERNEL
    pid: int = 0
    uid: int = 0
    value: int = 0
    addr: int = 0
    status: int = 0
    utime: int = 0
    stime: int = 0
    errno: int = 0
    timer_id: int = 0
    overrun: int = 0
    band: int = 0
    fd: int = 0
    syscall: int = 0
    arch: int = 0
    timer: object = field(default=None, repr=False)

    def pack(self) -> bytes:
        """The 128 bytes the guest sees."""
        head = struct.pack("<iiii", self.signo, self.errno, self.code, 0)
        if self.code == SI_TIMER:
            body = struct.pack("<iiQ", self.timer_id, self.overrun, self.value)
        elif self.code in (SI_USER, SI_TKILL, SI_QUEUE) or self.code < 0:
            body = struct.pack("<iIQ", self.pid, self.uid, self.value)
        elif self.signo == SIGCHLD:
            body = struct.pack(
                "<iIiiqq", self.pid, self.uid, self.status, 0, self.utime, self.stime
            )
        elif self.signo in (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP):
            body = struct.pack("<Q", self.addr)
        elif self.signo == SIGSYS:
            body = struct.pack("<QiI", self.addr, self.syscall, self.arch)
        elif self.signo == SIGIO:
            body = struct.pack("<qi", self.band, self.fd)
        else:
            body = struct.pack("<iIQ", self.pid, self.uid, self.value)
        return (head + body).ljust(128, b"\0")


class SigHand(Entity):
    """The actions of a process (Linux: sighand_struct)."""

    def __init__(self) -> None:
        self.actions: dict[int, SigAction] = {}
        self.users = 1

    def get(self, signo: int) -> SigAction:
        """What happens on `signo`."""
        return self.actions.get(signo, DEFAULT_ACTION)

    def copy(self) -> SigHand:
        """For fork."""
        new = SigHand()
        new.actions = dict(self.actions)
        return new

    def ignored(self, signo: int) -> bool:
        """Would it be thrown away?"""
        handler = self.get(signo).handler
        return handler == SIG_IGN or (
            handler == SIG_DFL and bool(sigmask(signo) & IGNORED_BY_DEFAULT)
        )

    def flush_for_exec(self) -> None:
        """Handlers go back to the default; what is ignored stays ignored."""
        self.actions = {
            n: SigAction(SIG_IGN) for n, a in self.actions.items() if a.handler == SIG_IGN
        }


class PendingSignals(Entity):
    """Signals sent but not delivered. Standard ones do not queue, real-time ones do."""

    def __init__(self) -> None:
        self.queue: list[SigInfo] = []
        self.mask = 0
        self.wait = WaitQueue()
        """Woken at each arrival (signalfd, sigwait)."""

    def add(self, info: SigInfo) -> None:
        """A signal has come."""
        bit = sigmask(info.signo)
        if info.signo < 32 and self.mask & bit:
            return
        self.mask |= bit
        self.queue.append(info)

    def take(self, allowed: int) -> SigInfo | None:
        """The first pending signal of `allowed`: synchronous ones first, then lowest number."""
        ready = self.mask & allowed
        if not ready:
            return None
        first = ready & SYNCHRONOUS or ready
        signo = (first & -first).bit_length()
        for at, info in enumerate(self.queue):
            if info.signo == signo:
                del self.queue[at]
                break
        else:
            info = SigInfo(signo, SI_USER)
        if not any(other.signo == signo for other in self.queue):
            self.mask &= ~sigmask(signo)
        return info

    def discard(self, mask: int) -> None:
        """Forget all signals of `mask`."""
        if self.mask & mask:
            self.queue = [info for info in self.queue if not sigmask(info.signo) & mask]
            self.mask &= ~mask


def recalc_sigpending(task: Task) -> None:
    """Bring `notify_resume` up to date after a change of mask or queue."""
    pending = task.pending.mask | task.process.pending.mask
    if pending & ~task.blocked or task.saved_blocked is not None or task.process.stopped_by:
        task.notify_resume = True


def _signal_wake_up(task: Task) -> None:
    task.notify_resume = True
    task.kernel.sched.signal_wake(task)


def _prepare(process: Process, info: SigInfo) -> bool:
    """Effects of sending itself: stop and continue cancel each other. False: throw it away."""
    signo = info.signo
    if signo == SIGCONT:
        process.pending.discard(STOP_SIGNALS)
        for task in process.tasks:
            task.pending.discard(STOP_SIGNALS)
        if process.stopped_by:
            process.stopped_by = 0
            process.tasks[0].kernel.stopped.pop(process, None)
            process.stop_pending_report = False
            process.continued_pending_report = True
            for task in process.tasks:
                if task.state is TaskState.STOPPED:
                    task.kernel.sched.wake(task)
            if process.parent is not None:
                notify_parent_stopped(process, CLD_CONTINUED, SIGCONT)
    elif sigmask(signo) & STOP_SIGNALS:
        process.pending.discard(sigmask(SIGCONT))
        for task in process.tasks:
            task.pending.discard(sigmask(SIGCONT))
    return True


def _kill_group(process: Process) -> None:
    """SIGKILL waits for nothing: the group is ending from here on, stopped or not."""
    if process.exit_code is None:
        process.exit_code = SIGKILL
    process.stopped_by = 0
    for task in process.tasks:
        task.kernel.stopped.pop(process, None)
        _signal_wake_up(task)


def _wanted(task: Task, signo: int) -> bool:
    return not task.blocked & sigmask(signo) or signo == SIGKILL


def send_to_task(task: Task, info: SigInfo) -> None:
    """Direct a signal at one thread (tgkill, faults)."""
    process = task.process
    if task.state in (TaskState.ZOMBIE, TaskState.DEAD) or process.zombie or not process.tasks:
        return
    if info.signo == SIGKILL:
        _kill_group(process)
        return
    _prepare(process, info)
    if process.leader is not None and _ignored(process, task, info.signo):
        return
    task.pending.add(info)
    task.pending.wait.wake_up()
    if _wanted(task, info.signo) or task.restart is not None:
        _signal_wake_up(task)


def _ignored(process: Process, task: Task | None, signo: int) -> bool:
    """Thrown away at once: ignored, and not blocked (a blocked one may find a handler later)."""
    any_task = task or (process.tasks[0] if process.tasks else None)
    if any_task is None:
        return True
    if process.pid == 1 and not any_task.blocked & sigmask(signo):
        return any_task.sighand.get(signo).handler == SIG_DFL and not any_task.kernel.init_killable
    if any_task.blocked & sigmask(signo):
        return False
    return any_task.sighand.ignored(signo)


def send_to_process(process: Process, info: SigInfo) -> None:
    """Direct a signal at a thread group (kill)."""
    if process.zombie or not process.tasks:
        return
    if info.signo == SIGKILL:
        _kill_group(process)
        return
    _prepare(process, info)
    if all(_ignored(process, task, info.signo) for task in process.tasks):
        return
    process.pending.add(info)
    process.pending.wait.wake_up()
    target = next((t for t in process.tasks if _wanted(t, info.signo)), None)
    for task in process.tasks:
        if task.restart is not None and task is not target:
            task.kernel.sched.poke_sigwait(task)
    if target is not None:
        _signal_wake_up(target)


def force_signal(task: Task, info: SigInfo) -> None:
    """A fault's signal: cannot be blocked or ignored (Linux: force_sig_info)."""
    action = task.sighand.get(info.signo)
    bit = sigmask(info.signo)
    if task.blocked & bit or action.handler == SIG_IGN:
        task.sighand.actions[info.signo] = DEFAULT_ACTION
        task.blocked &= ~bit
    task.pending.add(info)
    task.notify_resume = True


def notify_parent_stopped(process: Process, code: int, status: int) -> None:
    """Tell the parent of a stop or a continuation."""
    parent = process.parent
    if parent is None or not parent.tasks:
        return
    leader = process.tasks[0] if process.tasks else process.leader
    if not parent.tasks[0].sighand.get(SIGCHLD).flags & SA_NOCLDSTOP:
        uid = leader.cred.uid if leader is not None else 0
        send_to_process(parent, SigInfo(SIGCHLD, code, pid=process.pid, uid=uid, status=status))
    parent.wait_exit.wake_up()
