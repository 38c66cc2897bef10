"""procfs: /proc/PID/stat, statm, status, limits and the other figures of one task.

Linux: fs/proc/array.c, fs/proc/base.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.fs.procfs.node import mm_of
from uvm_async.kernel.signal import SIG_DFL, SIG_IGN
from uvm_async.kernel.task import TaskState

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

__all__ = [
    "show_comm",
    "show_io",
    "show_limits",
    "show_loginuid",
    "show_oom_score",
    "show_oom_score_adj",
    "show_sched",
    "show_stat",
    "show_statm",
    "show_status",
    "show_task_stat",
    "show_wchan",
    "store_comm",
    "store_oom_score_adj",
]

NS_PER_TICK: Final = 10_000_000
"""USER_HZ is 100."""
UNLIMITED: Final = (1 << 64) - 1
TASK_COMM_BYTES: Final = 15

STATES: Final = {
    TaskState.READY: (b"R", b"running"),
    TaskState.RUNNING: (b"R", b"running"),
    TaskState.KERNEL: (b"R", b"running"),
    TaskState.BLOCKED: (b"S", b"sleeping"),
    TaskState.WAITING: (b"D", b"disk sleep"),
    TaskState.STOPPED: (b"T", b"stopped"),
    TaskState.ZOMBIE: (b"Z", b"zombie"),
    TaskState.DEAD: (b"X", b"dead"),
}


def _state(task: Task) -> tuple[bytes, bytes]:
    if task.process.zombie:
        return STATES[TaskState.ZOMBIE]
    if task.process.stopped_by:
        return STATES[TaskState.STOPPED]
    return STATES[task.state]


def times_ns(task: Task, *, group: bool) -> tuple[int, int]:
    """(user, system) time of one thread, or of the whole group with those that have exited."""
    if not group:
        return task.utime_ns, task.stime_ns
    process = task.process
    return (
        process.utime_ns + sum(t.utime_ns for t in process.tasks),
        process.stime_ns + sum(t.stime_ns for t in process.tasks),
    )


def _handlers(task: Task) -> tuple[int, int]:
    """Masks of the signals (ignored, caught)."""
    ignored = caught = 0
    for signo, action in task.sighand.actions.items():
        if action.handler == SIG_IGN:
            ignored |= 1 << (signo - 1)
        elif action.handler != SIG_DFL:
            caught |= 1 << (signo - 1)
    return ignored, caught


def _stat(task: Task, *, group: bool) -> bytes:
    process = task.process
    mm = mm_of(task)
    user, system = times_ns(task, group=group)
    threads = process.tasks if group else [task]
    tty = process.tty
    ignored, caught = _handlers(task)
    fields: list[int] = [
        process.parent.pid if process.parent is not None else 0,
        process.pgrp,
        process.session,
        tty.rdev if tty is not None else 0,
        tty.foreground if tty is not None else -1,
        # PF_RANDOMIZE, and what exiting adds
        0x40000C if mm is None and process.parent is not None else 0x400100,
        sum(t.min_flt for t in threads),
        0,
        sum(t.maj_flt for t in threads),
        0,
        user // NS_PER_TICK,
        system // NS_PER_TICK,
        process.cutime_ns // NS_PER_TICK,
        process.cstime_ns // NS_PER_TICK,
        20 + task.nice,
        task.nice,
        max(len(process.tasks), 1) if not process.zombie else 1,
        0,
        task.start_ns // NS_PER_TICK,
        mm.total_vm_pages << 12 if mm is not None else 0,
        mm.rss_pages() if mm is not None else 0,
        process.rlimits.get(5, (UNLIMITED, 0))[0],
        mm.start_code if mm is not None else 0,
        mm.end_code if mm is not None else 0,
        mm.start_stack if mm is not None else 0,
        0,
        0,
        (task.pending.mask | process.pending.mask) & 0x7FFFFFFF,
        task.blocked & 0x7FFFFFFF,
        ignored & 0x7FFFFFFF,
        caught & 0x7FFFFFFF,
        1 if task.state is TaskState.BLOCKED else 0,
        0,
        0,
        process.exit_signal,
        0,
        0,
        0,
        0,
        0,
        0,
        mm.start_data if mm is not None else 0,
        mm.end_data if mm is not None else 0,
        mm.start_brk if mm is not None else 0,
        mm.arg_start if mm is not None else 0,
        mm.arg_end if mm is not None else 0,
        mm.env_start if mm is not None else 0,
        mm.env_end if mm is not None else 0,
        process.exit_code or 0,
    ]
    head = b"%d (%s) %s " % (task.pid, task.comm, _state(task)[0])
    return head + b" ".join(b"%d" % field for field in fields) + b"\n"


def show_stat(task: Task) -> bytes:
    """proc_pid_stat(5), of the whole process."""
    return _stat(task, group=True)


def show_task_stat(task: Task) -> bytes:
    """The same of one thread."""
    return _stat(task, group=False)


def _file_pages(task: Task) -> tuple[int, int, int]:
    """Pages of areas: (text, data and stack, with a file behind them)."""
    mm = mm_of(task)
    text = data = files = 0
    if mm is not None:
        for vma in mm.vmas:
            pages = (vma.end - vma.start) >> 12
            if vma.prot & 4 and not vma.prot & 2:
                text += pages
            if vma.prot & 2 and not vma.shared:
                data += pages
            if vma.file is not None:
                files += pages
    return text, data, files


def show_statm(task: Task) -> bytes:
    """proc_pid_statm(5): in pages."""
    mm = mm_of(task)
    if mm is None:
        return b"0 0 0 0 0 0 0\n"
    text, data, files = _file_pages(task)
    resident = mm.rss_pages()
    return b"%d %d %d %d 0 %d 0\n" % (
        mm.total_vm_pages,
        resident,
        min(files, resident),
        text,
        data,
    )


def _memory_lines(task: Task) -> list[bytes]:
    mm = mm_of(task)
    if mm is None:
        return []
    text, data, files = _file_pages(task)
    total, resident = mm.total_vm_pages * 4, mm.rss_pages() * 4
    in_files = min(files * 4, resident)
    stack = sum(v.end - v.start for v in mm.vmas if v.name == b"[stack]") >> 10
    figures = (
        (b"VmPeak", total),
        (b"VmSize", total),
        (b"VmLck", 0),
        (b"VmPin", 0),
        (b"VmHWM", resident),
        (b"VmRSS", resident),
        (b"RssAnon", resident - in_files),
        (b"RssFile", in_files),
        (b"RssShmem", 0),
        (b"VmData", max(data * 4 - stack, 0)),
        (b"VmStk", stack),
        (b"VmExe", (mm.end_code - mm.start_code + 4095) >> 12 << 2),
        (b"VmLib", text * 4),
        (b"VmPTE", 4 * (len(mm.vmas) // 8 + 4)),
        (b"VmSwap", 0),
        (b"HugetlbPages", 0),
    )
    return [b"%s:\t%8d kB" % figure for figure in figures]


def show_status(task: Task) -> bytes:
    """proc_pid_status(5)."""
    process, cred = task.process, task.cred
    letter, word = _state(task)
    ignored, caught = _handlers(task)
    cpus = task.kernel.nr_cpus
    queued = len(task.pending.queue) + len(process.pending.queue)
    lines = [
        b"Name:\t%s" % task.comm,
        b"Umask:\t%04o" % task.fs.umask,
        b"State:\t%s (%s)" % (letter, word),
        b"Tgid:\t%d" % process.pid,
        b"Ngid:\t0",
        b"Pid:\t%d" % task.pid,
        b"PPid:\t%d" % (process.parent.pid if process.parent is not None else 0),
        b"TracerPid:\t0",
        b"Uid:\t%d\t%d\t%d\t%d" % (cred.uid, cred.euid, cred.suid, cred.fsuid),
        b"Gid:\t%d\t%d\t%d\t%d" % (cred.gid, cred.egid, cred.sgid, cred.fsgid),
        b"FDSize:\t%d" % _table_size(task),
        b"Groups:\t%s " % b" ".join(b"%d" % gid for gid in cred.groups),
        b"NStgid:\t%d" % process.pid,
        b"NSpid:\t%d" % task.pid,
        b"NSpgid:\t%d" % process.pgrp,
        b"NSsid:\t%d" % process.session,
        b"Kthread:\t0",
        *_memory_lines(task),
        b"CoreDumping:\t0",
        b"THP_enabled:\t0",
        b"Threads:\t%d" % max(len(process.tasks), 1),
        b"SigQ:\t%d/%d" % (queued, min(process.rlimits.get(11, (0, 0))[0], 1 << 31)),
        b"SigPnd:\t%016x" % task.pending.mask,
        b"ShdPnd:\t%016x" % process.pending.mask,
        b"SigBlk:\t%016x" % task.blocked,
        b"SigIgn:\t%016x" % ignored,
        b"SigCgt:\t%016x" % caught,
        b"CapInh:\t%016x" % 0,
        b"CapPrm:\t%016x" % cred.permitted,
        b"CapEff:\t%016x" % cred.capabilities,
        b"CapBnd:\t%016x" % ((1 << 41) - 1),
        b"CapAmb:\t%016x" % 0,
        b"NoNewPrivs:\t%d" % cred.no_new_privs,
        b"Seccomp:\t0",
        b"Seccomp_filters:\t0",
        b"Cpus_allowed:\t%x" % ((1 << cpus) - 1),
        b"Cpus_allowed_list:\t%s" % (b"0" if cpus == 1 else b"0-%d" % (cpus - 1)),
        b"Mems_allowed:\t1",
        b"Mems_allowed_list:\t0",
        b"voluntary_ctxt_switches:\t%d" % task.nvcsw,
        b"nonvoluntary_ctxt_switches:\t%d" % task.nivcsw,
    ]
    return b"\n".join(lines) + b"\n"


def _table_size(task: Task) -> int:
    """What Linux would have allocated for so many descriptors."""
    size = 64
    highest = max(task.files.fds, default=0)
    while size <= highest:
        size *= 2
    return size


LIMITS: Final = (
    (b"Max cpu time", 0, b"seconds"),
    (b"Max file size", 1, b"bytes"),
    (b"Max data size", 2, b"bytes"),
    (b"Max stack size", 3, b"bytes"),
    (b"Max core file size", 4, b"bytes"),
    (b"Max resident set", 5, b"bytes"),
    (b"Max processes", 6, b"processes"),
    (b"Max open files", 7, b"files"),
    (b"Max locked memory", 8, b"bytes"),
    (b"Max address space", 9, b"bytes"),
    (b"Max file locks", 10, b"locks"),
    (b"Max pending signals", 11, b"signals"),
    (b"Max msgqueue size", 12, b"bytes"),
    (b"Max nice priority", 13, b""),
    (b"Max realtime priority", 14, b""),
    (b"Max realtime timeout", 15, b"us"),
)


def show_limits(task: Task) -> bytes:
    """proc_pid_limits(5)."""
    lines = [b"%-25s %-20s %-20s %-10s" % (b"Limit", b"Soft Limit", b"Hard Limit", b"Units")]
    for name, number, unit in LIMITS:
        soft, hard = task.process.rlimits.get(number, (UNLIMITED, UNLIMITED))
        line = b"%-25s %-20s %-20s " % (name, _limit(soft), _limit(hard))
        lines.append(line + b"%-10s" % unit if unit else line)
    return b"\n".join(lines) + b"\n"


def _limit(value: int) -> bytes:
    return b"unlimited" if value >= UNLIMITED else b"%d" % value


def show_comm(task: Task) -> bytes:
    return task.comm + b"\n"


def store_comm(task: Task, data: bytes) -> None:
    """Another name, cut to 15 bytes."""
    task.comm = data.split(b"\0", 1)[0].rstrip(b"\n")[:TASK_COMM_BYTES]


def show_io(task: Task) -> bytes:
    """proc_pid_io(5): not counted."""
    names = (
        b"rchar",
        b"wchar",
        b"syscr",
        b"syscw",
        b"read_bytes",
        b"write_bytes",
        b"cancelled_write_bytes",
    )
    return b"".join(b"%s: 0\n" % name for name in names)


def show_oom_score(task: Task) -> bytes:
    """Share of memory, in thousandths."""
    mm = mm_of(task)
    pages = mm.rss_pages() if mm is not None else 0
    score = 1000 * pages // max(task.kernel.frames.total(), 1) + task.process.oom_score_adj
    return b"%d\n" % min(max(score, 0), 2000)


def show_oom_score_adj(task: Task) -> bytes:
    return b"%d\n" % task.process.oom_score_adj


def store_oom_score_adj(task: Task, data: bytes) -> None:
    """Raises EINVAL."""
    try:
        value = int(data.strip() or b"x", 0)
    except ValueError:
        raise Errno.EINVAL from None
    if not -1000 <= value <= 1000:
        raise Errno.EINVAL
    task.process.oom_score_adj = value


def show_loginuid(task: Task) -> bytes:
    """Nobody has logged in."""
    return b"4294967295"


def show_wchan(task: Task) -> bytes:
    """Where it sleeps has no name."""
    return b"0"


def show_sched(task: Task) -> bytes:
    """What of proc_pid_sched is read: `nr_switches` and its kin."""
    return (
        b"%s (%d, #threads: %d)\n" % (task.comm, task.pid, max(len(task.process.tasks), 1))
        + b"nr_switches : %d\n" % (task.nvcsw + task.nivcsw)
        + b"nr_voluntary_switches : %d\n" % task.nvcsw
        + b"nr_involuntary_switches : %d\n" % task.nivcsw
    )
