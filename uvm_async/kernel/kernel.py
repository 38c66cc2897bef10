"""The kernel: what a machine at rest is made of, and how a trap is answered.

Linux: arch/x86/entry/common.c, kernel/entry/common.c, init/main.c.

`Kernel` is the root of the graph that a freeze writes.  `run(task)` does for a
task whatever is left to do in the kernel, until it can go on in the guest, sleeps
or is gone.  A task's `phase` says what that is:

    trap     its trap has not been answered yet, or its call is to run again
    syscall  a system call's coroutine is under way
    fault    a page fault's
    signals  signal delivery's, on the way back to the guest
    exit     its end's
    user     nothing: it goes on in the guest
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, ClassVar

from uvm_async._host import lib
from uvm_async.arch import registers as r
from uvm_async.arch.regs import set_prefill
from uvm_async.arch.stub import (
    ARCH,
    CODE,
    FAULT_ADDR,
    FAULT_ERROR,
    SIG,
    TRAP,
    TRAP_EXCEPTION,
    TRAP_FAULT,
    TRAP_PREEMPT,
    TRAP_SYSCALL,
    Stub,
    StubFamily,
)
from uvm_async.errors import Errno
from uvm_async.fs.mount import MountTable
from uvm_async.kernel.entropy import Entropy
from uvm_async.kernel.exit import do_exit, group_exit
from uvm_async.kernel.futex import FutexTable
from uvm_async.kernel.observer import FOREIGN_CALL
from uvm_async.kernel.sigframe import deliver_signals
from uvm_async.kernel.signal import (
    SI_KERNEL,
    SI_USER,
    SIGBUS,
    SIGKILL,
    SIGSEGV,
    SigInfo,
    force_signal,
    send_to_process,
    send_to_task,
)
from uvm_async.kernel.task import Process, Task, TaskState
from uvm_async.log import log
from uvm_async.mm.fault import BusError, MemoryFault, handle_mm_fault
from uvm_async.mm.frames import Frames
from uvm_async.mm.shootdown import Shootdowns
from uvm_async.sched.core import Scheduler
from uvm_async.sched.timers import Timers
from uvm_async.sched.wait import Block, Host, Interrupted, Wait, host
from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.arch.physmem import Physmem
    from uvm_async.kernel.observer import Observer
    from uvm_async.sched.clock import RealClock, VirtualClock
    from uvm_async.sched.policies.base import Policy
    from uvm_async.syscalls.dispatch import CallTable

__all__ = ["Kernel"]

EINTR = 4
ENOSYS = 38
AUDIT_ARCH_X86_64 = 0xC000003E
"""What the host says of a call by `syscall`; of one by `int $0x80` it says AUDIT_ARCH_I386."""
RDTSC = b"\x0f\x31"
RDTSCP = b"\x0f\x01\xf9"
_TRACE = struct.Struct("<II8Q")
PF_WRITE: int = lib.UVM_PF_WRITE
PF_INSTR: int = lib.UVM_PF_INSTR
MAX_PID = 32768
WATCHDOG_NS = 500_000_000
TRACE_LOG_BYTES = 1 << 16


class Kernel(Entity):
    """Everything a machine knows."""

    TRANSIENT: ClassVar[frozenset[str]] = frozenset(
        {"physmem", "family", "loop", "calls", "workers", "on_exit", "on_freeze", "on_fatal",
         "on_group_exit", "observer"}
    )  # fmt: skip

    def __init__(
        self,
        physmem: Physmem,
        *,
        clock: RealClock | VirtualClock,
        cpus: int,
        policy: Policy,
        entropy: Entropy,
        calls: CallTable,
    ) -> None:
        self.clock = clock
        self.entropy = entropy
        self.frames = Frames(physmem)
        self.tlb = Shootdowns(self.frames)
        self.timers = Timers()
        self.sched = Scheduler(self, cpus, policy)
        self.mounts = MountTable()
        self.futexes = FutexTable()
        self.tasks: dict[int, Task] = {}
        """Every thread by tid; the leader of a zombie group stays."""
        self.processes: dict[int, Process] = {}
        self.init: Process | None = None
        self.init_killable = False
        """Signals that init has no handler for may end it (it is the user's own program)."""
        self.last_pid = 0
        self.pids_wrapped = False
        self.stopped: dict[Process, None] = {}
        """Thread groups that a stop signal has stopped."""
        self.next_dev = 16
        self.nr_cpus = cpus
        self.hostname = b"uvm"
        self.domainname = b"(none)"
        self.boot_realtime_ns = clock.realtime_ns()
        self.unknown_calls: dict[int, None] = {}
        self.forks = 0
        self.watchdog_ns = WATCHDOG_NS if clock.virtual else 0
        self.freeze_every = 0
        """Freeze and thaw at every so many traps (a test of everything that is state)."""
        self.trace_log = bytearray()
        """Traps not yet in `trace`: hashed many at a time."""
        self.trace = b""
        """Hash chain over all traps, under a virtual clock: two runs that agree here are one."""
        self.wake_mask = 0
        """Host signals that every stub keeps blocked (transport signal)."""
        self.hwcap = 0
        self.hwcap2 = 0
        self.min_signal_stack = 2048
        self.stack_gap_bytes = 0
        """How far below the stack that it was given a thread starts (see kernel/fork.py)."""
        self.deterministic = True
        self.host_trees: list[Any] = []
        """Super blocks of host directories: they hold host descriptors."""
        self.roots: dict[str, Any] = {}
        """Named objects that tie the machine to its outside (streams, console)."""
        self.attach(physmem, calls)

    def attach(self, physmem: Physmem, calls: CallTable) -> None:
        """Stand on this memory file."""
        self.physmem = physmem
        self.calls = calls
        self.frames.attach(physmem)
        self.observer: Observer | None = None
        self.on_exit: Callable[[Process, int], None] | None = None
        self.on_freeze: Callable[[], None] | None = None
        self.on_group_exit: Callable[[Task, int], None] | None = None
        """Called when a thread group begins to end, with its wait status."""
        self.on_fatal: Callable[[BaseException], None] | None = None
        self.workers: Any = None

    def attach_hardware(self, family: StubFamily, loop: asyncio.AbstractEventLoop) -> None:
        """Stand on these stubs and this loop."""
        self.family = family
        self.loop = loop
        self.tlb.family = family
        self.sched.attach(family, loop)

    def printk(self, message: str) -> None:
        """A message of a driver or a file system, for whoever embeds the machine."""
        log.warning(message)

    # -- running a task in the kernel

    def run(self, task: Task) -> bool:
        """Do what is left to do for `task` in the kernel. True: it goes on in the guest; False: it
        sleeps, or is gone."""
        while True:
            coroutine = task.coroutine
            if coroutine is not None:
                value, error = task.resume_with or (None, None)
                task.resume_with = None
            elif task.process.exit_code is not None or task.exiting:
                task.phase = "exit"
                coroutine = do_exit(task)
                value = error = None
            elif task.phase == "trap":
                started = self._answer(task)
                if started is None:
                    continue
                coroutine = started
                value = error = None
            elif task.interrupted or (task.notify_resume and self.sched.policy.may_signal(task)):
                task.phase = "signals"
                coroutine = deliver_signals(task)
                value = error = None
            else:
                return True
            if not self._drive(task, coroutine, value, error):
                return False

    def _answer(self, task: Task) -> Any:
        """Begin to answer the trap that `task` stands in: a coroutine, or None if that was all."""
        stub = task.stub
        assert stub is not None
        physmem = self.physmem
        kind = physmem.u32[stub.u32 + TRAP]
        if kind == TRAP_SYSCALL:
            u64 = physmem.u64
            regs = stub.regs
            number = u64[regs + r.RAX] & 0xFFFFFFFF  # the processor's entry looks at eax
            if physmem.u32[stub.u32 + ARCH] != AUDIT_ARCH_X86_64:
                number |= FOREIGN_CALL
            call = self.calls.get(number)
            if self.observer is not None:
                self.observer.call_enter(task, number)
            if call is None:
                self._unknown_call(task, number)
                u64[regs + r.RAX] = r.MASK64 & -ENOSYS
                task.phase = "user"
                return None
            if call.is_async:
                task.phase = "syscall"
                return call.invoke(task, u64, regs)
            try:
                result = call.invoke(task, u64, regs)
            except Errno as error:
                result = -error.errno
            task.phase = "user"
            if self.observer is not None:
                self.observer.call_exit(task, result)
            u64[regs + r.RAX] = result & r.MASK64
            return None
        if kind == TRAP_FAULT:
            task.phase = "fault"
            return self._page_fault(task, stub)
        task.phase = "user"
        if kind != TRAP_PREEMPT:
            self._exception(task, stub)
        return None

    def _unknown_call(self, task: Task, number: int) -> None:
        if self.observer is not None:
            self.observer.call_exit(task, -ENOSYS)
        if number not in self.unknown_calls:
            self.unknown_calls[number] = None
            comm = task.comm.decode(errors="replace")
            if number & FOREIGN_CALL:
                log.info("32-bit system call", number=number & 0xFFFFFFFF, comm=comm)
            else:
                name = self.calls.name_of(number)
                log.info("unknown system call", number=number, name=name, comm=comm)

    def _drive(self, task: Task, coroutine: Any, value: Any, error: BaseException | None) -> bool:
        """Advance a kernel coroutine. True: it is done; False: the task sleeps or is gone."""
        phase = task.phase
        try:
            while True:
                request = coroutine.throw(error) if error is not None else coroutine.send(value)
                value = error = None
                kind = type(request)
                if kind is Block:
                    if self._signal_pending(task, request.restart):
                        error = Interrupted(request.restart)
                        continue
                    coroutine.close()
                    task.coroutine = None
                    task.phase = "trap"
                    self.sched.block(task, request.queues, request.deadline_ns)
                    return False
                task.coroutine = coroutine
                if kind is Wait:
                    self.sched.wait(task, request.queue)
                elif kind is Host:
                    if self.observer is not None:
                        self.observer.host_wait(task)
                    self.sched.wait_host(task, asyncio.ensure_future(request.awaitable))
                else:
                    raise TypeError(f"kernel coroutine yielded {request!r}")
                return False
        except StopIteration as stop:
            result: Any = stop.value
        except Errno as failure:
            result = -failure.errno
        except Interrupted as interruption:
            task.coroutine = None
            task.interrupted = interruption.restart
            task.phase = "trap"
            return self._interrupted(task)
        except MemoryFault as fault:
            task.coroutine = None
            self._memory_fault(task, fault)
            task.phase = "user"
            return True
        task.coroutine = None
        if phase == "syscall":
            self._call_done(task, result)
        elif phase == "fault":
            if isinstance(result, int) and result < 0:
                self.out_of_memory(task)
            task.phase = "user"
        elif phase == "signals":
            return self._signals_done(task)
        elif phase == "exit":
            self._gone(task)
            return False
        return True

    def _call_done(self, task: Task, result: Any) -> None:
        stub = task.stub
        assert stub is not None
        task.phase = "user"
        task.restart = None
        if self.observer is not None:
            self.observer.call_exit(task, result)
        if type(result) is int:
            self.physmem.u64[stub.regs + r.RAX] = result & r.MASK64

    def _interrupted(self, task: Task) -> bool:
        """A call was cut short: deliver the signal; a handler ends the call, otherwise it runs
        again."""
        if task.process.exit_code is not None or task.exiting:
            return True
        task.phase = "signals"
        return self._drive(task, deliver_signals(task), None, None)

    def _signals_done(self, task: Task) -> bool:
        if task.interrupted == "intr":  # a call that no signal, handled or not, lets go on
            task.interrupted = ""
            task.abandon_restart()
            assert task.stub is not None
            self.physmem.u64[task.stub.regs + r.RAX] = r.MASK64 & -EINTR
            task.phase = "user"
        elif task.interrupted:  # no handler ran: the call goes on where it was
            task.interrupted = ""
            task.phase = "trap"
        else:
            task.phase = "user"
        return task.state is not TaskState.STOPPED

    def _gone(self, task: Task) -> None:
        if self.observer is not None:
            self.observer.gone(task, task.exit_code)
        stub, task.stub = task.stub, None
        if stub is not None:
            self.family.give_back(stub)
        self.tlb.acknowledged(task)
        leader = task.process.leader is task
        task.state = (
            TaskState.ZOMBIE if leader and task.process.pid in self.processes else TaskState.DEAD
        )

    def _signal_pending(self, task: Task, restart: str) -> bool:
        if task.process.exit_code is not None or task.exiting:
            return True
        if restart == "killable":
            return False
        if task.process.stopped_by:
            return True
        pending = task.pending.mask | task.process.pending.mask
        return bool(pending & ~task.blocked)

    def note_trap(self, task: Task) -> None:
        """Add a trap to the trace: who, why, where, and a call's number and arguments."""
        stub = task.stub
        assert stub is not None
        physmem = self.physmem
        at = stub.regs
        u64 = physmem.u64
        kind = physmem.u32[stub.u32 + TRAP]
        fault = (0, 0)
        if kind == TRAP_FAULT:  # whether a page was present is the Tlb's affair, not the guest's
            fault = (
                u64[stub.u64 + FAULT_ADDR],
                u64[stub.u64 + FAULT_ERROR] & (PF_WRITE | PF_INSTR),
            )
        record = _TRACE.pack(
            task.pid, kind, *fault, u64[at + r.RIP], u64[at + r.RAX], u64[at + r.RDI],
            u64[at + r.RSI], u64[at + r.RDX], u64[at + r.RSP],
        )  # fmt: skip
        log = self.trace_log
        log += record
        if len(log) >= TRACE_LOG_BYTES:
            self.trace = self.trace_hash()
            log.clear()

    def trace_hash(self) -> bytes:
        """Hash over every trap so far."""
        return blake2b(self.trace + self.trace_log, digest_size=16).digest()

    def at_rest(self) -> bool:
        """Is every task in a trap, with no coroutine kept and nothing owed?"""
        if self.sched.jobs or self.tlb.pending:
            return False
        return all(
            task.coroutine is None and task.state is not TaskState.RUNNING
            for task in self.tasks.values()
        )

    # -- faults and exceptions

    async def _page_fault(self, task: Task, stub: Stub) -> None:
        u64 = self.physmem.u64
        addr = u64[stub.u64 + FAULT_ADDR]
        error = u64[stub.u64 + FAULT_ERROR]
        if self.observer is not None:
            self.observer.fault(task, addr, error)
        task.min_flt += 1
        write = bool(error & PF_WRITE)
        execute = bool(error & PF_INSTR)
        await handle_mm_fault(task.mm, addr, write=write, execute=execute, current=task)
        set_prefill(self.physmem, stub, [(addr & ~4095) | (error & (PF_WRITE | PF_INSTR))])

    def _memory_fault(self, task: Task, fault: MemoryFault) -> None:
        stub = task.stub
        assert stub is not None
        addr = self.physmem.u64[stub.u64 + FAULT_ADDR]
        signo = SIGBUS if isinstance(fault, BusError) else SIGSEGV
        force_signal(task, SigInfo(signo, fault.code, addr=addr))

    def _exception(self, task: Task, stub: Stub) -> None:
        u32, u64 = self.physmem.u32, self.physmem.u64
        signo = u32[stub.u32 + SIG]
        code = u32[stub.u32 + CODE]
        if code >= 1 << 31:
            code -= 1 << 32
        if u32[stub.u32 + TRAP] != TRAP_EXCEPTION or not 1 <= signo <= 31:
            signo, code = SIGSEGV, SI_KERNEL
        if signo == SIGSEGV and code == SI_KERNEL and self.clock.virtual and self._tsc(task, stub):
            return
        addr = u64[stub.u64 + FAULT_ADDR] if code > 0 and code != SI_KERNEL else 0
        force_signal(task, SigInfo(signo, code, addr=addr))

    def _tsc(self, task: Task, stub: Stub) -> bool:
        """Under a virtual clock the time-stamp counter traps: answer it from that clock, at 1 GHz.
        False if the instruction is another one."""
        u64 = self.physmem.u64
        regs = stub.regs
        code = task.mm.peek(u64[regs + r.RIP], 3)
        if code[:2] != RDTSC and code != RDTSCP:
            return False
        now = self.clock.monotonic_ns()
        u64[regs + r.RAX] = now & 0xFFFFFFFF
        u64[regs + r.RDX] = now >> 32 & 0xFFFFFFFF
        if code == RDTSCP:
            u64[regs + r.RCX] = self.sched.cpu_of(task)
        u64[regs + r.RIP] += 3 if code == RDTSCP else 2
        return True

    def stub_died(self, stub: Stub, status: int) -> None:
        """A stub is gone (killed from outside, or by its own filter): its task dies of SIGKILL."""
        task = stub.task
        if task is None:
            return
        log.warning("a stub died", pid=task.pid, status=status)
        self.tlb.acknowledged(task)
        group_exit(task, SIGKILL)
        if task.state is TaskState.RUNNING:
            vcpu = task.vcpu
            if vcpu is not None and vcpu.current is task:
                vcpu.current = None
            task.state = TaskState.BLOCKED
            task.phase = "user"
            self.sched.wake(task)

    # -- memory shortage

    def out_of_memory(self, task: Task) -> None:
        """Kill the largest task (Linux: mm/oom_kill.c)."""
        victim = task.process
        most = -1
        for process in self.processes.values():
            if process.tasks and process.pid != 1:
                pages = process.tasks[0].mm.rss_pages()
                if pages > most:
                    victim, most = process, pages
        log.warning("out of memory: killed", pid=victim.pid, pages=most)
        target = victim.tasks[0] if victim.tasks else task
        group_exit(target, SIGKILL)
        self.sched.signal_wake(target)

    # -- processes

    def alloc_pid(self) -> int:
        """The next free process id. Raises EAGAIN."""
        for _ in range(MAX_PID):
            self.last_pid += 1
            if self.last_pid >= MAX_PID:
                self.last_pid = 300  # as Linux: the low ones are for what came up first
                self.pids_wrapped = True
            if not self.pids_wrapped or not self._pid_in_use(self.last_pid):
                return self.last_pid
        raise Errno.EAGAIN

    def _pid_in_use(self, pid: int) -> bool:
        return pid in self.tasks or any(
            p.pgrp == pid or p.session == pid for p in self.processes.values()
        )

    async def acquire_stub(self) -> Stub:
        """A blank stub, as soon as there is one. Raises EAGAIN if the host gives no more."""
        while True:
            stub = self.family.take()
            if stub is not None:
                return stub
            if self.family.exhausted:
                raise Errno.EAGAIN
            arrived: asyncio.Future[None] = self.loop.create_future()
            self.family.when_available(lambda f=arrived: f.done() or f.set_result(None))  # type: ignore[misc]
            await host(arrived)

    def next_anon_dev(self) -> int:
        """A device number for a file system without a device."""
        self.next_dev += 1
        return self.next_dev

    def pgrp_members(self, pgrp: int) -> list[Process]:
        """Processes of a process group."""
        return [p for p in self.processes.values() if p.pgrp == pgrp and not p.zombie]

    def children_elsewhere(self, process: Process) -> list[Process]:
        """Former children, by now reparented, of the session of `process`."""
        return [
            p
            for p in self.processes.values()
            if p.session == process.session and p.parent is self.init
        ]

    def orphaned_pgrp(self, pgrp: int) -> bool:
        """No member has a parent in another group of the same session (setpgid(2))."""
        for p in self.pgrp_members(pgrp):
            parent = p.parent
            if parent is None or parent.pid == 1:
                continue
            if parent.pgrp != pgrp and parent.session == p.session:
                return False
        return True

    def send_signal(self, task: Task, signo: int) -> None:
        """The kernel itself signals one thread (SIGPIPE and its like)."""
        send_to_task(task, SigInfo(signo, SI_USER, pid=task.tgid, uid=task.cred.uid))

    def kill_pgrp(self, pgrp: int, signo: int) -> int:
        """Signal every process of a group, from the kernel; answers how many there were."""
        members = self.pgrp_members(pgrp)
        for process in members:
            send_to_process(process, SigInfo(signo, SI_KERNEL))
        return len(members)

    def hangup_session(self, leader: Process) -> None:
        """A session leader with a terminal has gone: SIGHUP to the foreground, terminal let go."""
        tty, leader.tty = leader.tty, None
        for process in self.processes.values():
            if process.session == leader.session:
                process.tty = None
        disassociate = getattr(tty, "session_ended", None)
        if disassociate is not None:
            disassociate()

    def process_gone(self, process: Process) -> None:
        """A group has no task left (it is a zombie now)."""
        if self.on_exit is not None:
            self.on_exit(process, process.exit_code or 0)

    def init_exited(self, process: Process, status: int) -> None:
        """The first process has gone: so do all others."""
        self.processes.pop(process.pid, None)
        self.tasks.pop(process.pid, None)
        for other in list(self.processes.values()):
            if other.tasks:
                group_exit(other.tasks[0], SIGKILL)
                self.sched.signal_wake(other.tasks[0])

    # -- events

    def may_jump(self) -> bool:
        """May virtual time jump to the next timer? Not while somebody waits for the host."""
        return not self.sched.jobs
