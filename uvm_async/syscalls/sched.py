"""Scheduling: man 2 sched_yield, sched_setaffinity, getpriority, sched_setscheduler, getcpu."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from uvm_async.errors import Errno
from uvm_async.syscalls.table import Addr, Flags, Int, Pid, UInt, syscall

if TYPE_CHECKING:
    from uvm_async.kernel.task import Process, Task

SCHED_NORMAL, SCHED_FIFO, SCHED_RR, SCHED_BATCH, SCHED_IDLE = 0, 1, 2, 3, 5
SCHED_RESET_ON_FORK = 0x40000000
CAP_SYS_NICE = 23
PRIO_PROCESS, PRIO_PGRP, PRIO_USER = range(3)


@syscall("sched_yield")
def sys_sched_yield(task: Task) -> int:
    """Give way to others. man 2 sched_yield."""
    if task.vcpu is not None:
        task.vcpu.need_resched = True
    return 0


def _task(task: Task, pid: int) -> Task:
    if pid < 0:
        raise Errno.EINVAL
    target = task.kernel.tasks.get(pid) if pid else task
    if target is None:
        raise Errno.ESRCH
    return target


@syscall("sched_getaffinity")
async def sys_sched_getaffinity(task: Task, pid: Pid, size: UInt, out: Addr) -> int:
    """man 2 sched_getaffinity; answers bytes stored, as the kernel does."""
    if size * 8 < task.kernel.nr_cpus or size & 7:
        raise Errno.EINVAL
    target = _task(task, pid)
    length = min(size, max(8, (task.kernel.nr_cpus + 63) // 64 * 8))
    mask = target.cpus_allowed & ((1 << task.kernel.nr_cpus) - 1)
    await task.mm.copy_to_user(out, mask.to_bytes(length, "little"))
    return length


@syscall("sched_setaffinity")
async def sys_sched_setaffinity(task: Task, pid: Pid, size: UInt, mask: Addr) -> int:
    """man 2 sched_setaffinity."""
    wanted = int.from_bytes(await task.mm.copy_from_user(mask, min(size, 128)), "little")
    target = _task(task, pid)
    if target.cred.uid != task.cred.euid and not task.cred.capable(CAP_SYS_NICE):
        raise Errno.EPERM
    wanted &= (1 << task.kernel.nr_cpus) - 1
    if not wanted:
        raise Errno.EINVAL
    target.cpus_allowed = wanted
    vcpu = target.vcpu
    if vcpu is not None and vcpu.current is target and not wanted >> vcpu.index & 1:
        task.kernel.sched.resched(vcpu)
    return 0


@syscall("getcpu")
async def sys_getcpu(task: Task, cpu: Addr, node: Addr, cache: Addr) -> int:
    """man 2 getcpu."""
    index = task.kernel.sched.cpu_of(task)
    if cpu:
        await task.mm.copy_to_user(cpu, index.to_bytes(4, "little"))
    if node:
        await task.mm.copy_to_user(node, bytes(4))
    return 0


@syscall("sched_getscheduler")
def sys_sched_getscheduler(task: Task, pid: Pid) -> int:
    """man 2 sched_getscheduler."""
    return _task(task, pid).sched_policy


@syscall("sched_setscheduler", missing="real-time policies are refused with EPERM")
async def sys_sched_setscheduler(task: Task, pid: Pid, policy: Int, param: Addr) -> int:
    """man 2 sched_setscheduler."""
    if pid < 0 or not param:
        raise Errno.EINVAL
    priority = await task.mm.get_u32(param)
    target = _task(task, pid)
    kept = policy & SCHED_RESET_ON_FORK
    policy &= ~SCHED_RESET_ON_FORK
    if policy in (SCHED_NORMAL, SCHED_BATCH, SCHED_IDLE):
        if priority:
            raise Errno.EINVAL
        target.sched_policy = policy | kept
        return 0
    if policy in (SCHED_FIFO, SCHED_RR):
        if not 1 <= priority <= 99:
            raise Errno.EINVAL
        raise Errno.EPERM
    raise Errno.EINVAL


@syscall("sched_getparam")
async def sys_sched_getparam(task: Task, pid: Pid, param: Addr) -> int:
    """man 2 sched_getparam."""
    if pid < 0 or not param:
        raise Errno.EINVAL
    _task(task, pid)
    await task.mm.copy_to_user(param, bytes(4))
    return 0


@syscall("sched_get_priority_max")
def sys_sched_get_priority_max(task: Task, policy: Int) -> int:
    """man 2 sched_get_priority_max."""
    if policy in (SCHED_FIFO, SCHED_RR):
        return 99
    if policy in (SCHED_NORMAL, SCHED_BATCH, SCHED_IDLE, 6):
        return 0
    raise Errno.EINVAL


@syscall("sched_get_priority_min")
def sys_sched_get_priority_min(task: Task, policy: Int) -> int:
    """man 2 sched_get_priority_min."""
    if policy in (SCHED_FIFO, SCHED_RR):
        return 1
    if policy in (SCHED_NORMAL, SCHED_BATCH, SCHED_IDLE, 6):
        return 0
    raise Errno.EINVAL


@syscall("sched_rr_get_interval")
async def sys_sched_rr_get_interval(task: Task, pid: Pid, out: Addr) -> int:
    """man 2 sched_rr_get_interval."""
    _task(task, pid)
    await task.mm.copy_to_user(out, struct.pack("<qq", 0, 10_000_000))
    return 0


def _prio_targets(task: Task, which: int, who: int) -> list[Process]:
    kernel = task.kernel
    if which == PRIO_PROCESS:
        target = kernel.tasks.get(who) if who else task
        found = [target.process] if target is not None else []
    elif which == PRIO_PGRP:
        found = kernel.pgrp_members(who or task.process.pgrp)
    elif which == PRIO_USER:
        uid = who or task.cred.uid
        found = [
            p
            for p in kernel.processes.values()
            if p.leader is not None and p.leader.cred.uid == uid
        ]
    else:
        raise Errno.EINVAL
    if not found:
        raise Errno.ESRCH
    return found


@syscall("getpriority")
def sys_getpriority(task: Task, which: Int, who: Int) -> int:
    """man 2 getpriority; answers 20 - nice, as the kernel does."""
    nices = [t.nice for p in _prio_targets(task, which, who) for t in p.tasks]
    return 20 - min(nices, default=0)


@syscall("setpriority")
def sys_setpriority(task: Task, which: Int, who: Int, nice: Int) -> int:
    """man 2 setpriority."""
    nice = max(-20, min(19, nice))
    for process in _prio_targets(task, which, who):
        for thread in process.tasks:
            if nice < thread.nice and not task.cred.capable(23):
                raise Errno.EACCES
            thread.nice = nice
    return 0


@syscall("ioprio_get")
def sys_ioprio_get(task: Task, which: Int, who: Int) -> int:
    """man 2 ioprio_get."""
    return 0


@syscall("ioprio_set")
def sys_ioprio_set(task: Task, which: Int, who: Int, prio: Flags) -> int:
    """man 2 ioprio_set."""
    return 0
