"""The policy of a controlled machine: it makes every choice, or has it made.

It numbers tasks in order of birth, knows what each runnable task does next, and
at each choice point asks a *chooser* (a strategy, behind race/engine.py) unless a
lease says that the running task may go on.  What was chosen is written down in
`switches` wherever it differs from the default: whoever runs goes on; if it
cannot, the runnable task with the next higher number does, cyclically.

Strategies may be unfair.  So whoever spins or computes stands behind the others
(race/behind.py); and an execution that has passed `step_limit` choice points is no
livelock yet: from there on all take turns, for many times as long, and only if that
does not end it either it is one.  Turns are nobody's choice, and are not written down.

Choice points are counted in one place, the race area's `step`, by the shim
(accesses) and here (calls).  A choice exists only where two tasks can run; the
points where only one can are counted too, since the shim does not know.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from uvm_async._host import lib
from uvm_async.arch import registers as r
from uvm_async.arch.stub import (
    CODE,
    FAULT_ADDR,
    FAULT_ERROR,
    FS_BASE,
    TRAP,
    TRAP_RACE,
    TRAP_SYSCALL,
)
from uvm_async.race.area import NEVER, Happened
from uvm_async.race.behind import Behind
from uvm_async.race.model import Event, Kind, Point
from uvm_async.race.strategies.base import successor
from uvm_async.sched.clock import VirtualClock
from uvm_async.sched.policies.base import Policy
from uvm_async.sched.state import TaskState

if TYPE_CHECKING:
    from uvm_async.arch.stub import Stub
    from uvm_async.kernel.kernel import Kernel
    from uvm_async.kernel.task import Task
    from uvm_async.race.area import RaceArea

__all__ = ["FOUND", "Chooser", "Controlled"]

FUTEX: Final = 202
EXIT: Final = 60
ARCH_PRCTL, ARCH_SET_GS = 158, 0x1001
SLEEPS: Final = frozenset({35, 230})
"""nanosleep, clock_nanosleep"""
BIRTHS: Final = frozenset({56, 57, 58, 435})
"""clone, fork, vfork, clone3"""
SIGRETURN, SCHED_YIELD, EXECVE = 15, 24, 59
EARLY_LIMIT: Final = 3
FAIR_TURN: Final = 50
"""Choice points that a task passes in a row where all take turns (later more),"""
FAIR_PART: Final = 40
"""and how many times as many as were the strategy's."""
COMPUTES_S: Final = 0.3
"""Seconds of the processor that a task may use between two choice points while others wait,"""
TOUCHES_S: Final = 3.0
"""or, where each access to a page that tasks share is looked at, while it makes such accesses."""
ALONE_STEPS: Final = 2_000
"""So many choice points after everybody else has ended, memory is watched no longer."""
FOUND: Final = "found"
"""Why an execution is over that spins on a word that is active only from the next one on."""
LOCAL_CALLS: Final = frozenset(
    {9, 10, 11, 12, 13, 14, 25, 28, 39, 60, 96, 102, 104, 107, 108, 131, 158, 186, 201, 204, 218,
     228, 229, 273, 302, 318, 334}
)  # fmt: skip
"""Calls that touch nothing of another task's, or whose end is the event that counts: mmap,
mprotect, munmap, brk, rt_sigaction, rt_sigprocmask, mremap, madvise, getpid, exit, gettimeofday,
getuid and kin, sigaltstack, arch_prctl, gettid, time, sched_getaffinity, set_tid_address,
clock_gettime, clock_getres, set_robust_list, prlimit64, getrandom, rseq."""


Call = tuple[int, int, int]
"""Number, futex word or 0, address of the instruction."""


class Chooser(Protocol):
    """Who makes the choices of one execution."""

    def choose(self, point: Point) -> int:
        """The task, one of `point.enabled`, that runs next."""

    def lease(self) -> int:
        """How many further choice points it may pass without a question."""

    def first_birth(self, task: Task) -> bool:
        """The first task is about to be born: stop here?"""

    def instruction(self, task: Task, addr: int) -> None:
        """An instruction touches shared memory that the shim does not know."""

    def refused(self, task: Task, addr: int) -> None:
        """An instruction cannot be run on shared memory."""

    def over(self, why: str) -> None:
        """The execution cannot go on: "deadlock", "livelock"."""

    def impossible(self, why: str) -> None:
        """The program does what no controlled machine can do."""


class Controlled(Policy):
    """See the module's docstring."""

    controlled = True
    TRANSIENT: ClassVar[frozenset[str]] = frozenset({"chooser", "area", "calls", "watcher"})

    def __init__(self, step_limit: int, *, calls_return: bool) -> None:
        """`step_limit`: choices after which it is a livelock; `calls_return`: the return from
        a call is a choice point, too (where accesses are none)."""
        super().__init__()
        self.step_limit = step_limit
        self.calls_return = calls_return
        self.runnable: list[Task] = []
        self.numbers: dict[Task, int] = {}
        self.control_blocks: list[int] = []
        """Thread pointers, of those that have had one at birth."""
        self.pending: dict[Task, Event] = {}
        self.switches: dict[int, int] = {}
        self.preemptions = 0
        self.last = 0
        self.chosen: Task | None = None
        """Who was chosen when another gave way."""
        self.early = 0
        """Sleepers in a row that were woken though others could have run: there is an end to that,
        or who polls could poll for ever."""
        self.woken: Task | None = None
        self.sleeping: dict[Task, None] = {}
        """Who may be in a call that only sleeps."""
        self.in_call: dict[Task, Call] = {}
        """Who has entered which call."""
        self.events_seen = 0
        self.born = False
        self.stands: tuple[Task, int] | None = None
        """Who was last seen to run without a trap, and at which step,"""
        self.used_s = 0.0
        """what of the processor it had used then,"""
        self.watched = 0
        """and how many accesses had been looked at."""
        self.alone = 0
        """Choice points at which there was only one who could run,"""
        self.alone_from: int | None = None
        """and since when there is."""
        self.forced = 0
        """Choice points before which no event stands: a task that computes was stopped there."""
        self.behind = Behind()
        self.looked_at = False
        """Whether something that did not trap has been looked at closely in this execution."""
        self.chooser: Chooser
        self.area: RaceArea
        self.calls: dict[int, str]
        self.watcher: Callable[[Task, Event], None] | None = None
        """Sees every event before it happens; then no lease is honoured."""

    # -- what the scheduler asks

    def enqueue(self, task: Task, *, woken: bool, preempted: bool) -> None:
        if task not in self.numbers:
            number = self.numbers[task] = len(self.numbers)
            assert task.stub is not None or not number
            if task.stub is not None:
                self.area.set_task(task.stub.slot, number)
                if _has_memory_of_its_own(task):
                    self.area.forked(task.stub.slot, self.last)
                self.control_blocks.append(task.kernel.physmem.u64[task.stub.u64 + FS_BASE])
            self.pending[task] = Event(number, Kind.START)
        elif task not in self.pending:
            self.pending[task] = self._return_of(task)
        self.runnable.append(task)
        if not preempted:
            self.area.race.ask_at = 0  # a lease does not cover this
            if self.alone_from is not None:
                self.alone += int(self.area.race.step) - self.alone_from
                self.alone_from = None

    def pick_next(self) -> Task | None:
        chosen, self.chosen = self.chosen, None
        if not self.runnable:
            return None  # the scheduler lets time pass
        if chosen is None:
            step = int(self.area.race.step)
            self.area.race.step = step + 1
            chosen = self._choose(step, None)
        self.runnable.remove(chosen)
        self._runs(chosen)
        if self.watcher is not None:
            self.area.race.ask_at = 0
        return chosen

    def __len__(self) -> int:
        return len(self.runnable)

    def entry_point(self, task: Task) -> bool:
        stub = task.stub
        assert stub is not None
        physmem = task.kernel.physmem
        if physmem.u32[stub.u32 + TRAP] != TRAP_SYSCALL:
            return False
        u64, regs = physmem.u64, stub.regs
        nr = u64[regs + r.RAX] & 0xFFFFFFFF
        self.behind.traps(task)
        self.area.works_for(stub.slot, u64[regs + r.RIP])
        if nr in BIRTHS and self._birth(task, stub):
            return False
        if nr == SIGRETURN:
            self.area.handles(stub.slot, -1)
        elif nr == EXECVE:
            self.area.forked(stub.slot, None)
        if not self.born:
            return False
        call = self.in_call[task] = (
            nr, u64[regs + r.RDI] if nr == FUTEX else 0, u64[regs + r.RIP]
        )  # fmt: skip
        if nr in LOCAL_CALLS and nr != EXIT:
            if nr == ARCH_PRCTL and u64[regs + r.RDI] == ARCH_SET_GS:
                ip = u64[regs + r.RIP]
                self.chooser.impossible(
                    f"the instruction at {ip:#x} sets GS, which exploring needs"
                )
            return False
        if nr in SLEEPS:
            self.sleeping[task] = None
        elif nr == SCHED_YIELD:
            self.behind.yields(self.area, task)
        race = self.area.race
        if nr != EXIT:
            step = int(race.step)
            race.step = step + 1
            if step >= race.ask_at or self.watcher is not None:
                event = self._call_event(task, Kind.CALL, call)
                if self._asked_by_call(task, event, step):
                    return True
        self.area.note_call(self.numbers[task], Kind.CALL, *call)
        return False

    def choice_point(self, task: Task) -> bool:
        call = self.in_call.pop(task, None)
        if call is None or not self.calls_return or not self.runnable:
            return False
        race = self.area.race
        step = int(race.step)
        race.step = step + 1
        if step < race.ask_at and self.watcher is None:
            return False
        return self._asked_by_call(task, self._call_event(task, Kind.RETURN, call), step)

    def _birth(self, task: Task, stub: Stub) -> bool:
        """A task is about to be born. True: the machine stops here."""
        if not self.born:
            self.born = True
            return self.chooser.first_birth(task)
        if self.area.paused:
            self.area.go_on()
            lib.uvm_stub_shootdown_all(stub.mailbox)
        return False

    def _call_event(self, task: Task, kind: Kind, call: Call) -> Event:
        nr, addr, ip = call
        name = self.calls.get(nr, str(nr))
        return Event(self.numbers[task], kind, addr, 4 if addr else 0, ip, name, value=nr)

    def _asked_by_call(self, task: Task, event: Event, step: int) -> bool:
        if self.watcher is not None:
            self.watcher(task, event)
            if step < self.area.race.ask_at:
                return False
        return self._asked(task, event, step, False)

    def access_point(self, task: Task) -> bool:
        stub = task.stub
        assert stub is not None
        physmem = task.kernel.physmem
        why = physmem.u32[stub.u32 + CODE]
        addr = physmem.u64[stub.u64 + FAULT_ADDR]
        if why == lib.UVM_RACE_INSN:
            self.chooser.instruction(task, addr)
            return False
        if why == lib.UVM_RACE_REFUSED:
            self.chooser.refused(task, addr)
            return False
        if why == lib.UVM_RACE_FOUND:
            self.chooser.over(FOUND)
            return False
        if why == lib.UVM_RACE_CALM:
            self.area.calm()
            lib.uvm_stub_shootdown_all(stub.mailbox)
            return False
        self.behind.traps(task)
        what = physmem.u64[stub.u64 + FAULT_ERROR]
        event = Event(
            self.numbers[task], Kind(what & 3), addr, what >> 8 & 0xFFFFFF,
            physmem.u64[stub.regs + r.RIP], "", bool(what >> 32),
        )  # fmt: skip
        if self.watcher is not None:
            self.watcher(task, event)
        give_way = self._asked(task, event, int(self.area.race.step) - 1, why == lib.UVM_RACE_SPIN)
        if self.watcher is not None:
            self.area.race.ask_at = 0
        return give_way

    def may_signal(self, task: Task) -> bool:
        stub = task.stub
        assert stub is not None
        physmem = task.kernel.physmem
        if physmem.u64[stub.regs + r.RIP] < self.area.code_address(0):
            self.area.begins_anew(stub.slot)
            return True
        if physmem.u32[stub.u32 + TRAP] != TRAP_RACE:
            return True  # its store faults
        self.area.race.ask_at = 0  # an update has read, and not yet written: at the next point
        return False

    def stuck(self, task: Task) -> bool:
        stub = task.stub
        race = self.area.race
        if not self.born or stub is None:
            return False
        used_s = _cpu_s(stub.pid)
        watched = int(race.watched)
        before, self.stands = self.stands, (task, int(race.step))
        long_s = COMPUTES_S
        if race.mode == lib.UVM_RACE_ALL and watched != self.watched:
            long_s = TOUCHES_S
        if before == self.stands and used_s - self.used_s <= long_s:
            return False
        self.used_s, self.watched = used_s, watched
        if before == self.stands:
            if self.looked_at or race.mode not in (lib.UVM_RACE_ALL, lib.UVM_RACE_LISTED):
                self._computes(task, stub)
            else:  # it may spin on something that nobody knew to be shared
                self.looked_at = True
                self.area.watch_everything_of(stub.slot)
                lib.uvm_stub_shootdown_all(stub.mailbox)
                task.kernel.family.kick(stub, preempt=True)
        return False

    def handles_signal(self, task: Task) -> None:
        if self.born and task.stub is not None:
            self.area.handles(task.stub.slot, 1)
            if self.area.race.mode == lib.UVM_RACE_ALL:
                lib.uvm_stub_shootdown_all(task.stub.mailbox)

    def preempt_point(self, task: Task) -> bool:
        if not self.runnable or not self.behind.is_computing(task):
            return False
        step = int(self.area.race.step)
        self.area.race.step = step + 1
        self.forced += 1
        self.pending[task] = Event(self.numbers[task], Kind.READ)  # nobody knows of what
        self.chosen = self._choose(step, None)
        return True

    def _computes(self, task: Task, stub: Stub) -> None:
        """`task` may never trap: others go on beside it, as on a real machine."""
        if self.area.race.mode == lib.UVM_RACE_GREEDY:
            self.area.calm()
            lib.uvm_stub_shootdown_all(stub.mailbox)
        if not self.runnable:
            self._let_time_pass(task)
        if self.runnable:
            self.behind.computes(task)
            task.kernel.family.kick(stub, preempt=True)

    def idle(self) -> None:
        if self.born and self.numbers:
            self.chooser.over("deadlock")

    # -- choosing

    def _asked(self, task: Task, event: Event, step: int, spins: bool) -> bool:
        """Should `task`, which stands before `event`, give way? Notes who runs instead."""
        if step >= (1 + FAIR_PART) * self.step_limit + self.alone and self.runnable:
            self.chooser.over("livelock")
            return False
        if spins:
            self.behind.spins(self.area, task)
            if self._in_vain(task):
                self.chooser.over("livelock")
                return False
        if not self.runnable and not self._sleepers():  # no choice until somebody can run
            self._leave_alone(step)
            if step - (self.alone_from or 0) >= ALONE_STEPS and self._is_last(task):
                self.area.pause()
            return False
        self.pending[task] = event
        chosen = self._choose(step, None if spins else task, spinner=task if spins else None)
        if chosen is task:
            del self.pending[task]
            return False
        self.chosen = chosen
        self.behind.gives_way(self.area, task)
        return True

    def _return_of(self, task: Task) -> Event:
        call = self.in_call.get(task)
        if call is None:
            return Event(self.numbers[task], Kind.RETURN)
        return self._call_event(task, Kind.RETURN, call)

    def _in_vain(self, task: Task) -> bool:
        """`task` spins. Does everybody, so that nothing can change any more?"""
        vain = self.behind.in_vain([task, *self.runnable])
        if (vain or not self.runnable) and self._let_time_pass(task):
            return False
        return vain and task.kernel.may_jump()

    def _let_time_pass(self, task: Task) -> bool:
        """Up to the next timer, which may change something. False: there is none."""
        kernel = task.kernel
        deadline = kernel.timers.next_deadline_ns()
        if deadline is None:
            return False
        _advance_to(kernel, deadline)
        self.behind.time_passes()
        return True

    def _choose(self, step: int, current: Task | None, *, spinner: Task | None = None) -> Task:
        numbers = self.numbers
        able = [task for task in self.runnable if task is not spinner]
        if current is not None:
            able.append(current)
        sleepers = self._sleepers()
        for task in sleepers:
            able.append(task)
            self.pending[task] = self._return_of(task)
        held = self.behind.any(self.area)
        if held:
            able = self.behind.leaves(able)
            if current not in able:
                current = None
        candidates = {numbers[task]: task for task in able}
        enabled = tuple(sorted(candidates))
        fair = step >= self.step_limit + self.alone
        if len(enabled) == 1:
            number = enabled[0]
            if spinner is None and not held:
                self._leave_alone(step)
            else:
                self.area.race.ask_at = 0
        elif fair:
            number = successor(enabled, self.last)
            self.area.race.ask_at = step + FAIR_TURN * (step // self.step_limit)
        else:
            seen, self.events_seen = self.events_seen, int(self.area.race.events)
            point = Point(
                step,
                numbers[current] if current is not None else None,
                enabled,
                {number: self.pending[candidates[number]] for number in enabled},
                Happened(self.area, self.calls, seen, self.events_seen),
                self.last,
            )
            number = self.chooser.choose(point)
            lease = 0 if held else self.chooser.lease()
            self.area.race.ask_at = min(step + 1 + lease, self.step_limit + self.alone)
        default = numbers[current] if current is not None else successor(enabled, self.last)
        if number != default and not fair:  # turns are nobody's choice
            self.switches[step] = number
            self.preemptions += current is not None
        chosen = candidates[number]
        if chosen in sleepers:
            self._wake_up(chosen)
        return chosen

    def _sleepers(self) -> list[Task]:
        """Tasks in a call that only sleeps: all others may be as slow as that, so they can run."""
        if not self.sleeping or (self.runnable and self.early >= EARLY_LIMIT):
            return []
        for task in list(self.sleeping):
            if self.in_call.get(task, (0, 0, 0))[0] not in SLEEPS:
                del self.sleeping[task]
        return [
            task
            for task in self.sleeping
            if task.state is TaskState.BLOCKED and task.timer is not None
        ]

    def _wake_up(self, task: Task) -> None:
        """Time passes until `task` has slept enough."""
        self.early += 1
        self.woken = task
        if task.timer is not None:
            _advance_to(task.kernel, task.timer.deadline_ns)

    def _leave_alone(self, step: int) -> None:
        """There is no choice until somebody else can run; nor do these points count."""
        if self.alone_from is None:
            self.alone_from = step
        pause = self.alone_from + ALONE_STEPS
        self.area.race.ask_at = pause if step < pause else NEVER

    def _is_last(self, task: Task) -> bool:
        """Have all others ended?"""
        return all(
            other is task or other.state in (TaskState.ZOMBIE, TaskState.DEAD)
            for other in self.numbers
        )

    def _runs(self, task: Task) -> None:
        """`task` goes on now: its pending event happens."""
        event = self.pending.pop(task, None)
        if task is not self.woken:
            self.early = 0
        self.woken = None
        self.last = self.numbers[task]
        if task.stub is not None:
            slot = task.stub.slot
            self.area.set_task(slot, self.last)
            if not self.behind.finds_the_same(self.area, task):
                self.area.rested(slot)
            self.area.works_for(slot, self.in_call.get(task, (0, 0, 0))[2])
        if event is not None and not event.is_access:
            self.area.note(event)


def _has_memory_of_its_own(task: Task) -> bool:
    """Is `task`, just born, a process by fork?"""
    parent = task.process.parent
    if task.pid != task.process.pid or parent is None:
        return False
    return all(task.mm is not other.mm for other in parent.tasks)


def _advance_to(kernel: Kernel, deadline_ns: int) -> None:
    """Virtual time passes up to then, and wakes whom it wakes."""
    assert isinstance(kernel.clock, VirtualClock)
    kernel.clock.advance_to(deadline_ns)
    kernel.timers.expire(deadline_ns)


def _cpu_s(pid: int) -> float:
    """Seconds of the processor that a process has used (man 3 clock_getcpuclockid)."""
    return time.clock_gettime(~pid << 3 | 2)
