"""The `uvm` command as a user has it, and the host processes of a machine somewhere else."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.leaks import machine_processes
from support.options import MachineOptions

__all__ = ["UVM", "Family", "family_of", "one_line", "option_arguments", "uvm", "uvm_run"]

UVM = str(Path(sys.executable).with_name("uvm"))


def option_arguments(options: MachineOptions) -> list[str]:
    """The session's options as `uvm run` takes them."""
    arguments = ["--trap", options.trap, "--transport", options.transport, "--clock", options.clock]
    if options.clock == "virtual":
        arguments += ["--seed", str(options.seed)]
    return arguments


def uvm(
    *arguments: str, timeout_s: float = 60, **kwargs: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run `uvm` to its end; streams are captured unless `kwargs` say otherwise."""
    kwargs.setdefault("stdin", None if "input" in kwargs else subprocess.DEVNULL)
    if kwargs["stdin"] is None:
        del kwargs["stdin"]
    return subprocess.run([UVM, *arguments], capture_output=True, timeout=timeout_s, **kwargs)


def uvm_run(
    options: MachineOptions, *program: str, flags: Sequence[str] = (), **kwargs: Any
) -> subprocess.CompletedProcess[bytes]:
    """`uvm run OPTIONS -- PROGRAM`."""
    return uvm("run", *option_arguments(options), *flags, "--", *program, **kwargs)


def _memfd_inodes(pid: int) -> set[int]:
    """The memfds that a process has mapped or open, by inode."""
    found = set()
    try:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            fields = line.split(maxsplit=5)
            if len(fields) == 6 and fields[5].startswith("/memfd:"):
                found.add(int(fields[4]))
        for name in os.listdir(f"/proc/{pid}/fd"):
            link = f"/proc/{pid}/fd/{name}"
            if os.readlink(link).startswith("/memfd:"):
                found.add(os.stat(link).st_ino)
    except OSError:
        pass  # it ended meanwhile
    return found


def _stat(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text[text.rindex(")") + 2 :].split()


class Family:
    """Nursery and stubs of the machine that process `kernel` runs: all who share its memory."""

    def __init__(self, kernel: int) -> None:
        inodes = _memfd_inodes(kernel)
        self.members = {
            pid for pid in machine_processes() if pid != kernel and _memfd_inodes(pid) & inodes
        }

    @property
    def nursery(self) -> int:
        """The one whose children are all the others."""
        parents = {int(_stat(pid)[1]) for pid in self.members if _stat(pid)}
        (nursery,) = parents & self.members
        return nursery

    async def computing_stub(self, ticks: int = 20) -> int:
        """The one that has used so much processor time (1/100 s): it runs what computes."""
        while True:
            for pid in self.members - {self.nursery}:
                if sum(map(int, (_stat(pid) or ["0"] * 15)[11:13])) >= ticks:
                    return pid
            await asyncio.sleep(0.05)

    def living(self) -> dict[int, str]:
        """Those that are there still, with their state; zombies wait for init only."""
        states = {pid: fields[0] for pid in self.members if (fields := _stat(pid))}
        return {pid: state for pid, state in states.items() if state not in "ZX"}

    def gone_within(self, seconds: float) -> bool:
        """Whether all are dead before the time is over."""
        end = time.monotonic() + seconds
        while self.living():
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True


async def family_of(kernel: int, at_least: int = 2, seconds: float = 20) -> Family:
    """The family of `kernel` once it has that many members."""
    end = time.monotonic() + seconds
    while True:
        family = Family(kernel)
        if len(family.members) >= at_least:
            return family
        if time.monotonic() > end:
            raise TimeoutError(f"process {kernel} has {len(family.members)} nursery and stubs")
        await asyncio.sleep(0.02)


def one_line(message: bytes) -> bool:
    """Whether an error message is one line that says something, and no traceback."""
    return re.fullmatch(rb"[^\n]{10,}\n", message) is not None and b"Traceback" not in message
