"""What a task can be doing, as the scheduler and the rest of the kernel see it.

Linux: the state bits of include/linux/sched.h.
"""

from __future__ import annotations

import enum

__all__ = ["TaskState"]


class TaskState(enum.IntEnum):
    """What a task is doing."""

    READY = 0  # wants a vCPU: to return to the guest, or to run (again) in the kernel
    RUNNING = 1  # executes guest code on a vCPU
    KERNEL = 2  # its system call or fault is being executed right now
    BLOCKED = 3  # interruptible sleep: plain data, no coroutine
    WAITING = 4  # uninterruptible sleep: a coroutine is kept
    STOPPED = 5  # by a stop signal
    ZOMBIE = 6  # exited, not yet waited for
    DEAD = 7
