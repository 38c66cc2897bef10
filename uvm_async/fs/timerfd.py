"""timerfd: a timer that is read.

Linux: fs/timerfd.c.  A periodic timer is armed for one expiry only; how many there
were since is counted, and the next armed, when somebody reads or asks.

Invariant: `timer` is armed unless the timer is disarmed or `expired`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.fs.anon import AnonFile, anon_path
from uvm_async.sched.wait import WaitQueue, block_on

if TYPE_CHECKING:
    from uvm_async.kernel.kernel import Kernel
    from uvm_async.kernel.task import Task
    from uvm_async.mm.iov import IovIter
    from uvm_async.sched.timers import Timer

__all__ = ["TimerFile"]

O_RDWR, O_NONBLOCK = 2, 0o4000
POLLIN: Final = 0x1
FOREVER_NS: Final = 1 << 62


class TimerFile(AnonFile):
    """An open timerfd; times are in nanoseconds, on the monotonic clock."""

    def __init__(self, kernel: Kernel, flags: int, *, realtime: bool) -> None:
        super().__init__(anon_path(kernel, b"[timerfd]"), O_RDWR | flags)
        self.kernel = kernel
        self.realtime = realtime
        """Are absolute times on the real-time clock?"""
        self.interval_ns = 0
        self.expires_ns = 0
        """Of the expiry that is armed, or has been; 0: disarmed."""
        self.expired = False
        self.ticks = 0
        """Expiries that nobody has read."""
        self.timer: Timer | None = None
        self.wait = WaitQueue()

    def settime(self, value_ns: int, interval_ns: int, *, absolute: bool) -> None:
        """Arm, or disarm with 0."""
        self._cancel()
        self.expired, self.ticks = False, 0
        self.interval_ns, self.expires_ns = interval_ns, 0
        if not value_ns:
            return
        now = self.kernel.clock.monotonic_ns()
        if not absolute:
            value_ns += now
        elif self.realtime:
            value_ns += now - self.kernel.clock.realtime_ns()
        self.expires_ns = min(max(value_ns, 1), FOREVER_NS)
        self._arm()

    def gettime(self) -> tuple[int, int]:
        """(until the next expiry, interval); 0 until: disarmed."""
        if self.expired and self.interval_ns:
            self.ticks += self._forward() - 1
        if self.timer is None:
            return 0, self.interval_ns
        left = self.expires_ns - self.kernel.clock.monotonic_ns()
        return max(left, 1), self.interval_ns

    def _forward(self) -> int:
        """Arm for the next expiry that is still to come; answers how many lie before it."""
        late = self.kernel.clock.monotonic_ns() - self.expires_ns
        passed = max(late // self.interval_ns + 1, 1)
        self.expires_ns += passed * self.interval_ns
        self.expired = False
        self._arm()
        return passed

    def _arm(self) -> None:
        if self.expires_ns <= self.kernel.clock.monotonic_ns():
            self._expire()
            return
        self.timer = self.kernel.timers.arm(self.expires_ns, self, "timerfd")
        self.kernel.sched.poke()

    def _cancel(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def timer_expired(self, timer: Timer) -> None:
        """Linux: timerfd_triggered."""
        self.timer = None
        self._expire()

    def _expire(self) -> None:
        self.expired = True
        self.ticks += 1
        self.wait.wake_up()

    async def read_iter(self, task: Task, it: IovIter, pos: int | None = None) -> int:
        """Expiries since the last read. Raises EINVAL (less than 8 bytes), EAGAIN."""
        if pos is not None:
            raise Errno.ESPIPE
        if it.count < 8:
            raise Errno.EINVAL
        if not self.ticks:
            if self.flags & O_NONBLOCK:
                raise Errno.EAGAIN
            await block_on(self.wait)
        if self.expired and self.interval_ns:
            self.ticks += self._forward() - 1
        self.expired = False
        ticks, self.ticks = self.ticks, 0
        await it.copy_to(ticks.to_bytes(8, "little"))
        return 8

    def poll(self, task: Task) -> int:
        return POLLIN if self.ticks else 0

    def poll_queues(self) -> Iterable[WaitQueue]:
        return (self.wait,)

    async def release(self) -> None:
        self._cancel()
