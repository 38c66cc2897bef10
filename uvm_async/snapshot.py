"""Freezing and thawing: a machine at rest is a memory file and a graph of plain objects.

Linux: kernel/power/snapshot.c, in spirit; CRIU, in use.

`freeze` needs a quiescent machine: every task stands in a trap, no coroutine is
kept, no job of the host is under way.  A blocked task is plain data already.  A
thaw gives each living task a blank stub, its registers and its page tables, on
whatever memory file and loop there are now.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from uvm_async.arch.regs import load_trap, save_trap, set_pgd
from uvm_async.kernel.kernel import Kernel
from uvm_async.state import dump_graph, load_graph

if TYPE_CHECKING:
    from uvm_async.arch.stub import StubFamily

__all__ = ["Snapshot", "bind_tasks", "freeze", "tasks_to_bind", "thaw_kernel"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A frozen machine. `memory_fd` is a memory file of its own, the owner's to close."""

    graph: bytes
    memory_fd: int


def freeze(kernel: Kernel) -> Snapshot:
    """Write down a quiescent machine. The running one is left as it is."""
    kernel.clock.freeze()
    for task in kernel.tasks.values():
        if task.stub is not None:
            task.frame = save_trap(kernel.physmem, task.stub)
    return Snapshot(dump_graph(kernel), kernel.physmem.copy())


def thaw_kernel(graph: bytes) -> Kernel:
    """The graph, as fresh objects, standing on nothing yet."""
    kernel = cast(Kernel, load_graph(graph))
    kernel.clock.thaw()
    return kernel


def tasks_to_bind(kernel: Kernel) -> int:
    """How many stubs it will want."""
    return sum(task.frame is not None for task in kernel.tasks.values())


def bind_tasks(kernel: Kernel, family: StubFamily) -> None:
    """Give every living task a blank stub; there must be enough in the pool."""
    for task in kernel.tasks.values():
        if task.frame is None:
            continue
        stub = family.take()
        assert stub is not None
        frame, task.frame = task.frame, None
        task.stub = stub
        stub.task = task
        load_trap(kernel.physmem, stub, frame, kernel.wake_mask)
        set_pgd(kernel.physmem, stub, task.mm.pgd)
