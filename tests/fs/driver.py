"""Runs kernel coroutines without a machine: a kernel, tasks and memory that are just enough.

`Sim.call(task, coroutine)` runs to the end or to an interruptible sleep; a task that
sleeps is run again from its top when something wakes it, as the scheduler does it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from uvm_async.arch.physmem import Physmem
from uvm_async.errors import Errno
from uvm_async.fs.fdtable import FdTable
from uvm_async.fs.fsstruct import FsStruct
from uvm_async.fs.inode import Path
from uvm_async.fs.mount import MS_RELATIME, MountTable
from uvm_async.fs.registry import MountRequest
from uvm_async.fs.tmpfs import mount_tmpfs
from uvm_async.kernel.cred import Cred
from uvm_async.kernel.signal import PendingSignals
from uvm_async.mm.frames import Frames
from uvm_async.sched.timers import Timers
from uvm_async.sched.wait import Block, Host, Interrupted, Wait
from uvm_async.state import Entity

PAGE = 4096


class Clock(Entity):
    """Time passes by a microsecond each time somebody looks."""

    def __init__(self) -> None:
        self.now_ns = 1_700_000_000_000_000_000

    def realtime_ns(self) -> int:
        self.now_ns += 1000
        return self.now_ns

    def monotonic_ns(self) -> int:
        self.now_ns += 1000
        return self.now_ns - 1_600_000_000_000_000_000


class FakeScheduler(Entity):
    """Timers are looked at whenever time passes, so there is nothing to poke."""

    def poke(self) -> None: ...


class FakeKernel(Entity):
    """What file systems see of a kernel."""

    def __init__(self, frames: Frames) -> None:
        self.clock = Clock()
        self.frames = frames
        self.timers = Timers()
        self.sched = FakeScheduler()
        self.mounts = MountTable()
        self.host_trees: list[object] = []
        self.signals: list[tuple[int, int]] = []
        self.anon_devs = 40

    def next_anon_dev(self) -> int:
        self.anon_devs += 1
        return self.anon_devs

    def send_signal(self, task: FakeTask, sig: int) -> None:
        self.signals.append((task.pid, sig))


def user(uid: int, gid: int, *groups: int) -> Cred:
    """Somebody without capabilities."""
    return Cred(uid, uid, uid, uid, gid, gid, gid, gid, groups, 0, 0)


class FakeMm(Entity):
    """Memory of 1 MiB at `BASE`; all else is a bad address. Absent pages must be faulted in."""

    BASE = 0x10000
    SIZE = 1 << 20

    def __init__(self) -> None:
        self.memory = bytearray(self.SIZE)
        self.absent: dict[int, None] = {}
        self.next_free = 0

    def alloc(self, data: bytes | int) -> int:
        """Room for `data` (or so many bytes); answers its address."""
        size = data if isinstance(data, int) else len(data)
        start = self.next_free
        self.next_free = (start + size + 63) & ~63
        assert self.next_free <= self.SIZE, "the test uses too much memory"
        self.memory[start : start + size] = bytes(size) if isinstance(data, int) else data
        return self.BASE + start

    def string(self, text: bytes) -> int:
        return self.alloc(text + b"\0")

    def peek(self, addr: int, count: int) -> bytes:
        return bytes(self.memory[addr - self.BASE : addr - self.BASE + count])

    def _reach(self, addr: int, count: int) -> int:
        """How many of the bytes are there."""
        if not self.BASE <= addr < self.BASE + self.SIZE:
            return 0
        stop = min(addr + count, self.BASE + self.SIZE)
        for page in range(addr // PAGE, -(-stop // PAGE)):
            if page in self.absent:
                return max(page * PAGE - addr, 0)
        return stop - addr

    async def fault_in(self, addr: int, count: int, *, write: bool) -> int:
        for page in range(addr // PAGE, -(-(addr + count) // PAGE)):
            self.absent.pop(page, None)
        return self._reach(addr, count)

    def copy_to_user_atomic(self, addr: int, data: bytes | memoryview) -> int:
        count = self._reach(addr, len(data))
        at = addr - self.BASE
        self.memory[at : at + count] = data[:count]
        return count

    def copy_from_user_atomic(self, addr: int, count: int) -> bytes:
        count = self._reach(addr, count)
        return self.peek(addr, count)

    async def copy_to_user(self, addr: int, data: bytes | bytearray) -> None:
        if data and await self.fault_in(addr, len(data), write=True) < len(data):
            raise Errno.EFAULT
        self.copy_to_user_atomic(addr, bytes(data))

    async def copy_from_user(self, addr: int, count: int) -> bytes:
        if count and await self.fault_in(addr, count, write=False) < count:
            raise Errno.EFAULT
        return self.peek(addr, count)

    async def get_u64(self, addr: int) -> int:
        return int.from_bytes(await self.copy_from_user(addr, 8), "little")

    async def strndup_user(self, addr: int, limit: int) -> bytes:
        reach = await self.fault_in(addr, 1, write=False)
        if not reach:
            raise Errno.EFAULT
        text = self.peek(addr, min(limit, self.BASE + self.SIZE - addr))
        return text.split(b"\0", 1)[0]

    async def get_path(self, addr: int) -> bytes:
        text = await self.strndup_user(addr, PAGE)
        if len(text) >= PAGE:
            raise Errno.ENAMETOOLONG
        return text


class FakeProcess(Entity):
    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.rlimits: dict[int, tuple[int, int]] = {}
        self.pending = PendingSignals()
        self.stopped_by = 0


class FakeTask(Entity):
    """A task, with the call that it is in."""

    def __init__(self, kernel: FakeKernel, pid: int, fs: FsStruct, files: FdTable) -> None:
        self.kernel = kernel
        self.pid = pid
        self.process = FakeProcess(pid)
        self.fs = fs
        self.files = files
        self.cred = Cred()
        self.mm = FakeMm()
        self.restart: Any = None
        self.blocked = 0
        self.saved_blocked: int | None = None
        self.pending = PendingSignals()
        self.signal_pending = False
        self.standing: tuple[Any, ...] = ()
        self.deadline_ns: int | None = None
        self.woken = False

    def abandon_restart(self) -> None:
        restart, self.restart = self.restart, None
        if hasattr(restart, "abandon"):
            restart.abandon()

    def wake(self) -> None:
        for queue in self.standing:
            queue.waiters.pop(self, None)
        self.standing = ()
        self.woken = True


class Resumed:
    """An uninterruptible sleeper's place in a queue."""

    def __init__(self, queue: Any) -> None:
        self.queue = queue
        self.woken = False

    def wake(self) -> None:
        self.queue.waiters.pop(self, None)
        self.woken = True


Make = Callable[[], Coroutine[Any, Any, Any]]


@dataclass(slots=True)
class Call:
    """A system call in progress."""

    task: FakeTask
    make: Make
    coroutine: Coroutine[Any, Any, Any] | None = None
    waiting: Resumed | None = None
    result: Any = None
    error: BaseException | None = None
    done: bool = False
    runs: int = 0
    to_send: Any = None
    to_throw: BaseException | None = None

    @property
    def blocked(self) -> bool:
        return not self.done

    def answer(self) -> Any:
        """Its result; its error is raised. It must have ended."""
        assert self.done, "the call sleeps"
        if self.error is not None:
            raise self.error
        return self.result


@dataclass(slots=True)
class Sim:
    """A kernel with a tmpfs as its root, and the loop that drives calls."""

    kernel: FakeKernel
    physmem: Physmem
    calls: list[Call] = field(default_factory=list)
    pids: int = 0

    @classmethod
    def boot(cls, memory: int = 16 << 20) -> Sim:
        physmem = Physmem.create(memory, 1)
        kernel = FakeKernel(Frames(physmem))
        sim = cls(kernel, physmem)
        sb = sim.finish(mount_tmpfs(kernel, b"tmpfs", {b"mode": b"755"}, MountRequest()))
        sim.finish(kernel.mounts.attach(sb, None, MS_RELATIME))
        return sim

    def close(self) -> None:
        self.physmem.close()

    @property
    def root(self) -> Path:
        return self.kernel.mounts.root_path()

    def task(self, *, like: FakeTask | None = None, threads: bool = False) -> FakeTask:
        """A task of its own, a copy as fork makes it, or a thread."""
        self.pids += 1
        if like is None:
            return FakeTask(self.kernel, self.pids, FsStruct(self.root), FdTable())
        if threads:
            task = FakeTask(self.kernel, self.pids, like.fs.share(), like.files.share())
            task.process, task.mm = like.process, like.mm
        else:
            task = FakeTask(self.kernel, self.pids, like.fs.copy(), like.files.copy())
        task.cred = like.cred
        return task

    # -- driving

    def start(self, task: FakeTask, make: Make) -> Call:
        """Begin a call and run everything that can run."""
        task.restart = None
        call = Call(task, make)
        self.calls.append(call)
        self._run(call)
        self.settle()
        return call

    def run(self, task: FakeTask, make: Make) -> Any:
        """A call that must end without sleeping interruptibly; answers its result."""
        call = self.start(task, make)
        if not call.done:
            self.calls.remove(call)
            raise AssertionError("the call sleeps")
        return call.answer()

    def finish(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Drive a coroutine that is no system call and never sleeps interruptibly."""
        answer = None
        try:
            while True:
                request = coroutine.send(answer)
                assert isinstance(request, Host), f"sleeps: {request}"
                answer = asyncio.run(_of(request.awaitable))
        except StopIteration as stop:
            return stop.value

    def signal(self, task: FakeTask) -> None:
        """A signal becomes pending: the task's sleep ends in EINTR or a partial count."""
        task.signal_pending = True
        task.wake()
        self.settle()
        task.signal_pending = False

    def pass_time(self, nanoseconds: int) -> None:
        """Time goes by; sleeps whose deadline has come end."""
        self.kernel.clock.now_ns += nanoseconds
        now = self.kernel.clock.monotonic_ns()
        self.kernel.timers.expire(now)
        for call in self.calls:
            deadline = call.task.deadline_ns
            if not call.done and deadline is not None and deadline <= now:
                call.task.wake()
        self.settle()

    def settle(self) -> None:
        """Run calls that were woken, in order, until all sleep or have ended."""
        ran = True
        while ran:
            ran = False
            for call in list(self.calls):
                if call.done:
                    self.calls.remove(call)
                elif call.waiting is not None and call.waiting.woken:
                    call.waiting = None
                    self._step(call)
                    ran = True
                elif call.coroutine is None and call.task.woken:
                    self._run(call)
                    ran = True

    def _run(self, call: Call) -> None:
        call.task.woken = False
        call.task.deadline_ns = None
        call.runs += 1
        call.coroutine = call.make()
        self._step(call)

    def _step(self, call: Call) -> None:
        assert call.coroutine is not None
        try:
            while True:
                if call.to_throw is not None:
                    error, call.to_throw = call.to_throw, None
                    request = call.coroutine.throw(error)
                else:
                    value, call.to_send = call.to_send, None
                    request = call.coroutine.send(value)
                if not self._serve(call, request):
                    return
        except StopIteration as stop:
            call.result = stop.value
        except (Errno, Interrupted) as error:
            call.error = error
        self._end(call)

    def _serve(self, call: Call, request: object) -> bool:
        """Serve a request; True if the coroutine goes on at once."""
        task = call.task
        if isinstance(request, Host):
            try:
                call.to_send = asyncio.run(_of(request.awaitable))
            except Exception as error:
                call.to_throw = error
            return True
        if isinstance(request, Wait):
            call.waiting = Resumed(request.queue)
            request.queue.waiters[call.waiting] = None  # type: ignore[index]
            return False
        assert isinstance(request, Block)
        if task.signal_pending:
            call.to_throw = Interrupted(request.restart)
            return True
        task.standing = request.queues
        task.deadline_ns = request.deadline_ns
        for queue in request.queues:
            queue.waiters[task] = None  # type: ignore[index]
        assert call.coroutine is not None
        call.coroutine.close()
        call.coroutine = None
        return False

    def _end(self, call: Call) -> None:
        call.done = True
        call.coroutine = None
        call.task.abandon_restart()
        if call.task.saved_blocked is not None:
            call.task.blocked, call.task.saved_blocked = call.task.saved_blocked, None


async def _of(awaitable: Any) -> Any:
    return await awaitable
