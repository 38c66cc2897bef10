"""How tasks are born: fork, vfork, clone, threads.

Linux: kernel/fork.c, man 2 clone.

A child is its parent's trap frame, copied onto a blank stub's stack with rax 0,
and an address space that is copied or shared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from uvm_async.arch import registers as r
from uvm_async.arch.regs import load_frame, save_frame, set_pgd, set_prefill
from uvm_async.arch.stub import FS_BASE
from uvm_async.errors import Errno
from uvm_async.fs.fdtable import fd_install, nofile_limit
from uvm_async.fs.pidfd import PidFile
from uvm_async.kernel.itimer import NO_LIMIT, arm_cpu_limit
from uvm_async.kernel.signal import PendingSignals
from uvm_async.kernel.task import Process, Task
from uvm_async.sched.wait import WaitQueue, block_on

if TYPE_CHECKING:
    from uvm_async.arch.stub import Stub
    from uvm_async.kernel.kernel import Kernel

__all__ = ["CloneArgs", "do_clone"]

CSIGNAL: Final = 0xFF
CLONE_VM: Final = 0x100
CLONE_FS: Final = 0x200
CLONE_FILES: Final = 0x400
CLONE_SIGHAND: Final = 0x800
CLONE_PIDFD: Final = 0x1000
CLONE_VFORK: Final = 0x4000
CLONE_PARENT: Final = 0x8000
CLONE_THREAD: Final = 0x10000
CLONE_NEWNS: Final = 0x20000
CLONE_SYSVSEM: Final = 0x40000
CLONE_SETTLS: Final = 0x80000
CLONE_PARENT_SETTID: Final = 0x100000
CLONE_CHILD_CLEARTID: Final = 0x200000
CLONE_DETACHED: Final = 0x400000
CLONE_CHILD_SETTID: Final = 0x1000000
NEW_NAMESPACES: Final = 0x7E020000 | 0x80
RLIMIT_NPROC: Final = 6
STACK_TOP_BYTES: Final = 64


@dataclass(slots=True)
class CloneArgs:
    """clone(2)'s arguments."""

    flags: int
    stack: int = 0
    parent_tid: int = 0
    child_tid: int = 0
    tls: int = 0
    exit_signal: int = 17
    pidfd: int = 0
    """Where the child's pidfd goes (CLONE_PIDFD)."""


class VforkWait:
    """A vforking parent's restart: whom it waits for."""

    def __init__(self, child: Process, pid: int) -> None:
        self.child = child
        self.pid = pid


def _check(flags: int) -> None:
    if flags & CLONE_THREAD and not flags & CLONE_SIGHAND:
        raise Errno.EINVAL
    if flags & CLONE_SIGHAND and not flags & CLONE_VM:
        raise Errno.EINVAL
    if flags & CLONE_FS and flags & CLONE_NEWNS:
        raise Errno.EINVAL
    if flags & NEW_NAMESPACES or (flags & CLONE_PIDFD and flags & CLONE_DETACHED):
        raise Errno.EINVAL


async def do_clone(task: Task, args: CloneArgs) -> int:
    """Make a child; answers its tid. Raises EINVAL, EAGAIN, ENOMEM."""
    waiting = task.restart
    if isinstance(waiting, VforkWait):
        return await _vfork_wait(task, waiting)
    flags = args.flags
    _check(flags)
    kernel = task.kernel
    if kernel.stack_gap_bytes and flags & CLONE_VM and args.stack:
        await _lower_stack(task, args)
    if flags & CLONE_PIDFD:
        await _check_pidfd(task, args)
    stub = await kernel.acquire_stub()
    try:
        child = await _copy_task(task, args, stub)
    except BaseException:
        kernel.family.give_back(stub)
        raise
    if flags & CLONE_PIDFD:
        await _install_pidfd(task, child, args)
    if flags & CLONE_PARENT_SETTID:
        await _store_tid(task, args.parent_tid, child.pid)
    if flags & CLONE_CHILD_SETTID:
        await _store_tid(child, args.child_tid, child.pid)
    kernel.forks += 1
    if flags & CLONE_VFORK:
        child.process.vfork_done = WaitQueue()
        task.restart = VforkWait(child.process, child.pid)
    kernel.sched.start(child)
    if flags & CLONE_VFORK:
        return await _vfork_wait(task, task.restart)
    return child.pid


async def _lower_stack(task: Task, args: CloneArgs) -> None:
    """Controlled machines: a thread's stack begins `stack_gap_bytes` lower than asked, so that it
    shares no page with what its creator has written above (glibc's struct pthread). What stands
    at the top (clone(3)'s function and argument) moves along."""
    gap = task.kernel.stack_gap_bytes
    lower = args.stack - gap
    vma = task.mm.find(lower)
    if vma is None or not vma.start <= lower - 4 * gap or args.stack > vma.end:
        return
    top = task.mm.peek(args.stack, min(STACK_TOP_BYTES, vma.end - args.stack))
    await task.mm.fault_in(lower, len(top), write=True)
    if task.mm.poke(lower, top) < len(top):
        raise Errno.EFAULT
    args.stack = lower


async def _check_pidfd(task: Task, args: CloneArgs) -> None:
    """Find out before there is a child what would go wrong. Raises EINVAL, EMFILE, EFAULT."""
    if args.flags & CLONE_PARENT_SETTID and args.pidfd == args.parent_tid:
        raise Errno.EINVAL
    task.files.check_room(nofile_limit(task))
    if await task.mm.fault_in(args.pidfd, 4, write=True) < 4:
        raise Errno.EFAULT


async def _install_pidfd(task: Task, child: Task, args: CloneArgs) -> None:
    thread = child if args.flags & CLONE_THREAD else None
    file = PidFile(task.kernel, child.process, thread, 0)
    fd = fd_install(task, file, cloexec=True)
    await task.mm.copy_to_user(args.pidfd, fd.to_bytes(4, "little"))


async def _vfork_wait(task: Task, waiting: VforkWait) -> int:
    queue = waiting.child.vfork_done
    if queue is not None:
        await block_on(queue, restart="killable")
    return waiting.pid


async def _store_tid(task: Task, addr: int, tid: int) -> None:
    try:
        await task.mm.copy_to_user(addr, tid.to_bytes(4, "little"))
    except Errno.EFAULT:
        return  # as Linux: the child lives on


async def _copy_task(task: Task, args: CloneArgs, stub: Stub) -> Task:
    kernel = task.kernel
    flags = args.flags
    limit = task.process.rlimits.get(RLIMIT_NPROC, (1 << 63, 0))[0]
    if len(kernel.tasks) >= limit and not task.cred.capable(24):
        raise Errno.EAGAIN
    mm = task.mm if flags & CLONE_VM else await task.mm.fork(task)
    try:
        pid = kernel.alloc_pid()
    except Errno:
        if mm is not task.mm:
            await mm.destroy()
        raise
    if flags & CLONE_THREAD:
        process = task.process
    else:
        parent = task.process.parent if flags & CLONE_PARENT else task.process
        process = _new_process(kernel, pid, task.process, parent)
        process.exit_signal = args.exit_signal
    child = Task(kernel, pid, process)
    child.comm = task.comm
    child.mm = mm
    mm.tasks.append(child)
    mm.users += 1
    child.files = task.files.share() if flags & CLONE_FILES else task.files.copy()
    child.fs = task.fs.share() if flags & CLONE_FS else task.fs.copy()
    child.cred = task.cred
    if flags & CLONE_SIGHAND:
        child.sighand = task.sighand
        child.sighand.users += 1
    else:
        child.sighand = task.sighand.copy()
    child.pending = PendingSignals()
    child.blocked = task.blocked
    if not flags & CLONE_VM or flags & CLONE_VFORK:
        child.altstack = task.altstack
    child.nice = task.nice
    child.sched_policy = task.sched_policy
    child.cpus_allowed = task.cpus_allowed
    child.vruntime_ns = task.vruntime_ns
    child.start_ns = kernel.clock.monotonic_ns()
    if flags & CLONE_CHILD_CLEARTID:
        child.clear_child_tid = args.child_tid
    if process.leader is None:
        process.leader = child
        process.start_ns = child.start_ns
    process.tasks.append(child)
    kernel.tasks[pid] = child
    _bind(task, child, stub, args)
    return child


def _new_process(kernel: Kernel, pid: int, model: Process, parent: Process | None) -> Process:
    process = Process(pid, model)
    process.parent = parent
    process.pending = PendingSignals()
    process.dumpable = model.dumpable
    if parent is not None:
        parent.children.append(process)
    kernel.processes[pid] = process
    if process.rlimits.get(0, (NO_LIMIT, 0))[0] < NO_LIMIT:
        arm_cpu_limit(kernel, process)
    return process


def _bind(parent: Task, child: Task, stub: Stub, args: CloneArgs) -> None:
    """Give the child its stub, standing where the parent stands."""
    kernel = child.kernel
    physmem = kernel.physmem
    assert parent.stub is not None
    frame = save_frame(physmem, parent.stub)
    child.stub = stub
    stub.task = child
    load_frame(physmem, stub, frame, kernel.wake_mask)
    set_pgd(physmem, stub, child.mm.pgd)
    u64 = physmem.u64
    u64[stub.regs + r.RAX] = 0
    if args.stack:
        u64[stub.regs + r.RSP] = args.stack
    if args.flags & CLONE_SETTLS:
        u64[stub.u64 + FS_BASE] = args.tls
    set_prefill(physmem, stub, [u64[stub.regs + r.RIP] & ~4095, u64[stub.regs + r.RSP] & ~4095])
