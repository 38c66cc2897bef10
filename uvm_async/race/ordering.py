"""What a step may order, seen by itself or beside its neighbours: calls, atomics, spins.

`happens_before` builds on these; nothing here knows of clocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from uvm_async.race.model import Event, Kind
from uvm_async.race.trace import Step

__all__ = [
    "ONLY_ACQUIRE",
    "ONLY_RELEASE",
    "SIGNALS",
    "SILENT",
    "fits",
    "means_of_synchronisation",
    "own_times",
    "unlocked_updates",
]

SPIN_READS = 3
"""So many reads of one word by one instruction, its task writing nothing meanwhile, are a spin."""

SILENT: Final = frozenset(
    {"futex", "gettid", "getpid", "getppid", "getuid", "geteuid", "getgid", "getegid", "getcpu"}
    | {"sched_yield", "nanosleep", "clock_nanosleep", "clock_gettime", "clock_getres", "time"}
    | {"gettimeofday", "times", "getrusage", "set_robust_list", "get_robust_list", "rseq"}
    | {"set_tid_address", "sigaltstack", "rt_sigprocmask", "rt_sigaction", "madvise", "mprotect"}
    | {"brk", "uname", "sysinfo", "prlimit64", "getrandom", "arch_prctl", "sched_getaffinity"}
    | {"sched_getparam", "sched_getscheduler", "stat", "fstat", "newfstatat", "lseek"}
)
"""Calls that order nothing (futex is seen to by its word)."""
ONLY_RELEASE: Final = frozenset(
    {"write", "writev", "pwrite64", "pwritev", "send", "sendto", "sendmsg", "sendmmsg", "shutdown"}
)
ONLY_ACQUIRE: Final = frozenset(
    {"read", "readv", "pread64", "preadv", "recv", "recvfrom", "recvmsg", "recvmmsg", "wait4"}
    | {"waitid", "poll", "ppoll", "select", "pselect6", "epoll_wait", "epoll_pwait"}
)
SIGNALS: Final = frozenset(
    {"kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal"}
)


def own_times(steps: Sequence[Step]) -> list[int]:
    """Of each step, how many its task has then had."""
    counts: dict[int, int] = {}
    times = []
    for step in steps:
        task = step.event.task
        counts[task] = counts.get(task, 0) + 1
        times.append(counts[task])
    return times


def fits(event: Event) -> bool:
    """Could a compiler have made this of an atomic?"""
    return event.size in (1, 2, 4, 8) and event.addr % event.size == 0


def unlocked_updates(steps: Sequence[Step]) -> frozenset[int]:
    """Steps that are halves of one instruction that reads and writes memory without `lock`."""
    halves: set[int] = set()
    latest: dict[int, int] = {}
    for at, step in enumerate(steps):
        event = step.event
        if event.by_kernel:
            continue
        if event.kind == Kind.UPDATE and not event.locked:
            halves.add(at)
        before = latest.get(event.task)
        if before is not None and event.kind == Kind.WRITE and event.ip and not event.locked:
            read = steps[before].event
            same = (read.ip, read.addr, read.size) == (event.ip, event.addr, event.size)
            if same and read.kind == Kind.READ:
                halves.update((before, at))
        latest[event.task] = at
    return frozenset(halves)


def means_of_synchronisation(
    steps: Sequence[Step], is_library: Callable[[int], bool]
) -> frozenset[int]:
    """Words that locked instructions, futexes or the library use, or that somebody spins on."""
    words: set[int] = set()
    reads: dict[int, dict[tuple[int, int], int]] = {}
    for step in steps:
        event = step.event
        if event.by_kernel:
            continue
        sleeps = event.kind == Kind.CALL and event.call == "futex"
        if sleeps or event.locked or (event.is_access and is_library(event.ip)):
            words.update(event.objects)
        if event.kind == Kind.READ and not event.locked:
            counts = reads.setdefault(event.task, {})
            key = (event.ip, event.addr)
            counts[key] = counts.get(key, 0) + 1
            if counts[key] >= SPIN_READS:
                words.update(event.objects)
        elif event.is_access:
            reads.pop(event.task, None)
    return frozenset(words)
