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
from dataclasses import dataclass
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


def _stat_fields(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on; empty if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text[text.rindex(")") + 2 :].split()


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _children() -> frozenset[int]:
    me = str(os.getpid())
    return frozenset(
        pid for pid in _processes() if (fields := _stat_fields(pid)) and fields[1] == me
    )


def machine_processes() -> frozenset[int]:
    """All living nurseries and stubs of the system, by pid: their program is a memfd."""
    found = set()
    for pid in _processes():
        try:
            program = os.readlink(f"/proc/{pid}/exe")
        except OSError:
            continue
        if program.startswith("/memfd:uvm-nursery"):
            found.add(pid)
    return frozenset(found)


def _embedder(pid: int) -> int | None:
    """Whose machine a nursery or stub is of: the nursery holds a pidfd of it (descriptor 5)."""
    for candidate in (pid, *map(int, _stat_fields(pid)[1:2])):
        try:
            text = Path(f"/proc/{candidate}/fdinfo/5").read_text()
        except OSError:
            continue
        if match := re.search(r"^Pid:\s*(\d+)$", text, re.MULTILINE):
            return int(match[1])
    return None


def _anothers(pid: int) -> bool:
    """Whether this nursery or stub serves a living program outside our own family."""
    ancestor = _embedder(pid)
    if ancestor is None or not _stat_fields(ancestor):
        return False
    while ancestor > 1 and ancestor != os.getpid():
        ancestor = int((_stat_fields(ancestor) or "11")[1])
    return ancestor != os.getpid()


def _blocked_signals() -> str:
    for line in Path("/proc/thread-self/status").read_text().splitlines():
        if line.startswith("SigBlk:"):
            return line.split()[1]
    raise AssertionError("no SigBlk in /proc/thread-self/status")


def census() -> Census:
    """Count everything now, what only waits for the garbage collector apart."""
    gc.collect()
    return Census(
        descriptors=_descriptors(),
        threads=frozenset(int(name) for name in os.listdir("/proc/self/task")),
        children=_children(),
        stubs=frozenset(pid for pid in machine_processes() if not _anothers(pid)),
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
        complaints.append(f"child {pid} in state {(_stat_fields(pid) or '?')[0]}")
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
