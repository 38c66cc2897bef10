"""Descriptors for signals, timers and processes: signalfd, timerfd, pidfd.

Linux: fs/signalfd.c, fs/timerfd.c, kernel/pid.c, kernel/signal.c.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.fs.fdtable import fd_install, nofile_limit
from uvm_async.fs.inode import File
from uvm_async.fs.lifetime import held_fd
from uvm_async.fs.pidfd import PIDFD_THREAD, PidFile, pidfd_file
from uvm_async.fs.signalfd import SignalFile
from uvm_async.fs.timerfd import TimerFile
from uvm_async.kernel.signal import (
    SI_TKILL,
    SI_USER,
    UNBLOCKABLE,
    SigInfo,
    send_to_process,
    send_to_task,
)
from uvm_async.syscalls.signals import _may_kill, _read_info
from uvm_async.syscalls.table import Addr, Fd, Flags, Int, Pid, Signal, Size, UInt, syscall
from uvm_async.syscalls.time import BOOTTIME, BOOTTIME_ALARM, MONOTONIC, REALTIME, REALTIME_ALARM

if TYPE_CHECKING:
    from uvm_async.kernel.task import Process, Task

__all__: list[str] = []

O_NONBLOCK, O_CLOEXEC = 0o4000, 0o2000000
SIGSET_BYTES: Final = 8
ITIMERSPEC: Final = Struct("<4q")
"""it_interval, it_value: seconds and nanoseconds of each."""
SECOND_NS: Final = 10**9
TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET = 1, 2
CAP_SYS_PTRACE, CAP_WAKE_ALARM = 19, 35
PIDFD_SIGNAL_THREAD, PIDFD_SIGNAL_THREAD_GROUP, PIDFD_SIGNAL_PROCESS_GROUP = 1, 2, 4


def _install(task: Task, file: File, flags: int) -> int:
    return fd_install(task, file, cloexec=bool(flags & O_CLOEXEC))


# -- signalfd


@syscall("signalfd")
async def sys_signalfd(task: Task, ufd: Fd, user_mask: Addr, sizemask: Size) -> int:
    """A descriptor from which signals are read. man 2 signalfd."""
    return await _signalfd(task, ufd, user_mask, sizemask, 0)


@syscall("signalfd4")
async def sys_signalfd4(task: Task, ufd: Fd, user_mask: Addr, sizemask: Size, flags: Flags) -> int:
    """signalfd with flags. man 2 signalfd."""
    return await _signalfd(task, ufd, user_mask, sizemask, flags)


async def _signalfd(task: Task, ufd: int, user_mask: int, sizemask: int, flags: int) -> int:
    if sizemask != SIGSET_BYTES:
        raise Errno.EINVAL
    mask = await task.mm.get_u64(user_mask) & ~UNBLOCKABLE
    if flags & ~(O_NONBLOCK | O_CLOEXEC):
        raise Errno.EINVAL
    if ufd != -1:
        file = task.files.get(ufd)
        if not isinstance(file, SignalFile):
            raise Errno.EINVAL
        file.set_mask(mask)
        return ufd
    task.files.check_room(nofile_limit(task))
    return _install(task, SignalFile(task, mask, flags & O_NONBLOCK), flags)


# -- timerfd


@syscall("timerfd_create", missing="Changes of the real-time clock are not seen.")
def sys_timerfd_create(task: Task, clockid: Int, flags: Flags) -> int:
    """A timer that is read. man 2 timerfd_create."""
    alarm = clockid in (REALTIME_ALARM, BOOTTIME_ALARM)
    if flags & ~(O_NONBLOCK | O_CLOEXEC) or not (
        alarm or clockid in (MONOTONIC, REALTIME, BOOTTIME)
    ):
        raise Errno.EINVAL
    if alarm and not task.cred.capable(CAP_WAKE_ALARM):
        raise Errno.EPERM
    task.files.check_room(nofile_limit(task))
    realtime = clockid in (REALTIME, REALTIME_ALARM)
    file = TimerFile(task.kernel, flags & O_NONBLOCK, realtime=realtime)
    return _install(task, file, flags)


def _timer_file(file: File) -> TimerFile:
    if not isinstance(file, TimerFile):
        raise Errno.EINVAL
    return file


def _pack_itimerspec(value_ns: int, interval_ns: int) -> bytes:
    return ITIMERSPEC.pack(*divmod(interval_ns, SECOND_NS), *divmod(value_ns, SECOND_NS))


@syscall("timerfd_settime", missing="TFD_TIMER_CANCEL_ON_SET: nothing sets the clock.")
async def sys_timerfd_settime(task: Task, ufd: Fd, flags: Flags, utmr: Addr, otmr: Addr) -> int:
    """Arm or disarm a timerfd. man 2 timerfd_settime."""
    raw = await task.mm.copy_from_user(utmr, ITIMERSPEC.size)
    interval_s, interval_rest, value_s, value_rest = ITIMERSPEC.unpack(raw)
    if flags & ~(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET):
        raise Errno.EINVAL
    for seconds, rest in ((value_s, value_rest), (interval_s, interval_rest)):
        if seconds < 0 or not 0 <= rest < SECOND_NS:
            raise Errno.EINVAL
    file = _timer_file(task.files.get(ufd))
    before = file.gettime()
    file.settime(
        value_s * SECOND_NS + value_rest,
        interval_s * SECOND_NS + interval_rest,
        absolute=bool(flags & TFD_TIMER_ABSTIME),
    )
    if otmr:
        await task.mm.copy_to_user(otmr, _pack_itimerspec(*before))
    return 0


@syscall("timerfd_gettime")
async def sys_timerfd_gettime(task: Task, ufd: Fd, otmr: Addr) -> int:
    """What is left of a timerfd. man 2 timerfd_gettime."""
    file = _timer_file(task.files.get(ufd))
    await task.mm.copy_to_user(otmr, _pack_itimerspec(*file.gettime()))
    return 0


# -- pidfd


@syscall("pidfd_open")
def sys_pidfd_open(task: Task, pid: Pid, flags: UInt) -> int:
    """A descriptor that stands for a process. man 2 pidfd_open."""
    if flags & ~(O_NONBLOCK | PIDFD_THREAD) or pid <= 0:
        raise Errno.EINVAL
    kernel = task.kernel
    target = kernel.tasks.get(pid)
    if target is None:
        raise Errno.ESRCH
    thread = target if flags & PIDFD_THREAD else None
    if thread is None and pid not in kernel.processes:
        raise Errno.ENOENT
    task.files.check_room(nofile_limit(task))
    file = PidFile(kernel, target.process, thread, flags & O_NONBLOCK)
    return fd_install(task, file, cloexec=True)


@syscall("pidfd_send_signal")
async def sys_pidfd_send_signal(
    task: Task, pidfd: Fd, signo: Signal, info: Addr, flags: UInt
) -> int:
    """Signal the process (or thread, or group) that a pidfd stands for. man 2 pidfd_send_signal."""
    scopes = PIDFD_SIGNAL_THREAD | PIDFD_SIGNAL_THREAD_GROUP | PIDFD_SIGNAL_PROCESS_GROUP
    if flags & ~scopes or flags & (flags - 1):
        raise Errno.EINVAL
    async with held_fd(task, pidfd) as held:
        file = pidfd_file(held)
        to_thread = flags == PIDFD_SIGNAL_THREAD or (not flags and file.thread is not None)
        if info:
            data = await _read_info(task, info, signo)
            number = int.from_bytes(await task.mm.copy_from_user(info, 4), "little")
            if number != signo & 0xFFFFFFFF:
                raise Errno.EINVAL
            if (data.code >= 0 or data.code == SI_TKILL) and file.process is not task.process:
                raise Errno.EPERM
        else:
            code = SI_TKILL if to_thread else SI_USER
            data = SigInfo(signo, code, pid=task.tgid, uid=task.cred.uid)
        process = file.target()
        if not 0 <= signo <= 64:
            raise Errno.EINVAL
        _send(task, file, process, data, flags, to_thread=to_thread)
    return 0


def _send(
    task: Task, file: PidFile, process: Process, info: SigInfo, flags: int, *, to_thread: bool
) -> None:
    """Raises EPERM."""
    if flags == PIDFD_SIGNAL_PROCESS_GROUP:
        members = task.kernel.pgrp_members(process.pgrp)
        allowed = [member for member in members if _may_kill(task, member, info.signo)]
        if not allowed:
            raise Errno.EPERM if members else Errno.ESRCH
        for member in allowed:
            if info.signo:
                send_to_process(member, info)
        return
    if not _may_kill(task, process, info.signo):
        raise Errno.EPERM
    if not info.signo:
        return
    thread = file.thread or process.leader
    if to_thread and thread is not None:
        send_to_task(thread, info)
    else:
        send_to_process(process, info)


@syscall("pidfd_getfd")
async def sys_pidfd_getfd(task: Task, pidfd: Fd, fd: Fd, flags: UInt) -> int:
    """A duplicate of another process's descriptor. man 2 pidfd_getfd."""
    if flags:
        raise Errno.EINVAL
    process = pidfd_file(task.files.get(pidfd)).target()
    if not process.tasks:
        raise Errno.ESRCH
    target = process.tasks[0]
    theirs, mine = target.cred, task.cred
    same = all(uid == mine.uid for uid in (theirs.uid, theirs.euid, theirs.suid)) and all(
        gid == mine.gid for gid in (theirs.gid, theirs.egid, theirs.sgid)
    )
    if process is not task.process and not same and not mine.capable(CAP_SYS_PTRACE):
        raise Errno.EPERM
    file = target.files.get_raw(fd)
    new = fd_install(task, file, cloexec=True)
    file.refs += 1
    return new
