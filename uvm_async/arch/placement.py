"""Where stubs run: the one owner of their affinity.

A stub that answers to a loop on another, sleeping CPU costs five times a switch on
the same one.  So the first virtual CPU's stubs are kept on the CPU where the
loop's thread runs, and follow it when the host moves it; further virtual CPUs
have the other CPUs that the embedder may use, in turn.

The embedder's own affinity is read, never changed.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from uvm_async._host import lib

if TYPE_CHECKING:
    from uvm_async.arch.stub import Stub

__all__ = ["Placement"]


class Placement:
    """Host CPUs by virtual CPU. Not state: made anew with the stubs."""

    def __init__(self, vcpus: int) -> None:
        self._vcpus = vcpus
        self.cpus: list[int] = []
        self.follow()

    def follow(self) -> None:
        """The loop's thread may have moved: go with it."""
        here: int = lib.uvm_getcpu()
        if self.cpus and self.cpus[0] == here:
            return
        others = [cpu for cpu in sorted(os.sched_getaffinity(0)) if cpu != here] or [here]
        self.cpus = [here] + [others[i % len(others)] for i in range(self._vcpus - 1)]

    def place(self, stub: Stub, vcpu: int) -> None:
        """`stub` is about to run on virtual CPU `vcpu`."""
        cpu = self.cpus[vcpu]
        if stub.cpu != cpu and not stub.dead:
            with contextlib.suppress(OSError):  # gone, or the cpuset has changed: it may stay
                os.sched_setaffinity(stub.pid, {cpu})
            stub.cpu = cpu
