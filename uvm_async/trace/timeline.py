"""A timeline in Chrome's trace format, which Perfetto (ui.perfetto.dev) opens.

The process "vCPUs" has a track for each virtual CPU: who has it.  Every guest
process has one for each thread: its system calls, within them its waits for I/O,
and as instants page faults, signals and wake-ups, with arrows from whoever woke it.
Times are the machine's monotonic clock, in microseconds.

The file is an array of events, written as they end; without its last bracket
(after SIGKILL) it is still a timeline.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TextIO

from uvm_async.kernel.observer import FOREIGN_CALL, Observer
from uvm_async.kernel.task import TaskState
from uvm_async.syscalls.numbers import X86_64
from uvm_async.trace.flags import errno_name, signal_name

if TYPE_CHECKING:
    from uvm_async.kernel.kernel import Kernel
    from uvm_async.kernel.signal import SigInfo
    from uvm_async.kernel.task import Task
    from uvm_async.sched.core import VCpu

__all__ = ["Timeline"]

VCPUS_PID: Final = 1
"""Guest process 1 is the kernel itself, and has no thread: its number is free."""
NAMES: Final = {number: name for name, number in X86_64.items()}
PF_WRITE, PF_INSTR = 0x2, 0x10


class Timeline(Observer):
    """Writes to a text file, which it closes."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._file.write("[")
        self._first = True
        self._kernel: Kernel | None = None
        self._calls: dict[int, tuple[str, int]] = {}
        """Thread id to name and begin of its call."""
        self._waits: dict[int, int] = {}
        self._running: dict[int, tuple[int, str, int]] = {}
        """vCPU to thread id, name, since when."""
        self._known: dict[int, str] = {}
        self._flows = 0
        self._woken: dict[int, int] = {}
        """Thread id to the arrow that ends where it next runs."""

    # -- life

    def attach(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._name("process_name", VCPUS_PID, 0, "vCPUs")
        for vcpu in kernel.sched.vcpus:
            self._name("thread_name", VCPUS_PID, vcpu.index, f"vCPU {vcpu.index}")

    def close(self) -> None:
        now = self._now()
        for index in list(self._running):
            self._end_slice(index, now)
        self._file.write("\n]\n")
        self._file.close()

    # -- what is seen

    def switch(self, vcpu: VCpu, task: Task) -> None:
        now = self._now()
        self._end_slice(vcpu.index, now)
        self._introduce(task)
        self._running[vcpu.index] = (task.pid, task.comm.decode(errors="replace"), now)
        flow = self._woken.pop(task.pid, None)
        if flow is not None:
            self._event("f", "wake-up", VCPUS_PID, vcpu.index, now, cat="wake", id=flow, bp="e")

    def leave(self, vcpu: VCpu, task: Task) -> None:
        self._end_slice(vcpu.index, self._now())

    def executed(
        self, task: Task, path: bytes, argv: Sequence[bytes], envp: Sequence[bytes]
    ) -> None:
        self._introduce(task)
        now = self._now()
        self._event("i", f"execve {path.decode(errors='replace')}", task.tgid, task.pid, now, s="t")

    def call_enter(self, task: Task, number: int) -> None:
        if task.pid not in self._calls:
            name = NAMES.get(number) or (
                f"int80 syscall {number ^ FOREIGN_CALL}"
                if number & FOREIGN_CALL
                else f"syscall {number}"
            )
            self._calls[task.pid] = (name, self._now())

    def call_exit(self, task: Task, result: Any) -> None:
        if not isinstance(result, int):
            self._end_call(task, None)
        elif -4096 < result < 0:
            self._end_call(task, errno_name(-result))
        else:
            self._end_call(task, result)

    def call_interrupted(self, task: Task, restart: str) -> None:
        self._end_call(task, "interrupted")

    def signal(self, task: Task, info: SigInfo) -> None:
        self._instant(task, signal_name(info.signo))

    def fault(self, task: Task, addr: int, error: int) -> None:
        kind = "write" if error & PF_WRITE else "exec" if error & PF_INSTR else "read"
        self._instant(task, f"page fault ({kind})", addr=hex(addr))

    def wake(self, task: Task) -> None:
        now = self._now()
        waker = self._in_the_kernel(task)
        if waker is None:
            self._instant(task, "wake-up")
            return
        self._flows += 1
        self._woken[task.pid] = self._flows
        self._event("s", "wake-up", VCPUS_PID, waker, now, cat="wake", id=self._flows)

    def host_wait(self, task: Task) -> None:
        self._waits.setdefault(task.pid, self._now())

    def host_done(self, task: Task) -> None:
        since = self._waits.pop(task.pid, None)
        if since is not None:
            self._slice("I/O", task.tgid, task.pid, since, self._now(), cat="io")

    def gone(self, task: Task, status: int) -> None:
        self._end_call(task, None)
        self._instant(task, "exit", status=status)
        self._known.pop(task.pid, None)
        self._woken.pop(task.pid, None)

    def _in_the_kernel(self, woken: Task) -> int | None:
        """The vCPU whose task is in a call right now: it is who wakes."""
        assert self._kernel is not None
        for vcpu in self._kernel.sched.vcpus:
            current = vcpu.current
            if current is not None and current is not woken and current.state is TaskState.KERNEL:
                return vcpu.index
        return None

    # -- events

    def _now(self) -> int:
        return self._kernel.clock.monotonic_ns() if self._kernel is not None else 0

    def _introduce(self, task: Task) -> None:
        comm = task.comm.decode(errors="replace")
        if self._known.get(task.pid) == comm:
            return
        self._known[task.pid] = comm
        if task.pid == task.tgid:
            self._name("process_name", task.tgid, task.pid, comm)
        self._name("thread_name", task.tgid, task.pid, comm)

    def _end_slice(self, index: int, now: int) -> None:
        running = self._running.pop(index, None)
        if running is not None:
            pid, name, since = running
            self._slice(f"{name} [{pid}]", VCPUS_PID, index, since, now, cat="sched")

    def _end_call(self, task: Task, result: object) -> None:
        name, since = self._calls.pop(task.pid, ("", 0))
        if name:
            now = self._now()
            arguments = {} if result is None else {"args": {"result": result}}
            self._slice(name, task.tgid, task.pid, since, now, cat="syscall", **arguments)

    def _instant(self, task: Task, name: str, **arguments: object) -> None:
        self._event("i", name, task.tgid, task.pid, self._now(), s="t", args=arguments)

    def _slice(self, name: str, pid: int, tid: int, since: int, now: int, **more: Any) -> None:
        self._event("X", name, pid, tid, since, dur=(now - since) / 1000, **more)

    def _name(self, kind: str, pid: int, tid: int, name: str) -> None:
        self._event("M", kind, pid, tid, 0, args={"name": name})

    def _event(self, phase: str, name: str, pid: int, tid: int, at_ns: int, **more: Any) -> None:
        event = {"ph": phase, "name": name, "pid": pid, "tid": tid, "ts": at_ns / 1000, **more}
        self._file.write(("\n" if self._first else ",\n") + json.dumps(event))
        self._first = False
