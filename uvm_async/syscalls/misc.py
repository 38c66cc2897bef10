"""What is left: man 2 uname, sysinfo, getrandom, prlimit, getrusage, sethostname, personality."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.kernel.itimer import arm_cpu_limit, cpu_time_ns, thread_cpu_time_ns
from uvm_async.kernel.uts import MACHINE, RELEASE, SYSNAME, VERSION
from uvm_async.mm.iov import UserIter
from uvm_async.syscalls.process import rusage
from uvm_async.syscalls.table import Addr, Flags, Int, Pid, Size, UInt, ULong, syscall

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

INFINITY: Final = (1 << 64) - 1
RLIM_NLIMITS: Final = 16
RLIMIT_CPU, RLIMIT_DATA, RLIMIT_STACK, RLIMIT_NOFILE, RLIMIT_AS = 0, 2, 3, 7, 9
NR_OPEN: Final = 1 << 20
CAP_SYS_RESOURCE, CAP_SYS_ADMIN = 24, 21
PER_QUERY: Final = 0xFFFFFFFF


@syscall("uname")
async def sys_uname(task: Task, out: Addr) -> int:
    """man 2 uname."""
    kernel = task.kernel
    fields = (SYSNAME, kernel.hostname, RELEASE, VERSION, MACHINE, kernel.domainname)
    await task.mm.copy_to_user(out, b"".join(f.ljust(65, b"\0") for f in fields))
    return 0


async def _uts_name(task: Task, name: int, length: int) -> bytes:
    """A new name for the machine. Raises EPERM, EINVAL, EFAULT."""
    if not task.cred.capable(CAP_SYS_ADMIN):
        raise Errno.EPERM
    if not 0 <= length <= 64:
        raise Errno.EINVAL
    return await task.mm.copy_from_user(name, length)


@syscall("sethostname")
async def sys_sethostname(task: Task, name: Addr, length: Int) -> int:
    """man 2 sethostname."""
    task.kernel.hostname = await _uts_name(task, name, length)
    return 0


@syscall("setdomainname")
async def sys_setdomainname(task: Task, name: Addr, length: Int) -> int:
    """man 2 setdomainname."""
    task.kernel.domainname = await _uts_name(task, name, length)
    return 0


@syscall("sysinfo")
async def sys_sysinfo(task: Task, out: Addr) -> int:
    """man 2 sysinfo."""
    kernel = task.kernel
    frames = kernel.frames
    data = struct.pack(
        "<q3Q6QHHIQQI4x",
        kernel.clock.monotonic_ns() // 10**9, 0, 0, 0,
        frames.total() << 12, frames.free() << 12, 0, 0, 0, 0,
        min(len(kernel.tasks), 65535), 0, 0, 0, 0, 1,
    )  # fmt: skip
    await task.mm.copy_to_user(out, data[:112].ljust(112, b"\0"))
    return 0


@syscall("getrandom")
async def sys_getrandom(task: Task, buf: Addr, count: Size, flags: UInt) -> int:
    """man 2 getrandom."""
    if flags & ~7 or flags & 6 == 6:
        raise Errno.EINVAL
    count = min(count, 0x7FFFF000)
    done = 0
    while done < count:
        step = min(count - done, 65536)
        it = UserIter(task.mm, [(buf + done, step)], write=True)
        try:
            copied = await it.copy_to(task.kernel.entropy.bytes(step))
        except Errno.EFAULT:
            if done:
                break
            raise
        done += copied
        if copied < step:
            break
    return done


@syscall("prlimit64")
async def sys_prlimit64(task: Task, pid: Pid, resource: UInt, new: Addr, old: Addr) -> int:
    """man 2 prlimit."""
    if resource >= RLIM_NLIMITS:
        raise Errno.EINVAL
    wanted = None
    if new:
        wanted = struct.unpack("<QQ", await task.mm.copy_from_user(new, 16))
    target = task.kernel.tasks.get(pid) if pid else task
    if target is None:
        raise Errno.ESRCH
    limits = target.process.rlimits
    before = limits.get(resource, (INFINITY, INFINITY))
    if wanted is not None:
        soft, hard = wanted
        if soft > hard:
            raise Errno.EINVAL
        if resource == RLIMIT_NOFILE and hard > NR_OPEN:
            raise Errno.EPERM
        if hard > before[1] and not task.cred.capable(CAP_SYS_RESOURCE):
            raise Errno.EPERM
        limits[resource] = (soft, hard)
        if resource == RLIMIT_CPU:
            arm_cpu_limit(task.kernel, target.process)
        for thread in target.process.tasks:
            if resource == RLIMIT_STACK:
                thread.mm.stack_limit_bytes = min(soft, 1 << 35)
            elif resource == RLIMIT_AS:
                thread.mm.as_limit_bytes = soft
            elif resource == RLIMIT_DATA:
                thread.mm.data_limit_bytes = soft
    if old:
        await task.mm.copy_to_user(old, struct.pack("<QQ", *before))
    return 0


@syscall("getrlimit")
async def sys_getrlimit(task: Task, resource: UInt, out: Addr) -> int:
    """man 2 getrlimit."""
    if resource >= RLIM_NLIMITS:
        raise Errno.EINVAL
    limit = task.process.rlimits.get(resource, (INFINITY, INFINITY))
    await task.mm.copy_to_user(out, struct.pack("<QQ", *limit))
    return 0


@syscall("setrlimit")
async def sys_setrlimit(task: Task, resource: UInt, new: Addr) -> int:
    """man 2 setrlimit."""
    if resource >= RLIM_NLIMITS:
        raise Errno.EINVAL
    if not new:
        raise Errno.EFAULT
    done: int = await sys_prlimit64(task, 0, resource, new, 0)
    return done


@syscall("getrusage")
async def sys_getrusage(task: Task, who: Int, out: Addr) -> int:
    """man 2 getrusage."""
    p = task.process
    if who == -1:
        times = p.cutime_ns, p.cstime_ns
    elif who == 0:
        times = cpu_time_ns(p), 0
    elif who == 1:
        times = thread_cpu_time_ns(task), 0
    else:
        raise Errno.EINVAL
    pages = p.child_max_rss_pages if who == -1 else task.mm.rss_pages()
    await task.mm.copy_to_user(out, rusage(*times, pages * 4))
    return 0


@syscall("personality", missing="only PER_LINUX and its query")
def sys_personality(task: Task, persona: UInt) -> int:
    """man 2 personality."""
    before = task.process.personality
    if persona != PER_QUERY:
        task.process.personality = persona
    return before


@syscall("reboot", missing="power-off ends the machine by ending init; nothing else")
def sys_reboot(task: Task, magic: Flags, magic2: Flags, command: UInt, arg: ULong) -> int:
    """man 2 reboot."""
    raise Errno.EPERM


@syscall("syslog", missing="the log is empty")
def sys_syslog(task: Task, kind: Int, buf: Addr, length: Int) -> int:
    """man 2 syslog."""
    if not 0 <= kind <= 10:
        raise Errno.EINVAL
    return 0
