"""What may be watched of a kernel: calls, signals, faults, switches.

Linux: include/trace/events (tracepoints), kernel/ptrace.c.

`kernel.observer` is None, which costs one comparison, or an object of this kind
(uvm_async/trace has two).  An observer is told after the kernel's own records are
up to date, must not raise, and must leave the machine as it is: reading guest
memory it sets no accessed bit (trace/usermem.py), or a run that is observed would
not be the run that was meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from uvm_async.kernel.kernel import Kernel
    from uvm_async.kernel.signal import SigInfo
    from uvm_async.kernel.task import Task
    from uvm_async.sched.core import VCpu

__all__ = ["FOREIGN_CALL", "Observer", "Observers"]

FOREIGN_CALL: Final = 1 << 32
"""Set in the number of a call that was made as another ABI's (`int $0x80`): no call of ours."""


class Observer:
    """Sees everything, does nothing: override what is of interest."""

    def attach(self, kernel: Kernel) -> None:
        """The machine is about to run."""

    def close(self) -> None:
        """The machine has gone: write what is left to write."""

    def executed(
        self, task: Task, path: bytes, argv: Sequence[bytes], envp: Sequence[bytes]
    ) -> None:
        """The embedder has started a program."""

    def call_enter(self, task: Task, number: int) -> None:
        """A system call begins, or begins again after it has slept: its arguments are in the
        registers."""

    def call_exit(self, task: Task, result: Any) -> None:
        """It is done: its result, negative for an errno, or table.NO_RESULT."""

    def call_interrupted(self, task: Task, restart: str) -> None:
        """A handler runs instead; `restart` is that of wait.Interrupted."""

    def signal(self, task: Task, info: SigInfo) -> None:
        """A signal is about to be delivered."""

    def fault(self, task: Task, addr: int, error: int) -> None:
        """A page fault (UVM_PF_* bits) is about to be handled."""

    def switch(self, vcpu: VCpu, task: Task) -> None:
        """`task` gets the vCPU."""

    def leave(self, vcpu: VCpu, task: Task) -> None:
        """`task` has given it up."""

    def wake(self, task: Task) -> None:
        """`task` is runnable again."""

    def host_wait(self, task: Task) -> None:
        """`task` waits for the host: I/O."""

    def host_done(self, task: Task) -> None:
        """What it waited for has come."""

    def gone(self, task: Task, status: int) -> None:
        """A thread has ended; the wait status."""


class Observers(Observer):
    """Several, each told in turn."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        for name in (n for n in vars(Observer) if not n.startswith("_")):
            setattr(self, name, _each([getattr(observer, name) for observer in observers]))


def _each(methods: list[Any]) -> Any:
    def tell(*args: Any) -> None:
        for method in methods:
            method(*args)

    return tell
