"""One program, frozen just before its first task is born, and run from there again and again.

`Engine.execute` is one execution under one strategy.  Between two executions the
kernel's objects and the guest's memory are put back (race/rewind.py) and every
stub of a task goes back to the pool, blank; nothing is started anew.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from collections.abc import Mapping as MappingType
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from uvm_async._host import lib
from uvm_async.arch import registers as r
from uvm_async.arch.physmem import PAGE_SIZE
from uvm_async.arch.regs import load_trap, save_trap, set_pgd
from uvm_async.arch.stub import FS_BASE, GS_BASE, PGD
from uvm_async.errors import MachineError, UsageError
from uvm_async.fs.procfs.memory import show_maps
from uvm_async.process import PIPE
from uvm_async.race.insn import MAX_BYTES, MAX_CALL_BYTES, decode, ends_with_call
from uvm_async.race.machine import ControlledMachine
from uvm_async.race.model import Event, Point, Result
from uvm_async.race.rewind import MemoryRewind, ObjectRewind
from uvm_async.race.sources import Mapping, Sources
from uvm_async.race.strings import is_string_function, string_ranges
from uvm_async.race.untamed import sets_gs
from uvm_async.syscalls.numbers import X86_64
from uvm_async.tty.stream import StreamOut

if TYPE_CHECKING:
    from uvm_async.arch.stub import Stub
    from uvm_async.kernel.task import Process, Task

__all__ = ["Engine", "Limits", "NoThreads", "Target"]

CALL_NAMES: Final = {number: name for name, number in X86_64.items()}
MODES: Final = {
    "off": lib.UVM_RACE_OFF, "all": lib.UVM_RACE_ALL, "listed": lib.UVM_RACE_LISTED,
}  # fmt: skip
GRANULARITIES: Final = ("syscall", "conflict", "all")
LD_BIND_NOW: Final = {"LD_BIND_NOW": "1"}
ASAN: Final = "ASAN_OPTIONS"
NO_LEAKS: Final = "detect_leaks=0"
"""LeakSanitizer wants ptrace at the end, which is not there, and calls that a failure."""
ARENA_BYTES: Final = 64 << 20
ARENA_HEADER_BYTES: Final = 0x8D0
"""glibc's heap_info and malloc_state, with which each further heap begins (2.36)."""
TOUCHES_TIMES: Final = 10
"""Times `Limits.host_s` that may go by without a choice point where accesses are made."""
FIRST_BIRTH_S: Final = 120.0
WATCHDOG_NS: Final = 100_000_000
"""How often a look is taken at a task that does not trap (it counts seconds of its processor)."""
CALLER_STACK_BYTES: Final = 2048
TLS_BYTES: Final = 0x400
"""Below it are variables of its own."""
CONTROL_BLOCK_BYTES: Final = 0x900
"""glibc's struct pthread, from the thread pointer on (2.36: 0x900)."""


class NoThreads(UsageError):
    """The program ended without ever starting a thread or a process."""


class Choices(Protocol):
    """What the engine wants of a strategy (race/strategies/base.py)."""

    def choose(self, point: Point) -> int:
        """Who runs next."""

    def lease(self) -> int:
        """How far without a question."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be run."""

    args: tuple[str, ...]
    env: MappingType[str, str] = field(default_factory=lambda: dict(os.environ))
    cwd: str | None = None
    input: bytes = b""
    root: str = "/"
    memory: str = "128M"
    cpus: int = 2
    seed: int = 0
    only: tuple[str, ...] = ()
    """Files (names without folder) whose code is the user's; none: all but the C library, the
    loader and the C++ run-time library."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When an execution is given up."""

    steps: int = 50_000
    """Choice points that are the strategy's; after them all take turns, and many times more are a
    livelock."""
    host_s: float = 20.0
    """Seconds of the host without a choice point: more are a hang."""
    spin: int = 12
    """Accesses in a row that were made before, with the same values: more are a spin."""


class Engine:
    """Runs `target` under choices; see the module's docstring. Close it when done."""

    def __init__(
        self, target: Target, *, granularity: str = "conflict", limits: Limits | None = None
    ) -> None:
        if granularity not in GRANULARITIES:
            raise UsageError(
                f"unknown granularity {granularity!r}: choose {', '.join(GRANULARITIES)}"
            )
        self.target = target
        self.granularity = granularity
        self.limits = limits or Limits()
        self.machine = ControlledMachine(
            self,
            calls_return=granularity == "syscall",
            step_limit=self.limits.steps,
            root=target.root,
            memory=target.memory,
            cpus=target.cpus,
            seed=target.seed,
        )
        self.maps: list[Mapping] = []
        """What was mapped before the first birth."""
        self.sources = Sources(())
        self.share_loop = True
        """Leave the loop to others between any two traps; else it is ours while an execution
        runs (some milliseconds), which is faster."""
        self.at_failure: Callable[[Process, Task | None, int], None] | None = None
        """Called with everything as the failing step has left it: a process that a signal or a
        wrong status begins to end, or that cannot go on; who did it, and the signal or 0."""
        self.callers: list[tuple[Event, int]] = []
        """While `find_callers`: for each event of a library's code, where the user called it."""
        self.find_callers = False
        """Look at every choice point for who called: slower, for a report."""
        self._strings: list[tuple[int, int]] = []
        """Code of memcpy and its kin."""
        self.executions = 0
        self.inspect: Callable[[Engine, Result], None] | None = None
        """Called at the end of each execution, before anything is put back."""
        self._strategy: Choices | None = None
        self._over: asyncio.Future[str] | None = None
        self._born: asyncio.Future[Task] | None = None
        self._root: Process | None = None
        self._streams: list[StreamOut] = []
        self._objects: ObjectRewind
        self._memory: MemoryRewind
        self._frame: bytes
        self.main: Task
        self.traps_before = 0
        """Traps of the machine before the first birth."""
        self._stub: Stub
        self._status = 0

    # -- life

    async def start(self) -> None:
        """Run the program up to its first birth.

        Raises UsageError if it cannot be run, NoThreads if it ends before.
        """
        loop = asyncio.get_running_loop()
        machine = self.machine
        await machine.start()
        machine.controlled.calls = CALL_NAMES
        assert machine._family is not None
        machine._family.keep_tlb = machine.area.check_tlb
        machine.kernel.stack_gap_bytes = PAGE_SIZE
        machine.kernel.watchdog_ns = WATCHDOG_NS
        machine.area.race.spin_limit = self.limits.spin
        self._born = loop.create_future()
        try:
            process = await machine.create_subprocess_exec(
                *self.target.args, stdin=PIPE, stdout=PIPE, stderr=PIPE,
                env=_environment(self.target.env), cwd=self.target.cwd,
            )  # fmt: skip
        except OSError as error:
            raise UsageError(f"cannot run {self.target.args[0]}: {error.strerror}") from None
        assert process.stdin is not None
        if self.target.input:
            process.stdin.write(self.target.input)
        process.stdin.close()
        ended = asyncio.ensure_future(process.wait())
        try:
            done, _ = await asyncio.wait(
                (ended, self._born), timeout=FIRST_BIRTH_S, return_when=asyncio.FIRST_COMPLETED
            )
            if self._born not in done and ended in done:
                raise NoThreads(
                    f"{self.target.args[0]} never starts a thread or a process "
                    f"(it ended with status {ended.result()}): there is nothing to explore"
                )
            if self._born not in done:
                raise UsageError(
                    f"{self.target.args[0]} starts no thread within {FIRST_BIRTH_S:.0f} s"
                )
        finally:  # also if this is cancelled: nobody else would await it
            ended.cancel()
            await asyncio.gather(ended, return_exceptions=True)
        self._freeze(self._born.result(), process)

    def _freeze(self, task: Task, process: Any) -> None:
        machine = self.machine
        kernel = machine.kernel
        if kernel.sched.jobs:
            raise MachineError("the machine is not at rest before the first birth")
        self.main = task
        assert task.stub is not None
        if kernel.physmem.u64[task.stub.u64 + GS_BASE]:
            raise UsageError(f"{self.target.args[0]} sets GS, which exploring needs for itself")
        self._stub = task.stub
        self._root = task.process
        self._look_up(task)
        if setter := sets_gs(self.sources):
            raise UsageError(
                f"{self.target.args[0]} sets GS ({setter}), which exploring needs for itself"
            )
        for name, _ in process._streams._names:
            stream = kernel.roots[name]
            if isinstance(stream, StreamOut):
                stream.on_data = None
                self._streams.append(stream)
        kernel.on_exit = self._on_exit
        kernel.on_group_exit = self._on_group_exit
        machine._processes.clear()
        machine.controlled.control_blocks.append(kernel.physmem.u64[task.stub.u64 + FS_BASE])
        self._frame = save_trap(kernel.physmem, task.stub)
        self.traps_before = kernel.sched.traps
        area = machine.area
        self._objects = ObjectRewind(kernel)
        self._memory = MemoryRewind(kernel.frames, (area.offset, area.size))
        # Executions begin with an empty Tlb, the first one too.
        lib.uvm_stub_shootdown_all(task.stub.mailbox)

    async def close(self) -> None:
        """The machine is gone, and with it everything. Idempotent."""
        await self.machine.close()

    # -- one execution

    async def execute(
        self, strategy: Choices, *, mode: str = "listed", record: bool = False
    ) -> Result:
        """From the first birth to the end. `mode`: "all" finds what tasks share, "listed" watches
        what is known. `record`: the result has all events."""
        if not self.share_loop:
            await asyncio.sleep(0)  # it has a turn between executions at least
        if self.executions:
            self._back()
        self.executions += 1
        machine = self.machine
        area = machine.area
        if self.granularity == "syscall":
            mode = "off"
        area.begin(MODES[mode])
        area.race.found = 1
        area.set_task(self._stub.slot, 0)
        self._strategy = strategy
        self.callers.clear()
        machine.controlled.watcher = self._note_caller if self.find_callers else None
        over = self._over = asyncio.get_running_loop().create_future()
        self._status = 0
        sched = machine.kernel.sched
        sched._armed_ns = 0
        sched.thawed_run()
        try:
            why = await self._until_over(over)
        finally:
            over.cancel()  # nobody listens any more
        if why == "hang":
            await self._stop()
        self._over = None
        if machine._failure is not None:
            raise MachineError(f"the machine has failed: {machine._failure!r}")
        jobs = list(sched.jobs.values())
        if jobs:
            await asyncio.wait(jobs)
        result = self._result(why, record)
        if self.inspect is not None:
            self.inspect(self, result)
        return result

    async def _until_over(self, over: asyncio.Future[str]) -> str:
        """Why the execution is over. Unless `share_loop`, this thread sleeps in the host's kernel
        for each trap, and looks at its loop only now and then, or when the host has work to do."""
        loop = asyncio.get_running_loop()
        patience = _Patience(self.limits.host_s, self.machine, loop.time())
        sched = self.machine.kernel.sched
        family = self.machine._family
        assert family is not None
        while not self.share_loop and not over.done() and not sched.jobs:
            if not family.wait():
                await asyncio.sleep(0)
                if patience.ends(loop.time()):
                    return "hang"
        while not over.done():
            await asyncio.wait((over,), timeout=max(patience.deadline - loop.time(), 0))
            if not over.done() and patience.ends(loop.time()):
                return "hang"
        return over.result()

    def _result(self, why: str, record: bool) -> Result:
        controlled = self.machine.controlled
        race = self.machine.area.race
        status = self._status
        if why == "exit":
            signo = status & 0x7F
            failure = signal.Signals(signo).name if signo else ""
            if not signo and status >> 8:
                failure = f"exit status {status >> 8}"
        else:
            failure = why
        return Result(
            failure=failure,
            status=status,
            steps=int(race.step),
            switches=dict(controlled.switches),
            preemptions=controlled.preemptions,
            events=self.machine.area.events(CALL_NAMES) if record else [],
            stdout=bytes(self._streams[0].buffer),
            stderr=bytes(self._streams[1].buffer),
        )

    async def _stop(self) -> None:
        """A task computes and never traps: take it off its vCPU."""
        sched = self.machine.kernel.sched
        sched.stopped = True
        current = sched.vcpus[0].current
        if current is None or current.stub is None:
            return
        self.machine._family.kick(current.stub, preempt=True)  # type: ignore[union-attr]
        for _ in range(2000):
            if self.machine.kernel.physmem.u32[current.stub.u32] == lib.UVM_STATE_TRAPPED:
                return
            await asyncio.sleep(0.001)
        raise MachineError("a stub cannot be stopped")

    def _back(self) -> None:
        """Everything as it was before the first birth."""
        machine = self.machine
        kernel = machine.kernel
        family = machine._family
        assert family is not None
        for task in kernel.tasks.values():
            if task.coroutine is not None:
                coroutine, task.coroutine = task.coroutine, None
                coroutine.close()
            if task.stub is not None:
                task.stub.task = None
        self._memory.back()
        self._objects.back()
        physmem = kernel.physmem
        stub = self._stub
        if stub.dead:
            stub = self._stub = next(s for s in family.pool if s is not stub)
        family.pool = sorted(
            (s for s in family.stubs.values() if s is not stub), key=lambda s: -s.slot
        )
        for other in family.pool:
            other.task = None
            if physmem.u64[other.u64 + PGD] != physmem.size:
                machine.area.check_tlb(other.slot)
                physmem.u64[other.u64 + PGD] = physmem.size
        main = self.main
        main.stub = stub
        stub.task = main
        load_trap(physmem, stub, self._frame, kernel.wake_mask)
        set_pgd(physmem, stub, main.mm.pgd)
        machine.area.check_tlb(stub.slot)

    # -- what the policy asks (controlled.Chooser)

    def choose(self, point: Point) -> int:
        assert self._strategy is not None
        return self._strategy.choose(point)

    def lease(self) -> int:
        assert self._strategy is not None
        return self._strategy.lease()

    def first_birth(self, task: Task) -> bool:
        assert self._born is not None
        self.machine.kernel.sched.stopped = True
        self._born.set_result(task)
        return True

    def over(self, why: str) -> None:
        if self.at_failure is not None and why != "exit" and self._root is not None:
            look, self.at_failure = self.at_failure, None
            look(self._root, None, 0)
        self.machine.kernel.sched.stopped = True
        if self._over is not None and not self._over.done():
            self._over.set_result(why)

    def _on_group_exit(self, task: Task, status: int) -> None:
        if self.at_failure is not None and task.process is self._root and status:
            look, self.at_failure = self.at_failure, None
            look(task.process, task, status & 0x7F)

    def _on_exit(self, process: Process, status: int) -> None:
        if process is self._root:
            self._status = status
            self.over("exit")

    def instruction(self, task: Task, addr: int) -> None:
        stub = task.stub
        assert stub is not None
        ip = task.kernel.physmem.u64[stub.regs + r.RIP]
        code = task.mm.peek(ip, MAX_BYTES)
        area = self.machine.area
        number = int(area.race.code_count)
        user = self.granularity == "all" or not self._is_library(task, ip)
        choice = user or (not self.target.only and self._is_string(ip))
        insn, out_of_line = decode(
            code, ip, number, area.code_address(number), choice=choice, user=user
        )
        area.install(insn, out_of_line)

    def _note_caller(self, task: Task, event: Event) -> None:
        """Who of the user's called the library code that `task` stands in: the nearest word of the
        stack that follows a call instruction of the user's."""
        stub = task.stub
        if stub is None or (event.is_access and not self._is_library(task, event.ip)):
            return
        sp = task.kernel.physmem.u64[stub.regs + r.RSP]
        stack = task.mm.peek(sp, CALLER_STACK_BYTES)
        for at in range(0, len(stack) - 7, 8):
            ip = int.from_bytes(stack[at : at + 8], "little")
            if not self.sources.file_at(ip - 1) or self.sources.is_library(ip - 1):
                continue
            if ends_with_call(task.mm.peek(ip - MAX_CALL_BYTES, MAX_CALL_BYTES)):
                self.callers.append((event, ip))
                return

    def learn(self) -> bool:
        """What tasks turned out to share is watched from the next execution on, but for what is a
        library's own affair: words that no user code touches, in the library's data or in the
        control block of a thread. Answers whether there was anything."""
        area = self.machine.area
        blocks = self.machine.controlled.control_blocks
        active = False
        for word, user in area.found():
            addr = word * 8
            own = not user and (
                any(block - TLS_BYTES <= addr < block + CONTROL_BLOCK_BYTES for block in blocks)
                or self.sources.is_library_data(addr)
                or addr % ARENA_BYTES < ARENA_HEADER_BYTES
                or bool(self.target.only)
            )
            area.settle(word, active=not own)
            active = active or not own
        return active

    def processes(self) -> dict[int, int]:
        """task -> the task that leads its process: who shares all memory with whom."""
        leaders: dict[int, int] = {}
        result: dict[int, int] = {}
        for task, number in self.machine.controlled.numbers.items():
            result[number] = leaders.setdefault(task.process.pid, number)
        return result

    def _is_library(self, task: Task, ip: int) -> bool:
        """Code of libc and its kin; what is mapped is looked up anew if `ip` is not known."""
        if not self.sources.covers(ip):
            self._look_up(task)
        if self.target.only:
            return os.path.basename(self.sources.file_at(ip)) not in self.target.only
        return self.sources.is_library(ip)

    def _is_string(self, ip: int) -> bool:
        """Code of memcpy and its kin: its accesses are its caller's."""
        return is_string_function(self.sources.place(ip).function) or any(
            start <= ip < end for start, end in self._strings
        )

    def _look_up(self, task: Task) -> None:
        self.maps = mappings_of(task)
        self.sources = Sources(self.maps)
        self._strings = string_ranges(self.maps, task.mm.peek)

    def refused(self, task: Task, addr: int) -> None:
        stub = task.stub
        assert stub is not None
        ip = task.kernel.physmem.u64[stub.regs + r.RIP]
        self.impossible(f"the instruction at {ip:#x} cannot be run on shared memory ({addr:#x})")

    def impossible(self, why: str) -> None:
        self.machine.kernel.sched.stopped = True
        if self._over is not None and not self._over.done():
            self._over.set_exception(MachineError(why))


class _Patience:
    """How long to wait for an execution: as long as it passes choice points, whose number has an
    end of its own; and, where all memory is watched and no word is known yet, several times longer
    while it makes accesses."""

    def __init__(self, seconds: float, machine: ControlledMachine, now: float) -> None:
        self._seconds = seconds
        self._race = machine.area.race
        self._controlled = machine.controlled
        self._step = self._watched = 0
        self._longer = TOUCHES_TIMES
        self.deadline = now + seconds

    def ends(self, now: float) -> bool:
        """Is it over? Else there is another `deadline`."""
        if now < self.deadline:
            return False
        step = int(self._race.step) - self._controlled.forced
        watched = int(self._race.watched)
        if step == self._step:
            self._longer -= 1
            if watched == self._watched or self._race.mode != lib.UVM_RACE_ALL or not self._longer:
                return True
        self._step, self._watched = step, watched
        self.deadline = now + self._seconds
        return False


def _environment(given: MappingType[str, str]) -> dict[str, str]:
    """With what makes a run repeatable, and sanitizers fit for it."""
    asan = ":".join(filter(None, (NO_LEAKS, given.get(ASAN, ""))))
    return {**given, **LD_BIND_NOW, ASAN: asan}


def mappings_of(task: Task) -> list[Mapping]:
    """What is mapped in a task's memory, as /proc/PID/maps has it."""
    found = []
    for line in show_maps(task).decode(errors="surrogateescape").splitlines():
        extent, _, offset, _, _, *path = line.split(maxsplit=5)
        start, _, end = extent.partition("-")
        found.append(
            Mapping(int(start, 16), int(end, 16), int(offset, 16), path[0] if path else "")
        )
    return found
