"""How tasks end, and how parents learn of it.

Linux: kernel/exit.c.

A thread group ends when `process.exit_code` is set (a wait status): each of its
tasks sees it on its way back to the guest and exits.  The process becomes a
zombie when its last task has gone, and vanishes when its parent has waited for
it (or ignores SIGCHLD).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvm_async.kernel.signal import (
    CLD_DUMPED,
    CLD_EXITED,
    CLD_KILLED,
    SA_NOCLDWAIT,
    SIG_IGN,
    SIGCHLD,
    SIGCONT,
    SIGHUP,
    SigInfo,
    send_to_process,
)
from uvm_async.kernel.task import TaskState

if TYPE_CHECKING:
    from uvm_async.kernel.kernel import Kernel
    from uvm_async.kernel.task import Process, Task

__all__ = ["do_exit", "group_exit", "release_process"]


def group_exit(task: Task, status: int) -> None:
    """End the whole thread group of `task` with a wait status (the first one counts)."""
    process = task.process
    if process.exit_code is None:
        if task.kernel.on_group_exit is not None:
            task.kernel.on_group_exit(task, status)
        process.exit_code = status
    for other in process.tasks:
        if other is not task:
            other.notify_resume = True
            task.kernel.sched.signal_wake(other)
    task.notify_resume = True


async def do_exit(task: Task) -> None:
    """`task` gives back all it holds; the stub is the scheduler's to take."""
    from uvm_async.kernel.futex import exit_robust_list, futex_wake_cleared

    process = task.process
    kernel = task.kernel
    mm = task.mm
    if process.exit_code is not None:
        task.exit_code = process.exit_code
    task.abandon_restart()
    await exit_robust_list(task)
    if task.clear_child_tid:
        if len(mm.tasks) > 1:
            await futex_wake_cleared(task)
        task.clear_child_tid = 0
    vfork_done(process)
    process.utime_ns += task.utime_ns
    process.stime_ns += task.stime_ns
    process.max_rss_pages = max(process.max_rss_pages, mm.rss_pages())
    await mm.put(task)
    await task.files.put(task)
    await task.fs.put()
    task.sighand.users -= 1
    process.tasks.remove(task)
    if process.leader is not task:
        kernel.tasks.pop(task.pid, None)
    for child in process.children:
        if child.leader is not None and child.leader.pdeath_signal and not process.tasks:
            send_to_process(child, SigInfo(child.leader.pdeath_signal, 0, pid=process.pid))
    if not process.tasks:
        if process.exit_code is None:
            process.exit_code = process.leader.exit_code if process.leader else task.exit_code
        _group_gone(process, task)
    elif len(process.tasks) == 1:
        kernel.sched.poke_sigwait(process.tasks[0])
    process.wait_exit.wake_up()


def vfork_done(process: Process) -> None:
    """A vforked child has its own memory now (or is gone): its parent goes on."""
    if process.vfork_done is not None:
        queue, process.vfork_done = process.vfork_done, None
        queue.wake_up()


def _group_gone(process: Process, last: Task) -> None:
    kernel = last.kernel
    process.zombie = True
    kernel.stopped.pop(process, None)
    for timer in process.itimers.values():
        if timer is not None:
            timer.cancel()
    kernel.process_gone(process)
    _reparent(process, last)
    if process.pid == process.session and process.tty is not None:
        kernel.hangup_session(process)
    parent = process.parent
    status = process.exit_code or 0
    if parent is None:
        kernel.init_exited(process, status)
        return
    _check_orphaned(kernel, process)
    _notify_parent(process, last, parent, status)


def _notify_parent(process: Process, last: Task, parent: Process, status: int) -> None:
    kernel = last.kernel
    if parent is kernel.init:  # the kernel itself: it asks nothing and keeps no zombies
        release_process(kernel, process)
        return
    if process.exit_signal and parent.tasks:
        signo = status & 0x7F
        info = SigInfo(
            process.exit_signal,
            (CLD_DUMPED if status & 0x80 else CLD_KILLED) if signo else CLD_EXITED,
            pid=process.pid,
            uid=last.cred.uid,
            status=signo or status >> 8 & 0xFF,
            utime=process.utime_ns // 10_000_000,
            stime=process.stime_ns // 10_000_000,
        )
        action = parent.tasks[0].sighand.get(SIGCHLD)
        autoreap = process.exit_signal == SIGCHLD and (
            action.handler == SIG_IGN or action.flags & SA_NOCLDWAIT
        )
        if process.exit_signal != SIGCHLD or action.handler != SIG_IGN:
            send_to_process(parent, info)
        if autoreap:
            release_process(kernel, process)
    parent.wait_exit.wake_up()


def _reparent(process: Process, last: Task) -> None:
    kernel = last.kernel
    if not process.children:
        return
    reaper = process.parent
    while reaper is not None and not (reaper.child_subreaper and reaper.tasks):
        reaper = reaper.parent
    if reaper is None:
        reaper = kernel.init if kernel.init is not process else None
    children, process.children = process.children, []
    for child in children:
        child.parent = reaper
        if reaper is None:
            continue
        reaper.children.append(child)
        child.exit_signal = SIGCHLD
        if child.zombie and child.leader is not None:
            _notify_parent(child, child.leader, reaper, child.exit_code or 0)
    if reaper is not None:
        reaper.wait_exit.wake_up()


def _check_orphaned(kernel: Kernel, process: Process) -> None:
    """A process group that has become orphaned with stopped members gets SIGHUP and SIGCONT."""
    if not kernel.stopped:
        return
    groups = {process.pgrp: None}
    for child in kernel.children_elsewhere(process):
        groups[child.pgrp] = None
    for pgrp in groups:
        members = kernel.pgrp_members(pgrp)
        if any(m.stopped_by for m in members) and kernel.orphaned_pgrp(pgrp):
            for member in members:
                send_to_process(member, SigInfo(SIGHUP))
                send_to_process(member, SigInfo(SIGCONT))


def release_process(kernel: Kernel, process: Process) -> None:
    """Nobody will wait for it any more: the pid is free."""
    parent = process.parent
    if parent is not None:
        if process in parent.children:
            parent.children.remove(process)
        parent.cutime_ns += process.utime_ns + process.cutime_ns
        parent.cstime_ns += process.stime_ns + process.cstime_ns
        parent.child_max_rss_pages = max(
            parent.child_max_rss_pages, process.max_rss_pages, process.child_max_rss_pages
        )
    if process.leader is not None:
        process.leader.state = TaskState.DEAD
    kernel.tasks.pop(process.pid, None)
    kernel.processes.pop(process.pid, None)
