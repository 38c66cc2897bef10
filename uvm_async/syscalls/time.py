"""Time: man 2 clock_gettime, nanosleep, setitimer, alarm, timer_create, times.

POSIX timers and interval timers expire by `kernel/itimer.py`.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.kernel.itimer import (
    IntervalTimer,
    PosixTimer,
    cpu_time_ns,
    thread_cpu_time_ns,
)
from uvm_async.kernel.signal import SIGALRM
from uvm_async.sched.wait import block_on
from uvm_async.syscalls.table import Addr, Flags, Int, UInt, syscall

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

(REALTIME, MONOTONIC, PROCESS_CPUTIME, THREAD_CPUTIME, MONOTONIC_RAW, REALTIME_COARSE,
 MONOTONIC_COARSE, BOOTTIME, REALTIME_ALARM, BOOTTIME_ALARM, _SGI, TAI) = range(12)  # fmt: skip
TIMER_ABSTIME: Final = 1
REAL_CLOCKS: Final = (REALTIME, REALTIME_COARSE, REALTIME_ALARM, TAI)
MONO_CLOCKS: Final = (MONOTONIC, MONOTONIC_RAW, MONOTONIC_COARSE, BOOTTIME, BOOTTIME_ALARM)
TIMESPEC: Final = struct.Struct("<qq")
CAP_SYS_TIME: Final = 25


def clock_ns(task: Task, clock: int) -> int:
    """The time of a clock id. Raises EINVAL."""
    kernel = task.kernel
    if clock in REAL_CLOCKS:
        return kernel.clock.realtime_ns()
    if clock in MONO_CLOCKS:
        return kernel.clock.monotonic_ns()
    if clock == PROCESS_CPUTIME:
        return cpu_time_ns(task.process)
    if clock == THREAD_CPUTIME:
        return thread_cpu_time_ns(task)
    if clock < 0 and clock & 7 in (2, 6):
        pid = ~(clock >> 3)
        target = kernel.tasks.get(pid) if pid else task
        if target is None:
            raise Errno.EINVAL
        return thread_cpu_time_ns(target) if clock & 4 else cpu_time_ns(target.process)
    raise Errno.EINVAL


def timespec(value_ns: int) -> bytes:
    """struct timespec."""
    return TIMESPEC.pack(*divmod(value_ns, 10**9))


async def read_timespec(task: Task, addr: int) -> int:
    """A valid timespec, in ns. Raises EFAULT, EINVAL."""
    sec, nsec = TIMESPEC.unpack(await task.mm.copy_from_user(addr, 16))
    if sec < 0 or not 0 <= nsec < 10**9:
        raise Errno.EINVAL
    return int(sec) * 10**9 + int(nsec)


@syscall("clock_gettime")
async def sys_clock_gettime(task: Task, clock: Int, out: Addr) -> int:
    """man 2 clock_gettime."""
    await task.mm.copy_to_user(out, timespec(clock_ns(task, clock)))
    return 0


@syscall("clock_getres")
async def sys_clock_getres(task: Task, clock: Int, out: Addr) -> int:
    """man 2 clock_getres."""
    clock_ns(task, clock)
    resolution = 4_000_000 if clock in (REALTIME_COARSE, MONOTONIC_COARSE) else 1
    if out:
        await task.mm.copy_to_user(out, timespec(resolution))
    return 0


@syscall("clock_settime", missing="the guest's clocks cannot be set")
async def sys_clock_settime(task: Task, clock: Int, value: Addr) -> int:
    """man 2 clock_settime."""
    if clock != REALTIME:
        raise Errno.EINVAL
    await read_timespec(task, value)
    raise Errno.EPERM


@syscall("gettimeofday")
async def sys_gettimeofday(task: Task, tv: Addr, tz: Addr) -> int:
    """man 2 gettimeofday."""
    if tv:
        sec, nsec = divmod(task.kernel.clock.realtime_ns(), 10**9)
        await task.mm.copy_to_user(tv, TIMESPEC.pack(sec, nsec // 1000))
    if tz:
        await task.mm.copy_to_user(tz, bytes(8))
    return 0


@syscall("time")
async def sys_time(task: Task, out: Addr) -> int:
    """man 2 time."""
    now = task.kernel.clock.realtime_ns() // 10**9
    if out:
        await task.mm.copy_to_user(out, now.to_bytes(8, "little"))
    return now


@syscall("times")
async def sys_times(task: Task, out: Addr) -> int:
    """man 2 times."""
    p = task.process
    if out:
        utime = p.utime_ns + sum(t.utime_ns for t in p.tasks)
        stime = p.stime_ns + sum(t.stime_ns for t in p.tasks)
        ticks = (v // 10_000_000 for v in (utime, stime, p.cutime_ns, p.cstime_ns))
        await task.mm.copy_to_user(out, struct.pack("<qqqq", *ticks))
    return task.kernel.clock.monotonic_ns() // 10_000_000 & 0x7FFFFFFFFFFFFFFF


async def _sleep(task: Task, deadline_ns: int, remaining: int, *, absolute: bool) -> int:
    """Sleep until `deadline_ns`; `remaining` (0: none) gets what was left at a signal."""
    if task.kernel.clock.monotonic_ns() >= deadline_ns:
        return 0
    from uvm_async.sched.wait import Interrupted

    try:
        await block_on(deadline_ns=deadline_ns, restart="nohand" if absolute else "block")
    except Interrupted:
        if remaining and not absolute:
            left = max(0, deadline_ns - task.kernel.clock.monotonic_ns())
            await task.mm.copy_to_user(remaining, timespec(left))
        raise


@syscall("nanosleep")
async def sys_nanosleep(task: Task, request: Addr, remaining: Addr) -> int:
    """man 2 nanosleep."""
    if task.restart is None:
        duration = await read_timespec(task, request)
        task.restart = task.kernel.clock.monotonic_ns() + duration
    return await _sleep(task, task.restart, remaining, absolute=False)


@syscall("clock_nanosleep")
async def sys_clock_nanosleep(
    task: Task, clock: Int, flags: Flags, request: Addr, remaining: Addr
) -> int:
    """man 2 clock_nanosleep."""
    absolute = bool(flags & TIMER_ABSTIME)
    if task.restart is None:
        if clock == THREAD_CPUTIME:
            raise Errno.EINVAL
        now = clock_ns(task, clock)
        if clock in (REALTIME_COARSE, MONOTONIC_COARSE, MONOTONIC_RAW):
            raise Errno.EOPNOTSUPP
        value = await read_timespec(task, request)
        task.restart = task.kernel.clock.monotonic_ns() + (value - now if absolute else value)
    return await _sleep(task, task.restart, remaining, absolute=absolute)


# -- interval timers


def _timeval(value_ns: int) -> tuple[int, int]:
    return value_ns // 10**9, value_ns % 10**9 // 1000


async def _read_itimerval(task: Task, addr: int) -> tuple[int, int]:
    words = struct.unpack("<4q", await task.mm.copy_from_user(addr, 32))
    for usec in (words[1], words[3]):
        if not 0 <= usec < 10**6:
            raise Errno.EINVAL
    if words[0] < 0 or words[2] < 0:
        raise Errno.EINVAL
    return words[2] * 10**9 + words[3] * 1000, words[0] * 10**9 + words[1] * 1000


def _itimer(task: Task, which: int) -> IntervalTimer:
    if which not in (0, 1, 2):
        raise Errno.EINVAL
    timer = task.process.itimers.get(which)
    if timer is None:
        signo = (SIGALRM, 26, 27)[which]
        timer = task.process.itimers[which] = IntervalTimer(task.kernel, task.process, signo, which)
    return timer


@syscall("getitimer")
async def sys_getitimer(task: Task, which: Int, out: Addr) -> int:
    """man 2 getitimer."""
    timer = _itimer(task, which)
    data = struct.pack("<4q", *_timeval(timer.interval_ns), *_timeval(timer.remaining_ns()))
    await task.mm.copy_to_user(out, data)
    return 0


@syscall("setitimer")
async def sys_setitimer(task: Task, which: Int, new: Addr, old: Addr) -> int:
    """man 2 setitimer."""
    value, interval = await _read_itimerval(task, new) if new else (0, 0)
    timer = _itimer(task, which)
    before = struct.pack("<4q", *_timeval(timer.interval_ns), *_timeval(timer.remaining_ns()))
    timer.set(value, interval)
    if old:
        await task.mm.copy_to_user(old, before)
    return 0


@syscall("alarm")
def sys_alarm(task: Task, seconds: UInt) -> int:
    """man 2 alarm."""
    timer = _itimer(task, 0)
    left = timer.remaining_ns()
    timer.set(seconds * 10**9, 0)
    return max(1, (left + 5 * 10**8) // 10**9) if left else 0


# -- POSIX timers


@syscall("timer_create", missing="CPU-time clocks")
async def sys_timer_create(task: Task, clock: Int, event: Addr, out: Addr) -> int:
    """man 2 timer_create."""
    clock_ns(task, clock)
    value, signo, notify, tid = 0, SIGALRM, 0, 0
    if event:
        value, signo, notify, tid = struct.unpack("<Qiii", await task.mm.copy_from_user(event, 20))
    if notify not in (0, 1, 4) or (notify != 1 and not 1 <= signo <= 64):
        raise Errno.EINVAL
    target = None
    if notify == 4:
        target = task.kernel.tasks.get(tid)
        if target is None or target.process is not task.process:
            raise Errno.EINVAL
    timers = task.process.posix_timers
    ident = next(i for i in range(len(timers) + 1) if i not in timers)
    timer = PosixTimer(task.kernel, task.process, ident, clock, signo if notify != 1 else 0)
    timer.value = value if event else ident
    timer.target = target
    timers[ident] = timer
    try:
        await task.mm.copy_to_user(out, ident.to_bytes(4, "little"))
    except Errno:
        del timers[ident]
        raise
    return 0


def _posix_timer(task: Task, ident: int) -> PosixTimer:
    timer: PosixTimer | None = task.process.posix_timers.get(ident)
    if timer is None:
        raise Errno.EINVAL
    return timer


@syscall("timer_settime")
async def sys_timer_settime(task: Task, ident: Int, flags: Flags, new: Addr, old: Addr) -> int:
    """man 2 timer_settime."""
    if not new:
        raise Errno.EINVAL
    interval = await read_timespec(task, new)
    value = await read_timespec(task, new + 16)
    timer = _posix_timer(task, ident)
    before = timespec(timer.interval_ns) + timespec(timer.remaining_ns())
    if value and flags & TIMER_ABSTIME:
        value = max(1, value - clock_ns(task, timer.clock))
    timer.set(value, interval)
    if old:
        await task.mm.copy_to_user(old, before)
    return 0


@syscall("timer_gettime")
async def sys_timer_gettime(task: Task, ident: Int, out: Addr) -> int:
    """man 2 timer_gettime."""
    timer = _posix_timer(task, ident)
    await task.mm.copy_to_user(out, timespec(timer.interval_ns) + timespec(timer.remaining_ns()))
    return 0


@syscall("timer_getoverrun")
def sys_timer_getoverrun(task: Task, ident: Int) -> int:
    """man 2 timer_getoverrun."""
    return _posix_timer(task, ident).overrun


@syscall("timer_delete")
def sys_timer_delete(task: Task, ident: Int) -> int:
    """man 2 timer_delete."""
    _posix_timer(task, ident).cancel()
    del task.process.posix_timers[ident]
    return 0
