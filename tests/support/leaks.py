"""What a closed machine may not leave behind: descriptors, threads, children, stubs.

Nursery and stubs run from a memfd of that name, in a session of their own, and are not
children of this process; so every one started since the test began counts, unless the
program that embeds its machine lives and is neither we nor descended from us (another
test session beside this one).  Ends are not instant: a leak is what is still there after
a grace.
"""

from __future__ import annotations

import gc
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["Census", "census", "machine_processes", "new_since"]

GRACE_S = 3.0


@dataclass(frozen=True, slots=True)
class Census:
    """Who and what is there at one moment."""

    descriptors: frozenset[tuple[int, str]]
    threads: frozenset[int]
    children: frozenset[int]
    stubs: frozenset[int]
    blocked_signals: str
    affinity: frozenset[int]


def _descriptors() -> frozenset[tuple[int, str]]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add((int(name), os.readlink(f"/proc/self/fd/{name}")))
        except FileNotFoundError:
            continue  # the one that listdir itself had open
    return frozenset(found)


def _read(path: str) -> str:
    """All of a small file of /proc; empty if its process has ended or is not ours to look at."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return ""
    try:
        return os.read(fd, 4096).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(fd)


def _processes() -> dict[int, tuple[str, int]]:
    """(state, parent) of every process of the system, by pid."""
    found = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        if text := _read(f"/proc/{pid}/stat"):
            state, parent, _ = text[text.rindex(")") + 2 :].split(maxsplit=2)
            found[pid] = (state, int(parent))
    return found


def _machine_processes(pids: Iterable[int]) -> Iterator[int]:
    for pid in pids:
        try:
            program = os.readlink(f"/proc/{pid}/exe")
        except OSError:
            continue
        if program.startswith("/memfd:uvm-nursery"):
            yield pid


def machine_processes() -> frozenset[int]:
    """All living nurseries and stubs of the system, by pid: their program is a memfd."""
    return frozenset(_machine_processes(_processes()))


def _stubs(processes: Mapping[int, tuple[str, int]]) -> Iterator[int]:
    """Nurseries and stubs, but for those that serve a living program outside our own family."""
    us = os.getpid()

    @cache
    def watched(pid: int) -> int | None:
        """Whose machine a nursery is of: it holds a pidfd of it (descriptor 5)."""
        match = re.search(r"^Pid:\s*(\d+)$", _read(f"/proc/{pid}/fdinfo/5"), re.MULTILINE)
        return int(match[1]) if match else None

    for pid in _machine_processes(processes):
        ancestor = watched(pid) or watched(processes[pid][1])
        if ancestor is None or ancestor not in processes:
            yield pid
            continue
        while ancestor > 1 and ancestor != us:
            ancestor = processes[ancestor][1] if ancestor in processes else 1
        if ancestor == us:
            yield pid


def _blocked_signals() -> str:
    for line in Path("/proc/thread-self/status").read_text().splitlines():
        if line.startswith("SigBlk:"):
            return line.split()[1]
    raise AssertionError("no SigBlk in /proc/thread-self/status")


def census() -> Census:
    """Count everything now, what only waits for the garbage collector apart."""
    gc.collect()
    processes = _processes()
    return Census(
        descriptors=_descriptors(),
        threads=frozenset(int(name) for name in os.listdir("/proc/self/task")),
        children=frozenset(pid for pid, (_, parent) in processes.items() if parent == os.getpid()),
        stubs=frozenset(_stubs(processes)),
        blocked_signals=_blocked_signals(),
        affinity=frozenset(os.sched_getaffinity(0)),
    )


def _differences(before: Census, after: Census) -> list[str]:
    complaints = []
    for fd, target in sorted(after.descriptors - before.descriptors):
        complaints.append(f"descriptor {fd} -> {target}")
    for fd, target in sorted(before.descriptors - after.descriptors):
        if fd not in {number for number, _ in after.descriptors}:
            complaints.append(f"descriptor {fd} -> {target} was closed")
    complaints += [f"thread {tid}" for tid in sorted(after.threads - before.threads)]
    for pid in sorted(after.children - before.children):
        state, _ = _processes().get(pid, ("?", 0))
        complaints.append(f"child {pid} in state {state}")
    complaints += [f"stub or nursery {pid}" for pid in sorted(after.stubs - before.stubs)]
    if after.blocked_signals != before.blocked_signals:
        complaints.append(f"signal mask {before.blocked_signals} -> {after.blocked_signals}")
    if after.affinity != before.affinity:
        complaints.append(f"affinity {set(before.affinity)} -> {set(after.affinity)}")
    return complaints


def new_since(before: Census, grace_s: float = GRACE_S) -> list[str]:
    """What is there that was not, as sentences; waits up to `grace_s` for it to go.

    Only what stands through the whole grace counts, so that machines of a test
    session beside this one, which come and go, are not taken for ours.
    """
    end = time.monotonic() + grace_s
    gc.collect()
    lasting = _differences(before, census())
    while lasting and time.monotonic() < end:
        time.sleep(0.02)
        now = _differences(before, census())
        lasting = [complaint for complaint in lasting if complaint in now]
    return lasting
