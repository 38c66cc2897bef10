"""What this host offers a machine: asked of the host itself, not guessed from its version.

Each question is a function that answers a `Finding`.  Those that might harm this
process ask in a child.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import platform
import resource
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from uvm_async._host import lib
from uvm_async.machine import MIN_DESCRIPTORS

__all__ = ["Finding", "examine", "find_tool"]

SYS_SECCOMP, SYS_PKEY_ALLOC, SYS_PKEY_FREE, SYS_IO_URING_SETUP = 317, 330, 331, 425
SECCOMP_GET_ACTION_AVAIL: Final = 2
SECCOMP_RET_TRAP: Final = 0x00030000
PR_SET_TSC, PR_TSC_SIGSEGV = 26, 2
AT_MINSIGSTKSZ: Final = 51
GETPID_BY_INT80: Final = bytes.fromhex("b814000000cd80c3")
"""mov eax, 20; int 0x80; ret."""
ENOUGH_MAPPINGS: Final = 65530
MAPPED_FROM: Final = 65536
"""Lowest guest address of every machine (UVM_MMAP_MIN_ADDR)."""
MiB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """An answer; `without`: what does not work, where it is not `ok`."""

    name: str
    value: str
    ok: bool = True
    without: str = ""
    needed: bool = False
    """No machine can run without it."""


def examine() -> list[Finding]:
    """All questions, in the order in which to read the answers."""
    return [question() for question in QUESTIONS]


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _in_child(action: Callable[[], int]) -> int:
    """What `action` answers (0 to 255) in a child of ours, or -signal if that ends it."""
    pid = os.fork()
    if pid == 0:
        status = 255
        with contextlib.suppress(BaseException):
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            status = action()
        os._exit(status)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def _linux() -> Finding:
    host = os.uname()
    ok = host.sysname == "Linux" and host.machine == "x86_64"
    return Finding(
        "Linux", f"{host.release} on {host.machine}", ok, "machines run on x86-64 Linux only", True
    )


def _dispatch() -> Finding:
    there = bool(lib.uvm_sud_available())
    return Finding(
        "Syscall User Dispatch", "yes" if there else "no (needs Linux 5.11)", there,
        "--trap sud; --trap seccomp does the same",
    )  # fmt: skip


def _seccomp() -> Finding:
    action = ctypes.c_uint32(SECCOMP_RET_TRAP)
    answer = _libc().syscall(SYS_SECCOMP, SECCOMP_GET_ACTION_AVAIL, 0, ctypes.byref(action))
    return Finding(
        "seccomp filters", "yes" if answer == 0 else "no", answer == 0,
        "no machine: the guest could not be held", True,
    )  # fmt: skip


def _fsgsbase() -> Finding:
    there = bool(lib.uvm_has_fsgsbase())
    return Finding(
        "FSGSBASE", "yes" if there else "no (needs Linux 5.9 and the processor's)", there,
        "each switch makes two host calls more",
    )  # fmt: skip


def _protection_keys() -> Finding:
    libc = _libc()
    key = libc.syscall(SYS_PKEY_ALLOC, 0, 0)
    if key >= 0:
        libc.syscall(SYS_PKEY_FREE, key)
    return Finding(
        "protection keys", "yes" if key >= 0 else "no", True,
        "pkey_alloc answers the guest ENOSPC, here as anywhere",
    )  # fmt: skip


def _mappings() -> Finding:
    limit = int(_read("/proc/sys/vm/max_map_count") or 0)
    return Finding(
        "mapping limit (max_map_count)", f"{limit:,}", limit >= ENOUGH_MAPPINGS,
        "guests that touch many scattered pages run slowly: sysctl vm.max_map_count=65530",
    )  # fmt: skip


def _lowest_address() -> Finding:
    lowest = int(_read("/proc/sys/vm/mmap_min_addr") or 0)
    return Finding(
        "lowest address (mmap_min_addr)", f"{lowest:,}", lowest <= MAPPED_FROM,
        f"guests that map below {lowest:,}: sysctl vm.mmap_min_addr={MAPPED_FROM}",
    )  # fmt: skip


def _memfd() -> Finding:
    mode = _read("/proc/sys/vm/memfd_noexec") or "0"
    return Finding(
        "executable memory files", "yes" if mode != "2" else "no (memfd_noexec is 2)", mode != "2",
        "no machine: the stub is started from one; sysctl vm.memfd_noexec=1", True,
    )  # fmt: skip


def _pids() -> Finding:
    limits = {
        "pid_max": _read("/proc/sys/kernel/pid_max"),
        "threads-max": _read("/proc/sys/kernel/threads-max"),
        "cgroup": _cgroup("pids.max"),
    }
    numbers = [int(text) for text in limits.values() if text.isdecimal()]
    least = min(numbers, default=0)
    shown = ", ".join(f"{name} {text}" for name, text in limits.items() if text)
    return Finding(
        "process ids", shown or "unknown", least >= 4096,
        f"machines of more than about {max(least - 100, 0):,} guest threads",
    )  # fmt: skip


def _cgroup(name: str) -> str:
    place = next(
        (line[3:] for line in _read("/proc/self/cgroup").splitlines() if line.startswith("0::")), ""
    )
    return _read(f"/sys/fs/cgroup{place}/{name}") or _read(f"/sys/fs/cgroup/{name}")


def _limit(name: str, key: int, enough: int, without: str) -> Finding:
    soft, hard = resource.getrlimit(key)
    shown = " / ".join(
        "unlimited" if n == resource.RLIM_INFINITY else f"{n:,}" for n in (soft, hard)
    )
    return Finding(name, shown, soft == resource.RLIM_INFINITY or soft >= enough, without)


def _processes() -> Finding:
    return _limit(
        "RLIMIT_NPROC", resource.RLIMIT_NPROC, 1024,
        "guests of many threads: each is a process of yours; see ulimit -u",
    )  # fmt: skip


def _pending() -> Finding:
    return _limit(
        "RLIMIT_SIGPENDING", resource.RLIMIT_SIGPENDING, 1024,
        "guests of many threads: each may have a signal queued; see ulimit -i",
    )  # fmt: skip


def _descriptors() -> Finding:
    finding = _limit(
        "RLIMIT_NOFILE", resource.RLIMIT_NOFILE, 256,
        "several machines in one process; see ulimit -n",
    )  # fmt: skip
    enough = _limit(
        "RLIMIT_NOFILE", resource.RLIMIT_NOFILE, MIN_DESCRIPTORS, "no machine; see ulimit -n"
    )
    found = finding if enough.ok else replace(enough, needed=True)
    return replace(found, value=f"{found.value} (a machine needs {MIN_DESCRIPTORS})")


def _ia32() -> Finding:
    def call() -> int:
        page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(GETPID_BY_INT80)
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        return int(ctypes.CFUNCTYPE(ctypes.c_int)(address)() != os.getpid())

    there = _in_child(call) == 0
    return Finding(
        "IA-32 emulation (int 0x80)", "yes" if there else "no", True,
        "32-bit guests, which are not supported yet",
    )  # fmt: skip


def _io_uring() -> Finding:
    parameters = ctypes.create_string_buffer(120)
    fd = _libc().syscall(SYS_IO_URING_SETUP, 1, parameters)
    reason = os.strerror(ctypes.get_errno())
    if fd >= 0:
        os.close(fd)
    return Finding(
        "io_uring", "yes" if fd >= 0 else f"no ({reason})", True,
        "nothing: disks are read and written by threads",
    )  # fmt: skip


def _processors() -> Finding:
    count = len(os.sched_getaffinity(0))
    return Finding(
        "CPUs", f"{count} ({_model()})", count > 1, "--cpus above 1 is no faster than --cpus 1"
    )


def _model() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _memory() -> Finding:
    available = 0
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) << 10
    limit = _cgroup("memory.max")
    if limit.isdecimal():
        available = min(available, int(limit))
    return Finding(
        "memory", f"{available // MiB:,} MiB available", available >= 512 * MiB,
        "the default machine (--mem 256M): give it less",
    )  # fmt: skip


def _vsyscall() -> Finding:
    line = next((x for x in _read("/proc/self/maps").splitlines() if "[vsyscall]" in x), "")
    mode = {"": "absent", "--xp": "xonly", "r-xp": "emulate"}.get(
        line.split()[1] if line else "", "?"
    )
    return Finding(
        "vsyscall page", mode, mode != "emulate",
        "old static programs read the host's time past a virtual clock",
    )  # fmt: skip


def _time_stamp_counter() -> Finding:
    there = _in_child(lambda: int(_libc().prctl(PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0) != 0)) == 0
    return Finding(
        "PR_SET_TSC", "yes" if there else "no", there,
        "runs under --clock virtual are not repeatable if the guest reads rdtsc",
    )  # fmt: skip


def _signal_stack() -> Finding:
    getauxval = ctypes.CDLL(None).getauxval
    getauxval.restype = ctypes.c_ulong
    size = int(getauxval(ctypes.c_ulong(AT_MINSIGSTKSZ)))
    room = int(lib.UVM_SLOT_SIZE) - 2 * int(lib.UVM_PAGE_SIZE)
    return Finding(
        "AT_MINSIGSTKSZ", f"{size:,} bytes" if size else "not told", size < room,
        "no machine: a signal frame does not fit a task's kernel stack", True,
    )  # fmt: skip


def _confinement() -> Finding:
    status = dict(line.partition(":\t")[::2] for line in _read("/proc/self/status").splitlines())
    parts = []
    if os.path.exists("/.dockerenv") or os.path.exists("/run/.containerenv"):
        parts.append("container")
    if _read("/proc/self/uid_map").split() != ["0", "0", "4294967295"]:
        parts.append("user namespace")
    mode = {"0": "none", "1": "strict", "2": "filter"}.get(status.get("Seccomp", ""), "unknown")
    parts.append(f"seccomp {mode}")
    if status.get("NoNewPrivs") == "1":
        parts.append("no_new_privs")
    return Finding("confinement of this process", ", ".join(parts))


def _user() -> Finding:
    return Finding(
        "user", "root" if os.geteuid() == 0 else f"uid {os.geteuid()} (root in the guest)"
    )


def _tools() -> Finding:
    missing = [name for name in ("mke2fs", "e2fsck") if find_tool(name) is None]
    return Finding(
        "e2fsprogs", f"no {' and no '.join(missing)}" if missing else "yes", not missing,
        "the part of uvm demo that is about disks: apt-get install e2fsprogs",
    )  # fmt: skip


def find_tool(name: str) -> str | None:
    """Along PATH, and where administrators have theirs."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


QUESTIONS: Final[tuple[Callable[[], Finding], ...]] = (
    _linux,
    _user,
    _confinement,
    _dispatch,
    _seccomp,
    _memfd,
    _fsgsbase,
    _protection_keys,
    _ia32,
    _io_uring,
    _time_stamp_counter,
    _vsyscall,
    _signal_stack,
    _processors,
    _memory,
    _mappings,
    _lowest_address,
    _pids,
    _processes,
    _pending,
    _descriptors,
    _tools,
)
