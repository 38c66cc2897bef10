"""Processes: birth, programs, end, waiting, groups and sessions.

man 2: fork, clone, execve, exit, wait4, waitid, setpgid, setsid, prctl, arch_prctl.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from uvm_async.arch.physmem import TASK_SIZE
from uvm_async.arch.stub import FS_BASE, GS_BASE
from uvm_async.errors import Errno
from uvm_async.fs.pidfd import pidfd_file
from uvm_async.kernel.exec import do_execve
from uvm_async.kernel.exit import group_exit, release_process
from uvm_async.kernel.fork import CSIGNAL, CloneArgs, do_clone
from uvm_async.kernel.signal import CLD_CONTINUED, CLD_DUMPED, CLD_EXITED, CLD_KILLED, CLD_STOPPED
from uvm_async.sched.wait import block_on
from uvm_async.syscalls.table import (
    NO_RESULT,
    Addr,
    Fd,
    Flags,
    Int,
    PathPtr,
    Pid,
    Size,
    ULong,
    syscall,
)

if TYPE_CHECKING:
    from uvm_async.kernel.task import Process, Task

CLONE_VM_VFORK: Final = 0x4100
SIGCHLD: Final = 17
O_NONBLOCK: Final = 0o4000
WNOHANG: Final = 1
WUNTRACED: Final = 2
WSTOPPED: Final = 2
WEXITED: Final = 4
WCONTINUED: Final = 8
WNOWAIT: Final = 0x01000000
WNOTHREAD: Final = 0x20000000
WALL: Final = 0x40000000
WCLONE: Final = 0x80000000
P_ALL, P_PID, P_PGID, P_PIDFD = range(4)
AT_EMPTY_PATH: Final = 0x1000
AT_SYMLINK_NOFOLLOW: Final = 0x100
O_NOFOLLOW: Final = 0o400000
MAX_ARGS: Final = 0x7FFFFFFF
RUSAGE: Final = struct.Struct("<16q")


@syscall("fork")
async def sys_fork(task: Task) -> int:
    """Create a child process. man 2 fork."""
    return await do_clone(task, CloneArgs(0, exit_signal=SIGCHLD))


@syscall("vfork")
async def sys_vfork(task: Task) -> int:
    """As fork, sharing memory; the parent waits until the child has execed or gone. man 2 vfork."""
    return await do_clone(task, CloneArgs(CLONE_VM_VFORK, exit_signal=SIGCHLD))


@syscall("clone")
async def sys_clone(
    task: Task, flags: ULong, stack: Addr, parent_tid: Addr, child_tid: Addr, tls: Addr
) -> int:
    """Create a process or thread. man 2 clone."""
    return await do_clone(
        task,
        CloneArgs(flags & ~CSIGNAL, stack, parent_tid, child_tid, tls, flags & CSIGNAL, parent_tid),
    )


@syscall("clone3", missing="cgroups, namespaces and set_tid are refused")
async def sys_clone3(task: Task, args: Addr, size: Size) -> int:
    """Create a process or thread, arguments in a structure. man 2 clone3."""
    if size > 4096:
        raise Errno.E2BIG
    if size < 64:
        raise Errno.EINVAL
    data = (await task.mm.copy_from_user(args, size)).ljust(88, b"\0")
    if any(data[88:]):
        raise Errno.E2BIG
    data = data[:88]
    flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, n, _ = (
        struct.unpack("<11Q", data)
    )
    if flags & CSIGNAL or exit_signal & ~CSIGNAL or set_tid or n:
        raise Errno.EINVAL
    if bool(stack) != bool(stack_size):
        raise Errno.EINVAL
    top = stack + stack_size if stack else 0
    return await do_clone(
        task, CloneArgs(flags, top, parent_tid, child_tid, tls, exit_signal, pidfd)
    )


async def _string_vector(task: Task, addr: int) -> list[bytes]:
    strings: list[bytes] = []
    total = 0
    while addr:
        pointer = await task.mm.get_u64(addr)
        if not pointer:
            break
        try:
            strings.append(await task.mm.strndup_user(pointer, 131072))
        except Errno.ENAMETOOLONG:
            raise Errno.E2BIG from None
        total += len(strings[-1]) + 9
        if total > 8 << 20:
            raise Errno.E2BIG
        addr += 8
    return strings


@syscall("execve")
async def sys_execve(task: Task, path: PathPtr, argv: Addr, envp: Addr) -> object:
    """Replace the program. man 2 execve."""
    name = await task.mm.get_path(path)
    arguments = await _string_vector(task, argv)
    await do_execve(task, name, arguments, await _string_vector(task, envp))
    return NO_RESULT


@syscall("execveat")
async def sys_execveat(
    task: Task, dirfd: Fd, path: PathPtr, argv: Addr, envp: Addr, flags: Flags
) -> object:
    """Replace the program, path relative to a directory. man 2 execveat."""
    if flags & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW):
        raise Errno.EINVAL
    name = await task.mm.get_path(path)
    if not name and not flags & AT_EMPTY_PATH:
        raise Errno.ENOENT
    arguments = await _string_vector(task, argv)
    environment = await _string_vector(task, envp)
    nofollow = O_NOFOLLOW if flags & AT_SYMLINK_NOFOLLOW else 0
    await do_execve(task, name, arguments, environment, dirfd=dirfd, flags=nofollow)
    return NO_RESULT


@syscall("exit")
async def sys_exit(task: Task, status: Int) -> object:
    """End this thread. man 2 exit."""
    task.exiting = True
    task.exit_code = (status & 0xFF) << 8
    return NO_RESULT


@syscall("exit_group")
def sys_exit_group(task: Task, status: Int) -> int:
    """End all threads of this process. man 2 exit_group."""
    group_exit(task, (status & 0xFF) << 8)
    return 0


# -- waiting


@dataclass(slots=True)
class Event:
    """What a wait has found."""

    process: Process
    code: int
    status: int
    wait_status: int


def _eligible(task: Task, kind: int, pid: int, options: int) -> list[Process]:
    found = []
    for child in task.process.children:
        if kind == P_PID and child.pid != pid:
            continue
        if kind == P_PGID and child.pgrp != pid:
            continue
        clone_child = child.exit_signal != SIGCHLD
        if not options & WALL and clone_child != bool(options & WCLONE):
            continue
        found.append(child)
    return found


def _find_event(children: list[Process], options: int) -> Event | None:
    for child in children:
        if child.zombie and options & WEXITED:
            status = child.exit_code or 0
            signo = status & 0x7F
            code = CLD_EXITED if not signo else CLD_DUMPED if status & 0x80 else CLD_KILLED
            return Event(child, code, signo or status >> 8, status)
        if child.stop_pending_report and options & WSTOPPED and child.stopped_by:
            return Event(child, CLD_STOPPED, child.stopped_by, child.stopped_by << 8 | 0x7F)
        if child.continued_pending_report and options & WCONTINUED:
            return Event(child, CLD_CONTINUED, 18, 0xFFFF)
    return None


def _consume(task: Task, event: Event, options: int) -> None:
    if options & WNOWAIT:
        return
    child = event.process
    if event.code in (CLD_EXITED, CLD_KILLED, CLD_DUMPED):
        release_process(task.kernel, child)
    elif event.code == CLD_STOPPED:
        child.stop_pending_report = False
    else:
        child.continued_pending_report = False


def rusage(utime_ns: int, stime_ns: int, maxrss_kib: int = 0) -> bytes:
    """struct rusage. man 2 getrusage."""
    us_u, us_s = utime_ns // 1000, stime_ns // 1000
    return RUSAGE.pack(
        us_u // 10**6, us_u % 10**6, us_s // 10**6, us_s % 10**6, maxrss_kib, *([0] * 11)
    )  # fmt: skip


async def _wait(task: Task, kind: int, pid: int, options: int) -> Event | None:
    children = _eligible(task, kind, pid, options)
    if not children:
        raise Errno.ECHILD
    event = _find_event(children, options)
    if event is None:
        if options & WNOHANG:
            return None
        await block_on(task.process.wait_exit)
    return event


@syscall("wait4")
async def sys_wait4(task: Task, pid: Pid, status: Addr, options: Flags, usage: Addr) -> int:
    """Wait for a child to change state. man 2 wait4."""
    if options & ~(WNOHANG | WUNTRACED | WCONTINUED | WNOTHREAD | WALL) & ~WCLONE & 0xFFFFFFFF:
        raise Errno.EINVAL
    if pid == -0x80000000:
        raise Errno.ESRCH
    if pid == -1:
        kind, target = P_ALL, 0
    elif pid < 0:
        kind, target = P_PGID, -pid
    elif pid == 0:
        kind, target = P_PGID, task.process.pgrp
    else:
        kind, target = P_PID, pid
    event = await _wait(task, kind, target, (options & 0xFFFFFFFF) | WEXITED)
    if event is None:
        return 0
    child = event.process
    _consume(task, event, options)
    if status:
        await task.mm.copy_to_user(status, event.wait_status.to_bytes(4, "little"))
    if usage:
        await task.mm.copy_to_user(
            usage,
            rusage(
                child.utime_ns + child.cutime_ns,
                child.stime_ns + child.cstime_ns,
                max(child.max_rss_pages, child.child_max_rss_pages) * 4,
            ),
        )
    return child.pid


@syscall("waitid")
async def sys_waitid(
    task: Task, which: Int, pid: Pid, info: Addr, options: Flags, usage: Addr
) -> int:
    """Wait for a child to change state. man 2 waitid."""
    known = WNOHANG | WNOWAIT | WEXITED | WSTOPPED | WCONTINUED | WNOTHREAD | WALL | WCLONE
    if options & 0xFFFFFFFF & ~known or not options & (WEXITED | WSTOPPED | WCONTINUED):
        raise Errno.EINVAL
    if not P_ALL <= which <= P_PIDFD or (which == P_PID and pid <= 0) or pid < 0:
        raise Errno.EINVAL
    nonblock = False
    if which == P_PGID and pid == 0:
        pid = task.process.pgrp
    elif which == P_PIDFD:
        file = pidfd_file(task.files.get(pid))
        which, pid = P_PID, 0 if file.reaped else file.process.pid
        nonblock = bool(file.flags & O_NONBLOCK) and not options & WNOHANG
        options |= WNOHANG if nonblock else 0
    event = await _wait(task, which, pid, options & 0xFFFFFFFF)
    if event is None and nonblock:
        raise Errno.EAGAIN
    if event is not None:
        child = event.process
        uid = child.leader.cred.uid if child.leader is not None else 0
        _consume(task, event, options)
        if info:
            data = struct.pack("<iiiiiIi", SIGCHLD, 0, event.code, 0, child.pid, uid, event.status)
            await task.mm.copy_to_user(info, data)
        if usage:
            await task.mm.copy_to_user(usage, rusage(child.utime_ns, child.stime_ns))
    elif info:
        await task.mm.copy_to_user(info, bytes(28))
    return 0


# -- identity


@syscall("getpid")
def sys_getpid(task: Task) -> int:
    """man 2 getpid."""
    return task.process.pid


@syscall("gettid")
def sys_gettid(task: Task) -> int:
    """man 2 gettid."""
    return task.pid


@syscall("getppid")
def sys_getppid(task: Task) -> int:
    """man 2 getppid."""
    parent = task.process.parent
    return parent.pid if parent is not None else 0


@syscall("set_tid_address")
def sys_set_tid_address(task: Task, addr: Addr) -> int:
    """Where to store 0 and wake a futex when this thread ends. man 2 set_tid_address."""
    task.clear_child_tid = addr
    return task.pid


def _process(task: Task, pid: int) -> Process:
    if pid == 0:
        return task.process
    process = task.kernel.processes.get(pid)
    if process is None:
        raise Errno.ESRCH
    return process


@syscall("setpgid")
def sys_setpgid(task: Task, pid: Pid, pgid: Pid) -> int:
    """Move a process to a process group. man 2 setpgid."""
    if pgid < 0:
        raise Errno.EINVAL
    process = _process(task, pid)
    me = task.process
    if process is not me:
        if process.parent is not me:
            raise Errno.ESRCH
        if process.session != me.session:
            raise Errno.EPERM
        if process.did_exec:
            raise Errno.EACCES
    if process.session == process.pid:
        raise Errno.EPERM
    pgid = pgid or process.pid
    if pgid != process.pid and not any(
        p.session == me.session for p in task.kernel.pgrp_members(pgid)
    ):
        raise Errno.EPERM
    process.pgrp = pgid
    return 0


@syscall("getpgid")
def sys_getpgid(task: Task, pid: Pid) -> int:
    """man 2 getpgid."""
    return _process(task, pid).pgrp


@syscall("getpgrp")
def sys_getpgrp(task: Task) -> int:
    """man 2 getpgrp."""
    return task.process.pgrp


@syscall("getsid")
def sys_getsid(task: Task, pid: Pid) -> int:
    """man 2 getsid."""
    return _process(task, pid).session


@syscall("setsid")
def sys_setsid(task: Task) -> int:
    """Start a session. man 2 setsid."""
    process = task.process
    if task.kernel.pgrp_members(process.pid) and any(
        p.pgrp == process.pid for p in task.kernel.processes.values()
    ):
        raise Errno.EPERM
    process.session = process.pgrp = process.pid
    process.tty = None
    return process.pid


# -- per-task settings

ARCH_SET_GS, ARCH_SET_FS, ARCH_GET_FS, ARCH_GET_GS = 0x1001, 0x1002, 0x1003, 0x1004


@syscall("arch_prctl")
async def sys_arch_prctl(task: Task, code: Int, addr: Addr) -> int:
    """The FS and GS base. man 2 arch_prctl."""
    assert task.stub is not None
    u64 = task.kernel.physmem.u64
    field = task.stub.u64 + (FS_BASE if code in (ARCH_SET_FS, ARCH_GET_FS) else GS_BASE)
    if code in (ARCH_SET_FS, ARCH_SET_GS):
        if addr >= TASK_SIZE:
            raise Errno.EPERM
        u64[field] = addr
        return 0
    if code in (ARCH_GET_FS, ARCH_GET_GS):
        await task.mm.copy_to_user(addr, u64[field].to_bytes(8, "little"))
        return 0
    raise Errno.EINVAL


PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE = 1, 2, 3, 4
PR_GET_KEEPCAPS, PR_SET_KEEPCAPS, PR_SET_NAME, PR_GET_NAME = 7, 8, 15, 16
PR_CAPBSET_READ, PR_SET_TIMERSLACK, PR_GET_TIMERSLACK = 23, 29, 30
PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 36, 37
PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS, PR_GET_TID_ADDRESS = 38, 39, 40
PR_SET_VMA = 0x53564D41


@syscall("prctl", missing="seccomp, speculation control, capability ambient set, memory layout")
async def sys_prctl(
    task: Task, option: Int, arg2: ULong, arg3: ULong, arg4: ULong, arg5: ULong
) -> int:
    """Settings of the calling thread. man 2 prctl."""
    from dataclasses import replace

    mm, process = task.mm, task.process
    if option == PR_SET_NAME:
        data = b""
        for i in range(15):
            byte = await mm.copy_from_user(arg2 + i, 1)
            if byte == b"\0":
                break
            data += byte
        task.comm = data
    elif option == PR_GET_NAME:
        await mm.copy_to_user(arg2, task.comm.ljust(16, b"\0"))
    elif option == PR_SET_PDEATHSIG:
        if arg2 > 64:
            raise Errno.EINVAL
        task.pdeath_signal = arg2
    elif option == PR_GET_PDEATHSIG:
        await mm.copy_to_user(arg2, task.pdeath_signal.to_bytes(4, "little"))
    elif option == PR_GET_DUMPABLE:
        return process.dumpable
    elif option == PR_SET_DUMPABLE:
        if arg2 > 1:
            raise Errno.EINVAL
        process.dumpable = arg2
    elif option == PR_GET_KEEPCAPS:
        return int(task.cred.keep_caps)
    elif option == PR_SET_KEEPCAPS:
        if arg2 > 1:
            raise Errno.EINVAL
        task.cred = replace(task.cred, keep_caps=bool(arg2))
    elif option == PR_CAPBSET_READ:
        if arg2 > 40:
            raise Errno.EINVAL
        return 1
    elif option == PR_SET_CHILD_SUBREAPER:
        process.child_subreaper = bool(arg2)
    elif option == PR_GET_CHILD_SUBREAPER:
        await mm.copy_to_user(arg2, int(process.child_subreaper).to_bytes(4, "little"))
    elif option == PR_SET_NO_NEW_PRIVS:
        if arg2 != 1 or arg3 or arg4 or arg5:
            raise Errno.EINVAL
        task.cred = replace(task.cred, no_new_privs=True)
    elif option == PR_GET_NO_NEW_PRIVS:
        return int(task.cred.no_new_privs)
    elif option == PR_GET_TID_ADDRESS:
        await mm.copy_to_user(arg2, task.clear_child_tid.to_bytes(8, "little"))
    elif option == PR_GET_TIMERSLACK:
        return 50_000
    elif option == PR_SET_TIMERSLACK:
        return 0
    else:
        raise Errno.EINVAL
    return 0
