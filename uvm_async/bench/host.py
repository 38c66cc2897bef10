"""The host: its facts, one CPU of it to stand on, and its counter's rate."""

from __future__ import annotations

import array
import contextlib
import os
import platform
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["Ticks", "facts", "on_one_cpu"]


def _line(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _cpu_model() -> str:
    for line in (_line("/proc/cpuinfo") or "").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def facts() -> dict[str, Any]:
    """What a reader must know of this host to judge a figure."""
    meminfo = (_line("/proc/meminfo") or "MemTotal: 0 kB").split()
    return {
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "affinity": sorted(os.sched_getaffinity(0)),
        "memory_kib": int(meminfo[1]),
        "kernel": platform.release(),
        "virtualized": "hypervisor" in (_line("/proc/cpuinfo") or ""),
        "governor": _line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "autogroup": _line("/proc/sys/kernel/sched_autogroup_enabled"),
        "python": platform.python_version(),
        "uid": os.getuid(),
        "load": os.getloadavg()[0],
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


@contextlib.contextmanager
def on_one_cpu(cpu: int | None) -> Iterator[int]:
    """This process and its children to be on one CPU (the last allowed one, by default)."""
    before = os.sched_getaffinity(0)
    chosen = max(before) if cpu is None else cpu
    os.sched_setaffinity(0, {chosen})
    try:
        yield chosen
    finally:
        os.sched_setaffinity(0, before)


class Ticks:
    """From the processor's counter to time: a line through two readings of both clocks."""

    def __init__(self, floor: str) -> None:
        self._floor = floor
        self._first = self._read()
        time.sleep(0.1)
        self.update()

    def _read(self) -> tuple[int, int]:
        output = subprocess.run([self._floor, "clock"], stdout=subprocess.PIPE, check=True).stdout
        ticks, ns = struct.unpack("<QQ", output)
        return ticks, ns

    def update(self) -> None:
        """Read again: the line gets better with the time between."""
        ticks, ns = self._read()
        self.ns_per_tick = (ns - self._first[1]) / (ticks - self._first[0])

    def durations(self, raw: bytes) -> list[float]:
        """Samples as the C programs write them, in ns."""
        return [ticks * self.ns_per_tick for ticks in array.array("Q", raw)]

    def monotonic_ns(self, ticks: int) -> float:
        """CLOCK_MONOTONIC at a reading of the counter."""
        return self._first[1] + (ticks - self._first[0]) * self.ns_per_tick
