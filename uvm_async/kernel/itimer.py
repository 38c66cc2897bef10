"""Timers that signal: interval timers and POSIX timers.

Linux: kernel/time/itimer.c, kernel/time/posix-timers.c.  Timers of real time hang
on the machine's timer queue; ITIMER_VIRTUAL and ITIMER_PROF, which count CPU time,
are checked at each expiry of what the process could have used up at the earliest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvm_async.kernel.signal import (
    SI_KERNEL,
    SI_TIMER,
    SIGKILL,
    SIGXCPU,
    SigInfo,
    send_to_process,
    send_to_task,
)
from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.kernel.kernel import Kernel
    from uvm_async.kernel.task import Process, Task
    from uvm_async.sched.timers import Timer

CPU_LIMIT = 3
"""Beside the three of setitimer(2) in `process.itimers`."""
NO_LIMIT = 1 << 40
"""Seconds that nobody reaches: RLIM_INFINITY and its neighbours."""

__all__ = [
    "CpuLimit",
    "IntervalTimer",
    "PosixTimer",
    "arm_cpu_limit",
    "cpu_time_ns",
    "thread_cpu_time_ns",
]


def thread_cpu_time_ns(task: Task) -> int:
    """CPU time of one thread, the running stretch included."""
    vcpu = task.vcpu
    running = 0
    if vcpu is not None and vcpu.current is task:
        running = task.kernel.clock.monotonic_ns() - vcpu.since_ns
    return task.utime_ns + task.stime_ns + max(0, running)


def cpu_time_ns(process: Process) -> int:
    """CPU time of a process, its threads that have ended included."""
    return process.utime_ns + process.stime_ns + sum(thread_cpu_time_ns(t) for t in process.tasks)


class IntervalTimer(Entity):
    """setitimer(2): which is 0 (real), 1 (virtual) or 2 (prof)."""

    def __init__(self, kernel: Kernel, process: Process, signo: int, which: int) -> None:
        self.kernel = kernel
        self.process = process
        self.signo = signo
        self.which = which
        self.interval_ns = 0
        self.expires_ns = 0
        """On its own clock; 0: disarmed."""
        self.timer: Timer | None = None

    def now_ns(self) -> int:
        """Its own clock."""
        if self.which == 0:
            return self.kernel.clock.monotonic_ns()
        return cpu_time_ns(self.process)

    def remaining_ns(self) -> int:
        """Until the next expiry; 0: disarmed."""
        return max(1, self.expires_ns - self.now_ns()) if self.expires_ns else 0

    def set(self, value_ns: int, interval_ns: int) -> None:
        """Arm, or disarm with 0."""
        self.cancel()
        self.interval_ns = interval_ns
        if value_ns:
            self.expires_ns = self.now_ns() + value_ns
            self._arm()

    def cancel(self) -> None:
        """Disarm."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.expires_ns = 0

    def _arm(self) -> None:
        left = max(0, self.expires_ns - self.now_ns())
        deadline = self.kernel.clock.monotonic_ns() + left
        self.timer = self.kernel.timers.arm(deadline, self, "itimer")
        self.kernel.sched.poke()

    def timer_expired(self, timer: Timer) -> None:
        """Signal, if the time is up by its own clock."""
        self.timer = None
        if not self.expires_ns:
            return
        now = self.now_ns()
        if now < self.expires_ns:
            self._arm()
            return
        if self.interval_ns:
            missed = (now - self.expires_ns) // self.interval_ns
            self.expires_ns += (missed + 1) * self.interval_ns
            self.fire(missed)
            if self.expires_ns:
                self._arm()
        else:
            self.expires_ns = 0
            self.fire(0)

    def fire(self, missed: int) -> None:
        """Send the signal."""
        send_to_process(self.process, SigInfo(self.signo, SI_KERNEL))


class CpuLimit(IntervalTimer):
    """RLIMIT_CPU: SIGXCPU at the soft limit and each second after it, SIGKILL at the hard one."""

    def __init__(self, kernel: Kernel, process: Process) -> None:
        super().__init__(kernel, process, SIGXCPU, 2)

    def arm_limit(self) -> None:
        """Follow the limit as it stands now."""
        soft = self.process.rlimits.get(0, (NO_LIMIT, NO_LIMIT))[0]
        self.cancel()
        if soft < NO_LIMIT:
            self.interval_ns = 10**9
            self.expires_ns = max(1, soft * 10**9)
            self._arm()

    def fire(self, missed: int) -> None:
        hard = self.process.rlimits.get(0, (NO_LIMIT, NO_LIMIT))[1]
        if hard < NO_LIMIT and self.now_ns() >= hard * 10**9:
            self.cancel()
            send_to_process(self.process, SigInfo(SIGKILL))
        else:
            send_to_process(self.process, SigInfo(SIGXCPU, SI_KERNEL))


def arm_cpu_limit(kernel: Kernel, process: Process) -> None:
    """A process has a new limit of CPU time (or was born with one)."""
    timer = process.itimers.get(CPU_LIMIT)
    if timer is None:
        timer = process.itimers[CPU_LIMIT] = CpuLimit(kernel, process)
    timer.arm_limit()


class PosixTimer(IntervalTimer):
    """timer_create(2)."""

    def __init__(
        self, kernel: Kernel, process: Process, ident: int, clock: int, signo: int
    ) -> None:
        super().__init__(kernel, process, signo, 0 if clock not in (2, 3) else 2)
        self.ident = ident
        self.clock = clock
        self.value = 0
        self.target: Task | None = None
        self.overrun = 0
        self.queued: SigInfo | None = None
        """The signal sent last; while it is pending, further expiries only count."""

    def fire(self, missed: int) -> None:
        if not self.signo:
            return
        queue = self.target.pending.queue if self.target else self.process.pending.queue
        if self.queued is not None and any(info is self.queued for info in queue):
            self.overrun = min(self.overrun + 1 + missed, 0x7FFFFFFF)
            self.queued.overrun = self.overrun
            return
        self.overrun = min(missed, 0x7FFFFFFF)
        info = SigInfo(
            self.signo, SI_TIMER, value=self.value, timer_id=self.ident, overrun=self.overrun
        )
        self.queued = info
        if self.target is not None:
            send_to_task(self.target, info)
        else:
            send_to_process(self.process, info)
