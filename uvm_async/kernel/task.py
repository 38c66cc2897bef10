"""A task, and what tasks share.

Linux: include/linux/sched.h, include/linux/sched/signal.h.  A `Task` is one guest
thread; a `Process` is what Linux calls signal_struct: all that a thread group
has in common.  `mm`, `files`, `fs` and `sighand` are shared or copied one by one,
as the flags of clone(2) say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from uvm_async.sched.state import TaskState
from uvm_async.sched.wait import WaitQueue
from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.arch.stub import Stub
    from uvm_async.fs.fdtable import FdTable
    from uvm_async.fs.fsstruct import FsStruct
    from uvm_async.kernel.cred import Cred
    from uvm_async.kernel.kernel import Kernel
    from uvm_async.kernel.signal import PendingSignals, SigHand
    from uvm_async.mm.mm import Mm
    from uvm_async.sched.core import VCpu
    from uvm_async.sched.timers import Timer

__all__ = ["Process", "Task", "TaskState"]


class Process(Entity):
    """A thread group (Linux: struct signal_struct)."""

    def __init__(self, pid: int, parent: Process | None) -> None:
        self.pid = pid
        """The tgid."""
        self.parent = parent
        self.children: list[Process] = []
        """Living and zombie, in order of birth."""
        self.tasks: list[Task] = []
        """Live threads; the leader first while it lives."""
        self.leader: Task | None = None
        self.pgrp: int = parent.pgrp if parent else pid
        self.session: int = parent.session if parent else pid
        self.tty: Any = parent.tty if parent else None
        """Controlling terminal (tty.base.Tty) or None."""
        self.wait_exit = WaitQueue()
        """Woken when a child exits, stops or continues."""
        self.exit_code: int | None = None
        """wait status once the group is exiting (set first by whoever starts it)."""
        self.exit_signal = 17
        self.zombie = False
        self.stopped_by = 0
        """Signal that stopped the group, or 0."""
        self.stop_pending_report = False
        self.continued_pending_report = False
        self.pending: PendingSignals
        self.rlimits: dict[int, tuple[int, int]] = dict(parent.rlimits) if parent else {}
        self.vfork_done: WaitQueue | None = None
        self.start_ns = 0
        self.utime_ns = 0
        self.stime_ns = 0
        self.cutime_ns = 0
        self.cstime_ns = 0
        self.max_rss_pages = 0
        self.child_max_rss_pages = 0
        self.itimers: dict[int, Any] = {}
        self.posix_timers: dict[int, Any] = {}
        self.child_subreaper = False
        self.dumpable = 1
        self.personality = 0
        self.oom_score_adj = 0
        self.did_exec = False


class Task(Entity):
    """One guest thread (Linux: struct task_struct)."""

    TRANSIENT: ClassVar[frozenset[str]] = frozenset({"stub", "coroutine", "job", "resume_with"})

    def __init__(self, kernel: Kernel, pid: int, process: Process) -> None:
        self.kernel = kernel
        self.pid = pid
        """The guest's thread id."""
        self.process = process
        self.comm = b""
        self.state = TaskState.READY
        self.mm: Mm
        self.files: FdTable
        self.fs: FsStruct
        self.cred: Cred
        self.sighand: SigHand
        self.pending: PendingSignals
        self.blocked = 0
        """Signal mask: bit n-1 is signal n."""
        self.saved_blocked: int | None = None
        """Mask to put back when the call ends (sigsuspend, ppoll ...)."""
        self.altstack: tuple[int, int, int] = (0, 0, 2)
        """(ss_sp, ss_size, ss_flags) of sigaltstack(2); 2 is SS_DISABLE."""
        self.restart: Any = None
        """What a blocked call needs to run again; None when no call is in progress."""
        self.clear_child_tid = 0
        self.robust_list = 0
        self.pdeath_signal = 0
        self.exit_code = 0
        self.exiting = False
        """This thread alone ends: exit(2), or a sibling's exec."""
        self.stub: Stub | None = None
        self.coroutine: Any = None
        self.job: Any = None
        self.resume_with: Any = None
        """How the coroutine goes on: (value, exception)."""
        self.phase = "user"
        """What the kernel does for it: "trap" (not handled yet, or to be run again), "syscall",
        "fault", "signals", "exit"; "user" when nothing is left but to go on."""
        self.interrupted = ""
        """Restart kind of a call cut short by a signal (wait.Interrupted)."""
        self.notify_resume = False
        """Look at signals before going on (Linux: TIF_SIGPENDING, TIF_NOTIFY_RESUME)."""
        self.vcpu: VCpu | None = None
        """Where it runs, or ran last."""
        self.frame: bytes | None = None
        """Its registers while it has no stub (frozen)."""
        self.kicked_ns = 0
        """When it was asked to leave the guest (monotonic), 0 if it was not."""
        self.queues: tuple[WaitQueue, ...] = ()
        """Wait queues it stands in."""
        self.timer: Timer | None = None
        """Ends its sleep."""
        self.nice = 0
        self.sched_policy = 0
        """SCHED_OTHER, SCHED_BATCH or SCHED_IDLE, possibly with SCHED_RESET_ON_FORK."""
        self.cpus_allowed = -1
        """Mask of vCPUs it may run on."""
        self.vruntime_ns = 0
        self.sched: Any = None
        """The policy's own record of it."""
        self.start_ns = 0
        self.utime_ns = 0
        self.stime_ns = 0
        self.nvcsw = 0
        self.nivcsw = 0
        self.min_flt = 0
        self.maj_flt = 0

    @property
    def tgid(self) -> int:
        return self.process.pid

    def abandon_restart(self) -> None:
        """The blocked call will not run again: it leaves the lines it stands in."""
        restart, self.restart = self.restart, None
        abandon = getattr(restart, "abandon", None)
        if abandon is not None:
            abandon()

    def wake(self) -> None:
        """Whatever it waits for has happened."""
        self.kernel.sched.wake(self)

    def timer_expired(self, timer: Timer) -> None:
        """Its sleep is over."""
        self.kernel.sched.wake(self)

    def __repr__(self) -> str:
        return f"<Task {self.pid} {self.comm.decode(errors='replace')!r} {self.state.name}>"
