"""The scheduler: which task has which virtual CPU, and what happens at a trap.

Linux: kernel/sched/core.c, kernel/entry/common.c.

A task executes guest code only while it holds a vCPU.  It keeps it through its
system calls as long as they do not sleep; the policy decides who gets one next.

Invariants:
- a task is in the policy's queue exactly while its state is READY;
- `vcpu.current` is the task that runs there, in the guest (RUNNING) or the kernel;
- nothing here is reentered: traps, timers, finished host jobs and the outside
  arrive as events of the loop, one after the other;
- with a virtual clock one task runs at a time, and a wait for the host stops the
  whole machine, so that a run is a function of its inputs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final

from uvm_async._host import lib
from uvm_async.arch.placement import Placement
from uvm_async.arch.stub import STATE, TRAP, TRAP_FAULT, TRAP_PREEMPT, TRAP_RACE
from uvm_async.sched.clock import RealClock, VirtualClock
from uvm_async.sched.state import TaskState
from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.arch.stub import Stub, StubFamily
    from uvm_async.kernel.kernel import Kernel
    from uvm_async.kernel.task import Task
    from uvm_async.sched.policies.base import Policy
    from uvm_async.sched.wait import WaitQueue

__all__ = ["Scheduler", "VCpu"]

TICK_NS: Final = 10_000_000
"""100 Hz."""
DEADLINE_NS: Final = 2_000_000_000
"""A stub that has not trapped or acknowledged so long after it was asked to is killed."""

FOLLOW_MASK: Final = 0xFF
"""Every so many traps: has the host moved the loop's thread?"""

TRAPPED: Final[int] = lib.UVM_STATE_TRAPPED
UNTIMED: Final = frozenset({TRAP_RACE, TRAP_PREEMPT})

READY = TaskState.READY
RUNNING = TaskState.RUNNING
KERNEL = TaskState.KERNEL
BLOCKED = TaskState.BLOCKED
WAITING = TaskState.WAITING
STOPPED = TaskState.STOPPED


class VCpu(Entity):
    """A virtual CPU."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.current: Task | None = None
        self.need_resched = False
        self.since_ns = 0
        """When `current` got it (monotonic)."""


class Scheduler(Entity):
    """Runs tasks on vCPUs."""

    TRANSIENT: ClassVar[frozenset[str]] = frozenset(
        {
            "family",
            "loop",
            "_active",
            "_poked",
            "_armed_ns",
            "_dirty",
            "placement",
            "_held",
            "_tick_ns",
            "_resume_stub",
            "_transport",
            "_watched_traps",
            "jobs",
        }
    )

    def __init__(self, kernel: Kernel, cpus: int, policy: Policy) -> None:
        self.kernel = kernel
        self.policy = policy
        self.vcpus = [VCpu(i) for i in range(cpus)]
        self.traps = 0
        self.switches = 0
        self.irq_depth = 0
        self.freeze_due = False
        self.stopped = False
        """Nothing is dispatched (a freeze, or the machine is going down)."""
        self.family: StubFamily
        self.loop: asyncio.AbstractEventLoop
        self._reset()

    def _reset(self) -> None:
        self._dirty = True
        """Something has changed that `schedule` must look at. A trap that is answered and goes
        on changes nothing, and is the common case."""
        self._active = False
        self._poked = False
        self._armed_ns = 0
        self._tick_ns = 0
        self._watched_traps = -1
        self._held: list[Callable[[], None]] = []
        """Interrupts that came while they were held off."""
        self.jobs: dict[Task, asyncio.Future[Any]] = {}

    def attach(self, family: StubFamily, loop: asyncio.AbstractEventLoop) -> None:
        """Stand on this hardware."""
        self.family = family
        self.loop = loop
        self._reset()
        self.placement = Placement(len(self.vcpus))
        self._resume_stub = lib.uvm_stub_resume
        self._transport = family.options.transport

    @property
    def usable(self) -> list[VCpu]:
        """vCPUs that may hold a task at the same time: one, under a virtual clock."""
        return self.vcpus[:1] if self.kernel.clock.virtual else self.vcpus

    def cpu_of(self, task: Task) -> int:
        """The vCPU that a task sees itself on."""
        index = task.vcpu.index if task.vcpu is not None else 0
        if task.cpus_allowed >> index & 1:
            return index
        return (task.cpus_allowed & -task.cpus_allowed).bit_length() - 1

    def _pick(self, vcpu: VCpu) -> Task | None:
        """The policy's choice among the tasks that may run on `vcpu`."""
        if self.kernel.clock.virtual:  # CPUs are simulated
            return self.policy.pick_next()
        passed: list[Task] = []
        while (task := self.policy.pick_next()) is not None:
            if task.cpus_allowed >> vcpu.index & 1:
                break
            passed.append(task)
        for other in passed:
            self.policy.enqueue(other, woken=False, preempted=False)
        return task

    # -- interrupts

    def irq_save(self) -> None:
        """Hold off timer and device events (see sched/irq.py); nests."""
        self.irq_depth += 1

    def irq_restore(self) -> None:
        """Undo one `irq_save`; with the last, what was held off is delivered."""
        self.irq_depth -= 1
        if self.irq_depth == 0 and self._held:
            held, self._held = self._held, []
            for deliver in held:
                deliver()
            self.schedule()

    # -- becoming runnable

    def start(self, task: Task) -> None:
        """A new task."""
        task.state = READY
        self._dirty = True
        self.policy.enqueue(task, woken=False, preempted=False)
        self.poke()

    def wake(self, task: Task) -> None:
        """`task` sleeps no more: out of its queues, into the runqueue."""
        state = task.state
        if state is not BLOCKED and state is not WAITING and state is not STOPPED:
            return
        for queue in task.queues:
            queue.waiters.pop(task, None)
        task.queues = ()
        if task.timer is not None:
            task.timer.cancel()
            task.timer = None
        if self.kernel.observer is not None:
            self.kernel.observer.wake(task)
        task.state = READY
        self._dirty = True
        self.policy.enqueue(task, woken=True, preempted=False)
        for vcpu in self.usable:
            current = vcpu.current
            if current is None:
                break
            if not vcpu.need_resched and self.policy.wakeup_preempt(current, task):
                self.resched(vcpu)
                break
        self.poke()

    def signal_wake(self, task: Task) -> None:
        """A signal for `task`: end its interruptible sleep, or get it out of the guest."""
        if task.state is BLOCKED:
            self.wake(task)
        elif task.state is STOPPED:
            if task.process.exit_code is not None or task.exiting:
                self.wake(task)
        elif task.state is RUNNING:
            self._kick(task)

    def poke_sigwait(self, task: Task) -> None:
        """A signal for the group came: one that waits for signals looks again."""
        if task.state is BLOCKED:
            self.wake(task)

    def resched(self, vcpu: VCpu) -> None:
        """Whoever runs there gives way soon."""
        vcpu.need_resched = True
        current = vcpu.current
        if current is not None and current.state is RUNNING:
            self._kick(current)

    def _kick(self, task: Task) -> None:
        """Get a running task out of the guest. It has a deadline: a guest that has blocked the
        host's signals behind our back (by a forged frame) cannot be stopped in any other way."""
        assert task.stub is not None
        if not task.kicked_ns:
            task.kicked_ns = time.monotonic_ns()
        self._dirty = True
        self.family.kick(task.stub, preempt=True)

    def _enforce_deadlines(self) -> None:
        """Kill the stubs of tasks that were asked to trap, or to acknowledge, long ago."""
        now = time.monotonic_ns()
        late = [task for task in self._running() if task.kicked_ns]
        late = [task for task in late if now - task.kicked_ns > DEADLINE_NS]
        if self.kernel.tlb.pending and now - self.kernel.tlb.since_ns > DEADLINE_NS:
            late += self.kernel.tlb.pending
        for task in late:
            if task.stub is not None and not task.stub.dead:
                lib.uvm_stub_kill(task.stub.pid)

    def _running(self) -> list[Task]:
        return [
            v.current for v in self.vcpus if v.current is not None and v.current.state is RUNNING
        ]

    def poke(self) -> None:
        """Something became runnable, or a timer was armed: schedule soon."""
        self._dirty = True
        if not self._active and not self._poked:
            self._poked = True
            self.loop.call_soon(self._from_loop, self._poked_run)

    def _from_loop(self, function: Callable[..., None], *args: Any) -> None:
        """Run what the loop calls: a bug there ends the machine, as one in a trap does."""
        try:
            function(*args)
        except Exception as error:
            if self.kernel.on_fatal is None:
                raise
            self.kernel.on_fatal(error)

    def _poked_run(self) -> None:
        self._poked = False
        self.schedule()

    # -- sleeping (called by the kernel, which drives coroutines)

    def block(self, task: Task, queues: tuple[WaitQueue, ...], deadline_ns: int | None) -> None:
        """Interruptible sleep: plain data from here on."""
        task.state = BLOCKED
        task.queues = queues
        for queue in queues:
            queue.waiters[task] = None
        if deadline_ns is not None:
            task.timer = self.kernel.timers.arm(deadline_ns, task, "sleep")
        task.nvcsw += 1

    def wait(self, task: Task, queue: WaitQueue) -> None:
        """Uninterruptible sleep: its coroutine is kept."""
        task.state = WAITING
        task.queues = (queue,)
        queue.waiters[task] = None

    def wait_host(self, task: Task, job: asyncio.Future[Any]) -> None:
        """Uninterruptible sleep until a job of the host's loop is done."""
        task.state = WAITING
        self.jobs[task] = job
        task.job = job
        job.add_done_callback(lambda done: self._from_loop(self._job_done, task, done))

    def _job_done(self, task: Task, job: asyncio.Future[Any]) -> None:
        if self.irq_depth:
            self._held.append(lambda: self._job_done(task, job))
            return
        if self.jobs.get(task) is not job:
            return  # the machine has gone down, or was frozen and thawed
        del self.jobs[task]
        task.job = None
        if self.kernel.observer is not None:
            self.kernel.observer.host_done(task)
        if job.cancelled():
            task.resume_with = (None, asyncio.CancelledError())
        else:
            error = job.exception()
            task.resume_with = (None, error) if error is not None else (job.result(), None)
        self._active = True
        try:
            vcpu = task.vcpu
            if self.kernel.clock.virtual and vcpu is not None and vcpu.current is task:
                task.state = KERNEL
                self._run(task, vcpu)
            else:
                self.wake(task)
        finally:
            self._active = False
        self.schedule()

    # -- traps

    def on_trap(self, stub: Stub) -> None:
        """A stub has trapped: its task is in the kernel now."""
        task = stub.task
        assert task is not None
        kernel = self.kernel
        if task.state is not RUNNING or kernel.physmem.u32[stub.u32 + STATE] != TRAPPED:
            return  # forged by a guest that has taken over its shim

        vcpu = task.vcpu
        assert vcpu is not None
        task.state = KERNEL
        task.phase = "trap"
        task.kicked_ns = 0
        kind = kernel.physmem.u32[stub.u32 + TRAP]
        clock_virtual = kernel.clock.virtual
        if clock_virtual and kind in UNTIMED:
            self._on_untimed_trap(task, vcpu, kind)
            return
        self.traps += 1
        if not self.traps & FOLLOW_MASK:
            self.placement.follow()
            self.placement.place(stub, vcpu.index)
        if kind != TRAP_FAULT or not self.policy.controlled:  # there it depends on what is watched
            kernel.clock.on_trap()
            if clock_virtual:
                kernel.note_trap(task)
        now = kernel.clock.monotonic_ns()
        delta = now - vcpu.since_ns
        task.utime_ns += delta
        self.policy.ran(task, delta)
        vcpu.since_ns = now
        if kernel.tlb.pending:
            kernel.tlb.acknowledged(task)
        if clock_virtual and kernel.freeze_every and self._freeze_here():
            return
        if self.policy.controlled and self.policy.entry_point(task):
            self._give_way(task, vcpu)
            return
        if self.stopped:
            return
        self._active = True
        try:
            self._run(task, vcpu)
        finally:
            self._active = False

    def _on_untimed_trap(self, task: Task, vcpu: VCpu, kind: int) -> None:
        """The shim of a controlled machine asks whether the task may go on, or the watchdog has
        stopped it. Virtual time does not pass, and the trace does not tell: how often the one comes
        depends on who is searching, the other on the host."""
        task.phase = "user"
        policy = self.policy
        if policy.access_point(task) if kind == TRAP_RACE else policy.preempt_point(task):
            self._give_way(task, vcpu)
            return
        if self.stopped:
            return
        self._active = True
        try:
            self._run(task, vcpu)
        finally:
            self._active = False

    def _freeze_here(self) -> bool:
        """Every so many traps the machine is frozen and thawed, as soon as it is at rest."""
        kernel = self.kernel
        if self.traps % kernel.freeze_every == 0:
            self.freeze_due = True
        if not self.freeze_due or kernel.on_freeze is None or not kernel.at_rest():
            return False
        self.freeze_due = False
        self.stopped = True
        kernel.on_freeze()
        return True

    def thawed_run(self) -> None:
        """Go on after a thaw: whoever stood in its trap first."""
        self._dirty = True
        self.stopped = False
        for vcpu in self.vcpus:
            task = vcpu.current
            if task is not None:
                self._active = True
                try:
                    self._run(task, vcpu)
                finally:
                    self._active = False
        self.schedule()

    def on_ack(self, stub: Stub) -> None:
        """A running stub has done its shootdowns."""
        if stub.task is not None:
            self.kernel.tlb.acknowledged(stub.task)

    def on_timer(self) -> None:
        """The host timer: kernel timers, and the tick."""
        self._armed_ns = self._tick_ns = 0
        self._dirty = True
        if self.irq_depth:
            self._held.append(self.on_timer)
            return
        clock = self.kernel.clock
        if isinstance(clock, RealClock):
            self.kernel.timers.expire(clock.monotonic_ns())
        else:
            self._watchdog()
        if len(self.policy):
            now = clock.monotonic_ns()
            for vcpu in self.usable:
                current = vcpu.current
                if current is None or current.state is not RUNNING or clock.virtual:
                    continue
                self.policy.ran(current, now - vcpu.since_ns)
                current.utime_ns += now - vcpu.since_ns
                vcpu.since_ns = now
                if self.policy.tick(current):
                    self.resched(vcpu)
        self._enforce_deadlines()

    def _watchdog(self) -> None:
        """Virtual time does not pass in a guest that never traps: stop it, and say so.

        A run that is no longer repeatable anyhow has a tick from then on (see `_arm`).
        """
        vcpu = self.vcpus[0]
        current = vcpu.current
        seen, self._watched_traps = self._watched_traps, self.traps
        if current is None or current.state is not RUNNING or seen != self.traps:
            return
        deadline = self.kernel.timers.next_deadline_ns()
        awaited = len(self.policy) > 0 or deadline is not None
        if awaited and self.policy.stuck(current):
            self.kernel.deterministic = False
            if deadline is not None and isinstance(self.kernel.clock, VirtualClock):
                self.kernel.clock.advance_to(deadline)
                self.kernel.timers.expire(deadline)
            self.resched(vcpu)

    # -- running

    def _run(self, task: Task, vcpu: VCpu) -> None:
        """Run `task` in the kernel on `vcpu`, and on in the guest if it may."""
        if not self.kernel.run(task):
            self._dirty = True
            if not (self.kernel.clock.virtual and task in self.jobs):
                vcpu.current = None
                if self.kernel.observer is not None:
                    self.kernel.observer.leave(vcpu, task)
            return
        policy = self.policy
        if vcpu.need_resched or (policy.controlled and policy.choice_point(task)):
            vcpu.need_resched = False
            if len(policy):
                self._give_way(task, vcpu)
                return
        if self.stopped:
            return
        stub = task.stub
        assert stub is not None
        task.state = RUNNING
        self._resume_stub(stub.mailbox, stub.pid, self._transport)

    def _give_way(self, task: Task, vcpu: VCpu) -> None:
        """Off its vCPU, though it could go on."""
        self._dirty = True
        task.nivcsw += 1
        task.state = READY
        self.policy.enqueue(task, woken=False, preempted=True)
        vcpu.current = None
        if self.kernel.observer is not None:
            self.kernel.observer.leave(vcpu, task)

    def schedule(self) -> None:
        """Give every idle vCPU to whoever the policy picks."""
        if self._active or self.stopped or not (self._dirty or self.kernel.clock.virtual):
            return
        self._dirty = False
        self._active = True
        try:
            self._schedule()
        finally:
            self._active = False
        self._arm()

    def _schedule(self) -> None:
        kernel = self.kernel
        clock = kernel.clock
        for vcpu in self.usable:
            while vcpu.current is None and not self.stopped:
                task = self._pick(vcpu)
                if task is None:
                    if not isinstance(clock, VirtualClock) or self.irq_depth:
                        break
                    deadline = kernel.timers.next_deadline_ns()
                    if deadline is None or not kernel.may_jump():
                        if deadline is None and kernel.may_jump():
                            self.policy.idle()
                        break
                    clock.advance_to(deadline)
                    kernel.timers.expire(deadline)
                    continue
                self.switches += 1
                vcpu.current = task
                vcpu.need_resched = False
                vcpu.since_ns = clock.monotonic_ns()
                task.vcpu = vcpu
                task.state = KERNEL
                if task.stub is not None:
                    self.placement.place(task.stub, vcpu.index)
                if kernel.observer is not None:
                    kernel.observer.switch(vcpu, task)
                self._run(task, vcpu)
            if isinstance(clock, VirtualClock):
                kernel.timers.expire(clock.monotonic_ns())

    def _arm(self) -> None:
        """Program the host timer for the next kernel timer or tick, whichever is first."""
        clock = self.kernel.clock
        if not isinstance(clock, RealClock):
            period = self.kernel.watchdog_ns
            if period and not self._armed_ns:
                if not self.kernel.deterministic:
                    period = min(period, TICK_NS)
                self._armed_ns = time.monotonic_ns() + period
                self.family.set_timer(self._armed_ns)
            return
        want = self.kernel.timers.next_deadline_ns()
        if want is not None:
            want = clock.host_deadline_ns(want)
        if len(self.policy) or self.kernel.tlb.pending or any(t.kicked_ns for t in self._running()):
            if not self._tick_ns:
                self._tick_ns = time.monotonic_ns() + TICK_NS
            want = self._tick_ns if want is None else min(want, self._tick_ns)
        if want is not None and (not self._armed_ns or want < self._armed_ns):
            self._armed_ns = max(1, want)
            self.family.set_timer(self._armed_ns)
