"""Signals: man 2 kill, tgkill, sigaction, sigprocmask, sigaltstack, sigsuspend, sigtimedwait."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from uvm_async.arch import registers as r
from uvm_async.errors import Errno
from uvm_async.kernel.sigframe import SS_AUTODISARM, on_altstack, sigreturn
from uvm_async.kernel.signal import (
    SI_TKILL,
    SI_USER,
    SIGCONT,
    UNBLOCKABLE,
    SigAction,
    SigInfo,
    recalc_sigpending,
    send_to_process,
    send_to_task,
    sigmask,
)
from uvm_async.sched.wait import block_on
from uvm_async.syscalls.table import NO_RESULT, Addr, Int, Pid, Signal, Size, syscall

if TYPE_CHECKING:
    from uvm_async.kernel.task import Process, Task

SIGSET_BYTES: Final = 8
SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK = 0, 1, 2
SS_ONSTACK, SS_DISABLE = 1, 2
MINSIGSTKSZ: Final = 2048
SIGACTION: Final = struct.Struct("<QQQQ")
CAP_KILL: Final = 5
RLIMIT_SIGPENDING: Final = 11


def _check_size(size: int) -> None:
    if size != SIGSET_BYTES:
        raise Errno.EINVAL


@syscall("rt_sigaction")
async def sys_rt_sigaction(task: Task, signo: Signal, act: Addr, oldact: Addr, size: Size) -> int:
    """Examine and change a signal action. man 2 sigaction."""
    _check_size(size)
    new = None
    if act:
        handler, flags, restorer, mask = SIGACTION.unpack(
            await task.mm.copy_from_user(act, SIGACTION.size)
        )
        new = SigAction(handler, flags & 0xFFFFFFFF, restorer, mask & ~UNBLOCKABLE)
    if not 1 <= signo <= 64 or (new is not None and sigmask(signo) & UNBLOCKABLE):
        raise Errno.EINVAL
    old = task.sighand.get(signo)
    if new is not None:
        task.sighand.actions[signo] = new
        if task.sighand.ignored(signo):
            task.process.pending.discard(sigmask(signo))
            for thread in task.process.tasks:
                thread.pending.discard(sigmask(signo))
    if oldact:
        data = SIGACTION.pack(old.handler, old.flags, old.restorer, old.mask)
        await task.mm.copy_to_user(oldact, data)
    return 0


@syscall("rt_sigprocmask")
async def sys_rt_sigprocmask(task: Task, how: Int, new: Addr, old: Addr, size: Size) -> int:
    """Examine and change the signal mask. man 2 sigprocmask."""
    _check_size(size)
    before = task.blocked
    if new:
        mask = await task.mm.get_u64(new) & ~UNBLOCKABLE
        if how == SIG_BLOCK:
            task.blocked = before | mask
        elif how == SIG_UNBLOCK:
            task.blocked = before & ~mask
        elif how == SIG_SETMASK:
            task.blocked = mask
        else:
            raise Errno.EINVAL
        recalc_sigpending(task)
    if old:
        await task.mm.copy_to_user(old, before.to_bytes(8, "little"))
    return 0


@syscall("rt_sigpending")
async def sys_rt_sigpending(task: Task, out: Addr, size: Size) -> int:
    """Signals raised while blocked. man 2 sigpending."""
    if size > SIGSET_BYTES:
        raise Errno.EINVAL
    pending = (task.pending.mask | task.process.pending.mask) & task.blocked
    await task.mm.copy_to_user(out, pending.to_bytes(8, "little")[:size])
    return 0


@syscall("rt_sigreturn")
async def sys_rt_sigreturn(task: Task) -> object:
    """Return from a handler. man 2 sigreturn."""
    await sigreturn(task)
    return NO_RESULT


@syscall("rt_sigsuspend")
async def sys_rt_sigsuspend(task: Task, mask: Addr, size: Size) -> int:
    """Wait for a signal with another mask. man 2 sigsuspend."""
    _check_size(size)
    if task.restart is None:
        new = await task.mm.get_u64(mask) & ~UNBLOCKABLE
        task.saved_blocked = task.blocked
        task.blocked = new
        task.restart = True
    await block_on(restart="intr_nohand")


@syscall("pause")
async def sys_pause(task: Task) -> int:
    """Wait for a signal. man 2 pause."""
    await block_on(restart="intr_nohand")


@syscall("rt_sigtimedwait")
async def sys_rt_sigtimedwait(
    task: Task, which: Addr, info: Addr, timeout: Addr, size: Size
) -> int:
    """Wait for one of a set of signals, which are blocked. man 2 sigtimedwait."""
    _check_size(size)
    now = task.kernel.clock.monotonic_ns()
    if task.restart is None:
        wanted = await task.mm.get_u64(which) & ~UNBLOCKABLE
        deadline = None
        if timeout:
            sec, nsec = struct.unpack("<qq", await task.mm.copy_from_user(timeout, 16))
            if sec < 0 or not 0 <= nsec < 10**9:
                raise Errno.EINVAL
            deadline = now + sec * 10**9 + nsec
        task.restart = (wanted, deadline)
    wanted, deadline = task.restart
    found = task.pending.take(wanted) or task.process.pending.take(wanted)
    if found is not None:
        if info:
            await task.mm.copy_to_user(info, found.pack())
        return found.signo
    if deadline is not None and now >= deadline:
        raise Errno.EAGAIN
    await block_on(
        task.pending.wait, task.process.pending.wait, deadline_ns=deadline, restart="intr"
    )


@syscall("sigaltstack")
async def sys_sigaltstack(task: Task, new: Addr, old: Addr) -> int:
    """Set and get the alternate signal stack. man 2 sigaltstack."""
    assert task.stub is not None
    sp = task.kernel.physmem.u64[task.stub.regs + r.RSP]
    ss_sp, ss_size, ss_flags = task.altstack
    inside = on_altstack(task, sp)
    shown = SS_ONSTACK if inside else SS_DISABLE if not ss_size else ss_flags & SS_AUTODISARM
    if new:
        new_sp, new_flags, _, new_size = struct.unpack(
            "<QIIQ", await task.mm.copy_from_user(new, 24)
        )
        if inside:
            raise Errno.EPERM
        mode = new_flags & ~SS_AUTODISARM
        if mode not in (0, SS_ONSTACK, SS_DISABLE):
            raise Errno.EINVAL
        if mode == SS_DISABLE:
            task.altstack = (0, 0, SS_DISABLE)
        else:
            if new_size < MINSIGSTKSZ:
                raise Errno.ENOMEM
            task.altstack = (new_sp, new_size, new_flags & SS_AUTODISARM)
    if old:
        await task.mm.copy_to_user(old, struct.pack("<QIIQ", ss_sp, shown, 0, ss_size))
    return 0


# -- sending


def _may_kill(task: Task, process: Process, signo: int) -> bool:
    if task.cred.capable(CAP_KILL) or process is task.process:
        return True
    leader = process.leader
    if leader is None:
        return False
    if signo == SIGCONT and process.session == task.process.session:
        return True
    target = leader.cred
    return task.cred.euid in (target.uid, target.suid) or task.cred.uid in (target.uid, target.suid)


def _kill(task: Task, process: Process, info: SigInfo) -> None:
    if not 0 <= info.signo <= 64:
        raise Errno.EINVAL
    if not _may_kill(task, process, info.signo):
        raise Errno.EPERM
    if info.signo:
        send_to_process(process, info)


@syscall("kill")
def sys_kill(task: Task, pid: Pid, signo: Signal) -> int:
    """Send a signal to a process, a group, or everybody. man 2 kill."""
    kernel = task.kernel
    info = SigInfo(signo, SI_USER, pid=task.tgid, uid=task.cred.uid)
    if pid > 0:
        process = kernel.processes.get(pid)
        if process is None:
            thread = kernel.tasks.get(pid)
            if thread is None:
                raise Errno.ESRCH
            process = thread.process
        _kill(task, process, info)
        return 0
    if pid == -1:
        targets = [p for p in kernel.processes.values() if p.pid != 1 and p is not task.process]
    elif pid == -0x80000000:
        raise Errno.ESRCH
    else:
        group = -pid if pid else task.process.pgrp
        targets = [p for p in kernel.processes.values() if p.pgrp == group]
    if not targets:
        raise Errno.ESRCH
    denied = 0
    for process in targets:
        try:
            _kill(task, process, info)
        except Errno.EPERM:
            denied += 1
    if denied == len(targets):
        raise Errno.EPERM
    return 0


def _tkill(task: Task, tgid: int | None, tid: int, info: SigInfo) -> int:
    target = task.kernel.tasks.get(tid)
    if target is None or (tgid is not None and target.tgid != tgid):
        raise Errno.ESRCH
    if not 0 <= info.signo <= 64:
        raise Errno.EINVAL
    if not _may_kill(task, target.process, info.signo):
        raise Errno.EPERM
    _check_queue(target.process, info)
    if info.signo:
        send_to_task(target, info)
    return 0


@syscall("tkill")
def sys_tkill(task: Task, tid: Pid, signo: Signal) -> int:
    """Send a signal to a thread. man 2 tkill."""
    if tid <= 0:
        raise Errno.EINVAL
    return _tkill(task, None, tid, SigInfo(signo, SI_TKILL, pid=task.tgid, uid=task.cred.uid))


@syscall("tgkill")
def sys_tgkill(task: Task, tgid: Pid, tid: Pid, signo: Signal) -> int:
    """Send a signal to a thread of a process. man 2 tgkill."""
    if tid <= 0 or tgid <= 0:
        raise Errno.EINVAL
    return _tkill(task, tgid, tid, SigInfo(signo, SI_TKILL, pid=task.tgid, uid=task.cred.uid))


def _check_queue(process: Process, info: SigInfo) -> None:
    """RLIMIT_SIGPENDING: a queued real-time signal that finds no room is refused."""
    if info.signo < 32 or info.code >= 0:
        return
    limit = process.rlimits.get(RLIMIT_SIGPENDING, (1 << 63, 0))[0]
    queued = len(process.pending.queue) + sum(len(t.pending.queue) for t in process.tasks)
    if queued >= limit:
        raise Errno.EAGAIN


async def _read_info(task: Task, addr: int, signo: int) -> SigInfo:
    data = await task.mm.copy_from_user(addr, 128)
    _, errno, code = struct.unpack_from("<iii", data)
    pid, uid, value = struct.unpack_from("<iIQ", data, 16)
    return SigInfo(signo, code, pid=pid, uid=uid, value=value, errno=errno)


@syscall("rt_sigqueueinfo")
async def sys_rt_sigqueueinfo(task: Task, tgid: Pid, signo: Signal, info: Addr) -> int:
    """Send a signal with data. man 2 rt_sigqueueinfo."""
    data = await _read_info(task, info, signo)
    if (data.code >= 0 or data.code == SI_TKILL) and tgid != task.tgid:
        raise Errno.EPERM
    process = task.kernel.processes.get(tgid)
    if process is None:
        raise Errno.ESRCH
    _check_queue(process, data)
    _kill(task, process, data)
    return 0


@syscall("rt_tgsigqueueinfo")
async def sys_rt_tgsigqueueinfo(task: Task, tgid: Pid, tid: Pid, signo: Signal, info: Addr) -> int:
    """Send a signal with data to a thread. man 2 rt_tgsigqueueinfo."""
    if tid <= 0 or tgid <= 0:
        raise Errno.EINVAL
    data = await _read_info(task, info, signo)
    if (data.code >= 0 or data.code == SI_TKILL) and tgid != task.tgid:
        raise Errno.EPERM
    return _tkill(task, tgid, tid, data)
