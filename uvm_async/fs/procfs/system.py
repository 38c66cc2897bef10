"""procfs: what is about the whole machine: /proc/meminfo, stat, cpuinfo and the like.

Linux: fs/proc/meminfo.c, stat.c, uptime.c, loadavg.c, devices.c, arch/x86/kernel/cpu/proc.c.

Everything is a function of the machine's state, so that a deterministic machine
says the same each time: the processor has no name and no more features than every
x86-64 has.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any, Final

from uvm_async.fs.procfs.status import NS_PER_TICK
from uvm_async.fs.registry import file_systems
from uvm_async.kernel.task import TaskState
from uvm_async.kernel.uts import RELEASE, SYSNAME, VERSION

if TYPE_CHECKING:
    from uvm_async.kernel.kernel import Kernel
    from uvm_async.kernel.task import Task

__all__ = [
    "show_cmdline",
    "show_cpuinfo",
    "show_devices",
    "show_diskstats",
    "show_filesystems",
    "show_loadavg",
    "show_meminfo",
    "show_nothing",
    "show_partitions",
    "show_stat",
    "show_swaps",
    "show_tty_drivers",
    "show_uptime",
    "show_version",
    "show_vmstat",
]

SECOND_NS: Final = 1_000_000_000
RUNNABLE: Final = (TaskState.READY, TaskState.RUNNING, TaskState.KERNEL)
FLAGS: Final = (
    b"fpu tsc msr pae cx8 apic sep cmov clflush mmx fxsr sse sse2 syscall nx lm rep_good nopl cpuid"
)
CHARACTER_MAJORS: Final = {
    1: (b"mem",),
    4: (b"tty", b"ttyS"),
    5: (b"/dev/tty", b"/dev/console"),
    136: (b"pts",),
}
BLOCK_MAJORS: Final = {7: b"loop", 254: b"virtblk"}


def show_nothing(task: Task) -> bytes:
    return b""


def show_cpuinfo(task: Task) -> bytes:
    """proc_cpuinfo(5)."""
    cpus = task.kernel.nr_cpus
    parts: list[bytes] = []
    for cpu in range(cpus):
        lines = (
            (b"processor\t", b"%d" % cpu),
            (b"vendor_id\t", b"uvm"),
            (b"cpu family\t", b"6"),
            (b"model\t\t", b"0"),
            (b"model name\t", b"uvm virtual CPU"),
            (b"stepping\t", b"0"),
            (b"cpu MHz\t\t", b"1000.000"),
            (b"cache size\t", b"1024 KB"),
            (b"physical id\t", b"0"),
            (b"siblings\t", b"%d" % cpus),
            (b"core id\t\t", b"%d" % cpu),
            (b"cpu cores\t", b"%d" % cpus),
            (b"apicid\t\t", b"%d" % cpu),
            (b"initial apicid\t", b"%d" % cpu),
            (b"fpu\t\t", b"yes"),
            (b"fpu_exception\t", b"yes"),
            (b"cpuid level\t", b"13"),
            (b"wp\t\t", b"yes"),
            (b"flags\t\t", FLAGS),
            (b"bogomips\t", b"2000.00"),
            (b"clflush size\t", b"64"),
            (b"cache_alignment\t", b"64"),
            (b"address sizes\t", b"48 bits physical, 48 bits virtual"),
        )
        parts += [b"%s: %s\n" % line for line in lines]
        parts.append(b"power management:\n\n")
    return b"".join(parts)


def _cached_kib(kernel: Kernel) -> int:
    """What could be given back: pages of files."""
    return 4 * sum(len(cache.pages) for cache in kernel.frames.caches)


def show_meminfo(task: Task) -> bytes:
    """proc_meminfo(5)."""
    kernel = task.kernel
    total, free = 4 * kernel.frames.total(), 4 * kernel.frames.free()
    cached = min(_cached_kib(kernel), total - free)
    anonymous = total - free - cached
    figures = (
        (b"MemTotal", total),
        (b"MemFree", free),
        (b"MemAvailable", free + cached),
        (b"Buffers", 0),
        (b"Cached", cached),
        (b"SwapCached", 0),
        (b"Active", anonymous),
        (b"Inactive", cached),
        (b"Active(anon)", anonymous),
        (b"Inactive(anon)", 0),
        (b"Active(file)", 0),
        (b"Inactive(file)", cached),
        (b"Unevictable", 0),
        (b"Mlocked", 0),
        (b"SwapTotal", 0),
        (b"SwapFree", 0),
        (b"Dirty", 4 * sum(len(cache.dirty) for cache in kernel.frames.caches)),
        (b"Writeback", 0),
        (b"AnonPages", anonymous),
        (b"Mapped", cached),
        (b"Shmem", 0),
        (b"KReclaimable", 0),
        (b"Slab", 0),
        (b"SReclaimable", 0),
        (b"SUnreclaim", 0),
        (b"KernelStack", 0),
        (b"PageTables", 0),
        (b"CommitLimit", total // 2),
        (b"Committed_AS", anonymous),
        (b"VmallocTotal", 0),
        (b"VmallocUsed", 0),
        (b"VmallocChunk", 0),
        (b"Hugepagesize", 2048),
    )
    return b"".join(b"%-16s%8d kB\n" % (name + b":", value) for name, value in figures)


def _busy_ns(kernel: Kernel) -> tuple[int, int]:
    """(user, system) time of all tasks there are."""
    user = system = 0
    for process in kernel.processes.values():
        user += process.utime_ns + process.cutime_ns + sum(t.utime_ns for t in process.tasks)
        system += process.stime_ns + process.cstime_ns + sum(t.stime_ns for t in process.tasks)
    return user, system


def _idle_ns(kernel: Kernel) -> int:
    user, system = _busy_ns(kernel)
    return max(kernel.clock.monotonic_ns() * kernel.nr_cpus - user - system, 0)


def _runnable(kernel: Kernel) -> int:
    return sum(1 for task in kernel.tasks.values() if task.state in RUNNABLE)


def show_stat(task: Task) -> bytes:
    """proc_stat(5). How time was shared among the CPUs is not known: evenly."""
    kernel = task.kernel
    cpus = kernel.nr_cpus
    user, system = (ns // NS_PER_TICK for ns in _busy_ns(kernel))
    idle = _idle_ns(kernel) // NS_PER_TICK
    lines = [b"cpu  %d 0 %d %d 0 0 0 0 0 0" % (user, system, idle)]
    for cpu in range(cpus):
        shares = (user // cpus, system // cpus, idle // cpus)
        lines.append(b"cpu%d %d 0 %d %d 0 0 0 0 0 0" % (cpu, *shares))
    switches = sum(t.nvcsw + t.nivcsw for t in kernel.tasks.values())
    blocked = sum(1 for t in kernel.tasks.values() if t.state is TaskState.WAITING)
    lines += [
        b"intr 0",
        b"ctxt %d" % switches,
        b"btime %d" % (kernel.boot_realtime_ns // SECOND_NS),
        b"processes %d" % (kernel.forks + 1),
        b"procs_running %d" % _runnable(kernel),
        b"procs_blocked %d" % blocked,
        b"softirq 0 0 0 0 0 0 0 0 0 0 0",
    ]
    return b"\n".join(lines) + b"\n"


def _seconds(ns: int) -> bytes:
    return b"%d.%02d" % (ns // SECOND_NS, ns % SECOND_NS // 10_000_000)


def show_uptime(task: Task) -> bytes:
    """proc_uptime(5)."""
    kernel = task.kernel
    return b"%s %s\n" % (_seconds(kernel.clock.monotonic_ns()), _seconds(_idle_ns(kernel)))


def show_loadavg(task: Task) -> bytes:
    """proc_loadavg(5): averages are not kept, what runs now stands for them."""
    kernel = task.kernel
    running = _runnable(kernel)
    load = b"%d.00" % max(running - 1, 0)
    return b"%s %s %s %d/%d %d\n" % (
        load,
        load,
        load,
        running,
        len(kernel.tasks),
        kernel.last_pid,
    )


def show_version(task: Task) -> bytes:
    return b"%s version %s (uvm@uvm) %s\n" % (SYSNAME, RELEASE, VERSION)


def show_cmdline(task: Task) -> bytes:
    """No boot loader has said anything."""
    return b"\n"


def show_filesystems(task: Task) -> bytes:
    """proc_filesystems(5)."""
    return b"".join(
        b"%s\t%s\n" % (b"" if kind.needs_device else b"nodev", kind.name)
        for kind in file_systems()
        if kind.user_visible
    )


def show_swaps(task: Task) -> bytes:
    return b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"


def show_vmstat(task: Task) -> bytes:
    """What vmstat(8) wants to find."""
    kernel = task.kernel
    faults = sum(t.min_flt for t in kernel.tasks.values())
    figures = (
        (b"nr_free_pages", kernel.frames.free()),
        (b"pgpgin", 0),
        (b"pgpgout", 0),
        (b"pswpin", 0),
        (b"pswpout", 0),
        (b"pgfault", faults),
        (b"pgmajfault", sum(t.maj_flt for t in kernel.tasks.values())),
        (b"oom_kill", 0),
    )
    return b"".join(b"%s %d\n" % figure for figure in figures)


def _block_devices(kernel: Kernel) -> list[Any]:
    """Drivers with a disk behind them, by number."""
    return [
        driver
        for (kind, _), driver in sorted(kernel.mounts.devices.drivers.items())
        if kind == stat.S_IFBLK and hasattr(driver, "disk")
    ]


def show_partitions(task: Task) -> bytes:
    """proc_partitions(5), in KiB."""
    lines = [b"major minor  #blocks  name\n\n"]
    for device in _block_devices(task.kernel):
        rdev, kib = device.rdev, device.disk.size >> 10
        lines.append(b"%4d  %7d %10d %s\n" % (os.major(rdev), os.minor(rdev), kib, device.name))
    return b"".join(lines) if len(lines) > 1 else b""


def show_diskstats(task: Task) -> bytes:
    """Documentation/admin-guide/iostats.rst."""
    lines: list[bytes] = []
    for device in _block_devices(task.kernel):
        rdev, count = device.rdev, device.disk.stat
        figures = (
            *(count.reads, 0, count.read_sectors, 0),
            *(count.writes, 0, count.write_sectors, 0),
            *(0, 0, 0),
            *(count.discards, 0, 0, 0),
            *(count.flushes, 0),
        )
        lines.append(
            b"%4d %7d %s " % (os.major(rdev), os.minor(rdev), device.name)
            + b" ".join(b"%d" % figure for figure in figures)
            + b"\n"
        )
    return b"".join(lines)


def show_devices(task: Task) -> bytes:
    """proc_devices(5)."""
    drivers = task.kernel.mounts.devices.drivers
    characters = sorted({os.major(rdev) for kind, rdev in drivers if kind == stat.S_IFCHR})
    blocks = sorted({os.major(rdev) for kind, rdev in drivers if kind == stat.S_IFBLK})
    lines = [b"Character devices:"]
    for major in characters:
        lines += [b"%3d %s" % (major, name) for name in CHARACTER_MAJORS.get(major, (b"char",))]
    lines += [b"", b"Block devices:"]
    lines += [b"%3d %s" % (major, BLOCK_MAJORS.get(major, b"block")) for major in blocks]
    return b"\n".join(lines) + b"\n"


def show_tty_drivers(task: Task) -> bytes:
    """/proc/tty/drivers, from which ps learns the names of terminals."""
    lines = (
        (b"/dev/tty", b"/dev/tty", b"5       0 system:/dev/tty"),
        (b"/dev/console", b"/dev/console", b"5       1 system:console"),
        (b"serial", b"/dev/ttyS", b"4      64 serial"),
    )
    return b"".join(b"%-20s %-11s %s\n" % line for line in lines)
