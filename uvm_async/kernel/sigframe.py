"""Delivering signals: the guest's stack, and back.

Linux: kernel/signal.c (get_signal), arch/x86/kernel/signal.c, signal_64.c.

Called on the way back to the guest.  At most one handler frame is set up per
call of `deliver`; the loop ends when nothing deliverable is left, as in Linux,
where further frames stack up.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from uvm_async.arch import registers as r
from uvm_async.arch.regs import fp_state, set_fp_state
from uvm_async.errors import Errno
from uvm_async.kernel.exit import group_exit
from uvm_async.kernel.signal import (
    CLD_STOPPED,
    CORE_DUMPS,
    DEFAULT_ACTION,
    SA_NODEFER,
    SA_ONSTACK,
    SA_RESETHAND,
    SA_RESTART,
    SIG_DFL,
    SIG_IGN,
    SIGKILL,
    SIGSEGV,
    SIGSTOP,
    STOP_SIGNALS,
    UNBLOCKABLE,
    SigAction,
    SigInfo,
    force_signal,
    notify_parent_stopped,
    recalc_sigpending,
    sigmask,
)
from uvm_async.kernel.task import TaskState

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

__all__ = ["deliver_signals", "sigreturn"]

RED_ZONE: Final = 128
UCONTEXT_BYTES: Final = 304
SIGINFO_BYTES: Final = 128
FRAME_BYTES: Final = 8 + UCONTEXT_BYTES + SIGINFO_BYTES
EINTR: Final = 4
SS_ONSTACK: Final = 1
SS_DISABLE: Final = 2
SS_AUTODISARM: Final = 0x80000000


def on_altstack(task: Task, sp: int) -> bool:
    """Is `sp` within the alternate stack?"""
    base, size, flags = task.altstack
    if flags & SS_AUTODISARM:
        return False
    return size > 0 and base < sp <= base + size


async def deliver_signals(task: Task) -> None:
    """Act on what is pending and not blocked. May end the process or stop it (then the task's
    state is STOPPED when this returns)."""
    process = task.process
    kernel = task.kernel
    while True:
        task.notify_resume = False
        if process.exit_code is not None:
            return
        if process.stopped_by:
            _stop_here(task)
            return
        allowed = ~task.blocked
        info = task.pending.take(allowed) or process.pending.take(allowed)
        if info is None:
            break
        signo = info.signo
        if kernel.observer is not None:
            kernel.observer.signal(task, info)
        action = task.sighand.get(signo)
        if signo == SIGKILL:
            group_exit(task, SIGKILL)
            return
        if action.handler == SIG_IGN:
            continue
        if action.handler == SIG_DFL:
            if task.sighand.ignored(signo):
                continue
            if (
                process.pid == 1
                and signo != SIGSTOP
                and info.code <= 0
                and not kernel.init_killable
            ):
                continue
            if sigmask(signo) & STOP_SIGNALS:
                if signo != SIGSTOP and kernel.orphaned_pgrp(process.pgrp):
                    continue
                _group_stop(task, signo)
                _stop_here(task)
                return
            dumped = (
                0x80 if sigmask(signo) & CORE_DUMPS and process.rlimits.get(4, (0, 0))[0] else 0
            )
            group_exit(task, signo | dumped)
            return
        await _handle(task, info, action)
    if task.saved_blocked is not None and not task.interrupted:
        task.blocked = task.saved_blocked
        task.saved_blocked = None
        recalc_sigpending(task)


def _group_stop(task: Task, signo: int) -> None:
    process = task.process
    process.stopped_by = signo
    task.kernel.stopped[process] = None
    process.stop_pending_report = True
    process.continued_pending_report = False
    for other in process.tasks:
        if other is not task:
            other.notify_resume = True
            task.kernel.sched.signal_wake(other)
    notify_parent_stopped(process, CLD_STOPPED, signo)


def _stop_here(task: Task) -> None:
    task.state = TaskState.STOPPED
    task.notify_resume = True


async def _handle(task: Task, info: SigInfo, action: SigAction) -> None:
    """Set up one handler's frame, settling an interrupted call first."""
    stub = task.stub
    assert stub is not None
    u64 = task.kernel.physmem.u64
    regs = stub.regs
    if task.interrupted:
        kind = task.interrupted
        task.interrupted = ""
        if task.kernel.observer is not None:
            task.kernel.observer.call_interrupted(task, kind)
        task.abandon_restart()
        task.phase = "user"
        if kind == "sys" and action.flags & SA_RESTART:
            u64[regs + r.RIP] -= 2
        else:
            u64[regs + r.RAX] = r.MASK64 & -EINTR
    sp = u64[regs + r.RSP]
    if action.flags & SA_ONSTACK and task.altstack[1] and not on_altstack(task, sp - RED_ZONE):
        top = task.altstack[0] + task.altstack[1]
        switched = True
    else:
        top = sp - RED_ZONE
        switched = False
    fp = fp_state(task.kernel.physmem, stub)
    fp_at = (top - len(fp)) & ~63 if fp else 0
    frame = (((fp_at or top) - FRAME_BYTES) & ~15) - 8
    if on_altstack(task, sp) and not switched and frame <= task.altstack[0]:
        frame = 0  # overflows the alternate stack
    mask = task.saved_blocked if task.saved_blocked is not None else task.blocked
    task.saved_blocked = None
    ss_sp, ss_size, ss_flags = task.altstack
    shown = (
        ss_flags
        if ss_flags & SS_AUTODISARM
        else (SS_ONSTACK if on_altstack(task, sp) else ss_flags)
    )
    context = bytearray(UCONTEXT_BYTES)
    struct.pack_into(
        "<QQQIIQ", context, 0,
        (r.UC_FP_XSTATE if fp else 0) | r.UC_SIGCONTEXT_SS | r.UC_STRICT_RESTORE_SS,
        0, ss_sp, shown & 0xFFFFFFFF, 0, ss_size,
    )  # fmt: skip
    words = [u64[regs + i] for i in range(23)]
    words[r.OLDMASK] = mask
    struct.pack_into("<23Q", context, r.CONTEXT_BYTES, *(w & r.MASK64 for w in words))
    struct.pack_into("<Q", context, r.CONTEXT_BYTES + 8 * r.FPSTATE, fp_at)
    struct.pack_into("<Q", context, UCONTEXT_BYTES - 8, mask & r.MASK64)
    data = action.restorer.to_bytes(8, "little") + bytes(context) + info.pack()
    try:
        if frame <= 0:
            raise Errno.EFAULT
        if fp:
            await task.mm.copy_to_user(fp_at, fp)
        await task.mm.copy_to_user(frame, data)
    except Errno:
        if info.signo == SIGSEGV:
            task.sighand.actions[SIGSEGV] = DEFAULT_ACTION
        force_signal(task, SigInfo(SIGSEGV))
        return
    if action.flags & SA_RESETHAND:
        task.sighand.actions[info.signo] = SigAction(SIG_DFL, 0, 0, 0)
    task.blocked = (mask | action.mask) & ~UNBLOCKABLE
    if not action.flags & SA_NODEFER:
        task.blocked |= sigmask(info.signo)
    if ss_flags & SS_AUTODISARM:
        task.altstack = (0, 0, SS_DISABLE)
    u64[regs + r.RDI] = info.signo
    u64[regs + r.RSI] = frame + 8 + UCONTEXT_BYTES
    u64[regs + r.RDX] = frame + 8
    u64[regs + r.RAX] = 0
    u64[regs + r.RSP] = frame
    u64[regs + r.RIP] = action.handler
    u64[regs + r.EFLAGS] &= ~0x10500  # RF, TF, DF
    u64[regs + r.CSGSFS] = r.USER_CS_SS
    task.kernel.sched.policy.handles_signal(task)


async def sigreturn(task: Task) -> None:
    """rt_sigreturn(2): take the registers from the frame that rsp points into. A frame that cannot
    be read is a SIGSEGV."""
    stub = task.stub
    assert stub is not None
    physmem = task.kernel.physmem
    u64 = physmem.u64
    regs = stub.regs
    sp = u64[regs + r.RSP]
    try:
        context = await task.mm.copy_from_user(sp, UCONTEXT_BYTES)
        words = struct.unpack_from("<24Q", context, r.CONTEXT_BYTES)
        fp_at = words[r.FPSTATE]
        state = b""
        if fp_at:
            state = await task.mm.copy_from_user(fp_at, 512)
            magic, size = struct.unpack_from("<II", state, 464)
            if magic == 0x46505853 and 512 < size <= 16384:
                state = await task.mm.copy_from_user(fp_at, size)
    except Errno.EFAULT:
        force_signal(task, SigInfo(SIGSEGV))
        return
    for i in range(17):
        u64[regs + i] = words[i]
    flags = u64[regs + r.EFLAGS]
    u64[regs + r.EFLAGS] = (flags & ~r.EFLAGS_FIX) | (words[r.EFLAGS] & r.EFLAGS_FIX)
    u64[regs + r.CSGSFS] = r.USER_CS_SS
    set_fp_state(physmem, stub, state)
    task.blocked = int.from_bytes(context[UCONTEXT_BYTES - 8 :], "little") & ~UNBLOCKABLE
    ss_sp, ss_flags, _, ss_size = struct.unpack_from("<QIIQ", context, 16)
    if not on_altstack(task, u64[regs + r.RSP]) or ss_flags & SS_AUTODISARM:
        task.altstack = (ss_sp, ss_size, ss_flags & (SS_AUTODISARM | SS_DISABLE))
    recalc_sigpending(task)
