"""Writing down an execution that has just ended, for a report: a `Trace`.

Called by the engine before anything is put back, so tasks are as the end left them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvm_async.kernel.futex import FutexWaiter
from uvm_async.race.model import Kind, Result
from uvm_async.race.trace import Blocked, Step, Thread, Trace, synchronisation
from uvm_async.sched.state import TaskState

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task
    from uvm_async.race.engine import Engine

__all__ = ["record"]

MUTEX_OWNER_OFFSET = 8
"""pthread_mutex_t: the futex word, a count, the owner's tid (glibc, bits/struct_mutex.h)."""
TID_MASK = 0x3FFFFFFF


def record(engine: Engine, result: Result) -> Trace:
    """The trace of the execution that has just ended."""
    policy = engine.machine.controlled
    numbers = policy.numbers
    steps = _steps(engine)
    processes = engine.processes()
    threads = [
        Thread(
            number, task.comm.decode(errors="replace"), end=_end(task, result),
            process=processes[number],
        )
        for task, number in sorted(numbers.items(), key=lambda item: item[1])
    ]  # fmt: skip
    blocked = _blocked(engine) if result.failure == "deadlock" else []
    return Trace(
        steps=steps,
        threads=threads,
        edges=synchronisation(steps),
        maps=engine.maps,
        failure=result.failure,
        blocked=blocked,
        stdout=result.stdout,
        stderr=result.stderr,
        preemptions=result.preemptions,
        argv=list(engine.target.args),
    )


def _steps(engine: Engine) -> list[Step]:
    """Events with what they left behind, and the lines of the user's that they were made for."""
    callers: dict[tuple[int, int, int, Kind], list[int]] = {}
    for event, ip in engine.callers:
        callers.setdefault((event.task, event.ip, event.addr, event.kind), []).append(ip)
    steps = []
    calling: dict[int, int] = {}
    for event, after in engine.machine.area.log(engine.machine.controlled.calls):
        kind = Kind.READ if event.kind is Kind.WRITE else event.kind
        waiting = callers.get((event.task, event.ip, event.addr, event.kind)) or callers.get(
            (event.task, event.ip, event.addr, kind)
        )
        user_ip = waiting.pop(0) if waiting else 0
        if event.by_kernel:
            user_ip = calling.get(event.task, 0)
        elif event.kind is Kind.CALL:
            calling[event.task] = user_ip
        steps.append(Step(event, after, user_ip=user_ip))
    return steps


def _end(task: Task, result: Result) -> str:
    if task.state is TaskState.BLOCKED or task.state is TaskState.WAITING:
        return "waits for ever" if result.failure == "deadlock" else "was waiting"
    if task.state in (TaskState.ZOMBIE, TaskState.DEAD):
        status = task.process.exit_code
        if status is not None and status & 0x7F:
            return f"killed by {result.failure}" if result.failure.startswith("SIG") else "killed"
        return "exited"
    return "was running"


def _blocked(engine: Engine) -> list[Blocked]:
    """Who waits for what, and who holds it."""
    policy = engine.machine.controlled
    tids = {task.pid: number for task, number in policy.numbers.items()}
    found = []
    for task, number in sorted(policy.numbers.items(), key=lambda item: item[1]):
        if task.state is not TaskState.BLOCKED:
            continue
        call = policy.in_call.get(task)
        waiter = task.restart
        nr, addr, ip = call if call is not None else (0, 0, 0)
        owner = None
        if isinstance(waiter, FutexWaiter) and addr:
            word = task.mm.peek(addr + MUTEX_OWNER_OFFSET, 4)
            owner = tids.get(int.from_bytes(word, "little") & TID_MASK)
            if owner == number:
                owner = None
        found.append(
            Blocked(
                number, addr, owner, policy.calls.get(nr, "") if call is not None else "", ip,
            )
        )  # fmt: skip
    return found
