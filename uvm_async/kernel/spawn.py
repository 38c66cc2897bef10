"""Programs started from outside, and coroutines run outside any task.

Linux: kernel/umh.c (call_usermodehelper).  A program that the embedder starts is
a child of init (process 1), which is the kernel itself: what others see of it is a
task that sleeps, has no memory and never runs, and children that nobody waits for
vanish at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from uvm_async.arch.regs import blank_frame, set_pgd
from uvm_async.errors import Errno
from uvm_async.fs.fdtable import FdTable
from uvm_async.fs.fsstruct import FsStruct
from uvm_async.kernel.cred import Cred
from uvm_async.kernel.exec import do_execve
from uvm_async.kernel.signal import PendingSignals, SigHand
from uvm_async.kernel.task import Process, Task, TaskState
from uvm_async.mm.mm import Mm
from uvm_async.sched.wait import Host, Wait

if TYPE_CHECKING:
    from uvm_async.fs.inode import File
    from uvm_async.kernel.kernel import Kernel

__all__ = ["Program", "give_init_a_task", "make_init", "run_outside", "spawn"]

T = TypeVar("T")
INFINITY: Final = (1 << 64) - 1
NOFILE: Final = 1 << 20
EXEC_FAILED: Final = 127


@dataclass(slots=True)
class Program:
    """What to start, as execve(2) wants it."""

    path: list[bytes]
    """Candidates, tried in order (a search along PATH)."""
    argv: list[bytes]
    envp: list[bytes]
    files: dict[int, File]
    """Open files by descriptor; their references pass to the new process."""
    cred: Cred
    prepare: Callable[[Task], Coroutine[Any, Any, None]] | None = None
    """Done in the new task before it executes anything; its errors are the program's."""
    umask: int = 0o022
    new_session: bool = True
    tty: Any = None
    rlimits: dict[int, tuple[int, int]] = field(default_factory=dict)


def default_rlimits() -> dict[int, tuple[int, int]]:
    """What Linux gives init, and what distributions make of it."""
    limits = dict.fromkeys(range(16), (INFINITY, INFINITY))
    limits[3] = (8 << 20, INFINITY)
    limits[4] = (0, INFINITY)
    limits[6] = (INFINITY, INFINITY)
    limits[7] = (1024, NOFILE)
    limits[8] = (8 << 20, 8 << 20)
    limits[11] = (65536, 65536)
    limits[12] = (819200, 819200)
    limits[13] = limits[14] = (0, 0)
    return limits


def make_init(kernel: Kernel) -> Process:
    """Process 1: parent of last resort."""
    pid = kernel.alloc_pid()
    init = Process(pid, None)
    init.pending = PendingSignals()
    init.rlimits = default_rlimits()
    kernel.processes[pid] = init
    kernel.init = init
    return init


def give_init_a_task(kernel: Kernel) -> None:
    """What /proc/1 and the calls that take a pid find; there must be a root directory."""
    init = kernel.init
    assert init is not None
    task = Task(kernel, init.pid, init)
    task.comm = b"init"
    task.state = TaskState.BLOCKED
    task.mm = Mm(kernel.frames, kernel.tlb)  # nobody uses it: no memory, as a kernel thread
    task.fs = FsStruct(kernel.mounts.root_path())
    task.files = FdTable()
    task.cred = Cred()
    task.sighand = SigHand()
    task.pending = PendingSignals()
    init.leader = task
    kernel.tasks[init.pid] = task


async def _become(task: Task, program: Program, failed: Callable[[Errno], None]) -> None:
    failure: Errno = Errno.ENOENT()
    if program.prepare is not None:
        try:
            await program.prepare(task)
        except Errno as error:
            task.process.exit_code = EXEC_FAILED << 8
            failed(error)
            return
    for path in program.path:
        try:
            await do_execve(task, path, program.argv, program.envp)
            if task.kernel.observer is not None:
                task.kernel.observer.executed(task, path, program.argv, program.envp)
            return
        except Errno as error:
            if task.process.exit_code is not None:
                return  # it was executed, and died of it
            # execvp(3): go on looking, but remember what was found and could not be run.
            if isinstance(error, (Errno.ENOENT, Errno.ENOTDIR)):
                continue
            if isinstance(error, Errno.EACCES):
                failure = error
                continue
            failure = error
            break
    task.process.exit_code = EXEC_FAILED << 8
    failed(failure)


async def spawn(
    kernel: Kernel, program: Program, failed: Callable[[Errno], None]
) -> tuple[Process, Task]:
    """Make a process that will execute `program`; `failed` is called if it cannot be executed.

    To be driven by `run_outside`. Raises EAGAIN, ENOMEM.
    """
    init = kernel.init
    assert init is not None
    stub = await kernel.acquire_stub()
    try:
        mm = Mm(kernel.frames, kernel.tlb)
        pid = kernel.alloc_pid()
    except BaseException:
        kernel.family.give_back(stub)
        raise
    process = Process(pid, init)
    process.pending = PendingSignals()
    process.rlimits.update(program.rlimits)
    if program.new_session:
        process.session = process.pgrp = pid
    process.tty = program.tty
    init.children.append(process)
    task = Task(kernel, pid, process)
    task.comm = program.path[0].rsplit(b"/", 1)[-1][:15]
    task.mm = mm
    mm.tasks.append(task)
    mm.users += 1
    root = kernel.mounts.root_path()
    task.fs = FsStruct(root, root, program.umask)
    task.files = FdTable()
    for fd, file in sorted(program.files.items()):
        task.files.install(file, NOFILE, start=fd)
    task.cred = program.cred
    task.sighand = SigHand()
    task.pending = PendingSignals()
    task.start_ns = process.start_ns = kernel.clock.monotonic_ns()
    process.leader = task
    process.tasks.append(task)
    kernel.tasks[pid] = task
    kernel.processes[pid] = process
    task.stub = stub
    stub.task = task
    blank_frame(kernel.physmem, stub, 0, 0, kernel.wake_mask)
    set_pgd(kernel.physmem, stub, mm.pgd)
    task.phase = "spawn"
    task.coroutine = _become(task, program, failed)
    kernel.sched.start(task)
    return process, task


class _Outside:
    """A waiter that is an asyncio future."""

    def __init__(self, request: Wait) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.queue = request.queue
        self.queue.waiters[self] = None

    def wake(self) -> None:
        self.queue.waiters.pop(self, None)
        if not self.future.done():
            self.future.set_result(None)


async def run_outside(coroutine: Coroutine[Any, Any, T]) -> T:
    """Drive a kernel coroutine that belongs to no task (boot, mounts, sync at the end), from
    asyncio. It must not sleep interruptibly."""
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            request = coroutine.throw(error) if error is not None else coroutine.send(value)
        except StopIteration as stop:
            result: T = stop.value
            return result
        value = error = None
        try:
            if isinstance(request, Host):
                value = await request.awaitable
            elif isinstance(request, Wait):
                await _Outside(request).future
            else:
                raise TypeError(f"nobody can wake {request!r} outside a task")
        except BaseException as failure:
            error = failure
