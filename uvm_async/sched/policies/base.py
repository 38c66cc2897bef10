"""What a scheduling policy is: it answers who runs next, and nothing else.

Linux: struct sched_class.  A policy is an Entity (its queues are state).  It is
told of tasks that become runnable (`enqueue`) or stop being so, picks
one (`pick_next`, which takes it off the queue), and says whether whoever runs
should give way (`tick`, `wakeup_preempt`, `choice_point`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from uvm_async.errors import UsageError
from uvm_async.state import Entity

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

__all__ = ["Policy", "make_policy", "policy", "policy_names"]


class Policy(Entity):
    """Base: first come, first served, and nobody is made to give way."""

    controlled = False
    """Wants to be asked at every choice point: `entry_point`, `choice_point`, `access_point`."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.queue: deque[Task] = deque()

    def enqueue(self, task: Task, *, woken: bool, preempted: bool) -> None:
        """`task` is runnable (it was asleep if `woken`, made to give way if `preempted`)."""
        self.queue.append(task)

    def pick_next(self) -> Task | None:
        """Take the next task off the queue."""
        return self.queue.popleft() if self.queue else None

    def __len__(self) -> int:
        """Tasks queued."""
        return len(self.queue)

    def ran(self, task: Task, delta_ns: int) -> None:
        """`task` has run for `delta_ns`."""

    def tick(self, task: Task) -> bool:
        """A tick has hit `task` on its vCPU while others wait: should it give way?"""
        return True

    def wakeup_preempt(self, running: Task, woken: Task) -> bool:
        """Should `running` give way at once to a task just woken?"""
        return False

    def entry_point(self, task: Task) -> bool:
        """Controlled policies: should `task`, which has just trapped, give way before it is
        answered?"""
        return False

    def choice_point(self, task: Task) -> bool:
        """Controlled policies: should `task`, whose trap is answered, give way?"""
        return False

    def access_point(self, task: Task) -> bool:
        """Controlled machines: should `task`, about to touch shared memory, give way?"""
        return False

    def preempt_point(self, task: Task) -> bool:
        """Controlled machines: should `task`, which was made to trap, give way?"""
        return False

    def may_signal(self, task: Task) -> bool:
        """Controlled machines: does `task` stand between two instructions?"""
        return True

    def handles_signal(self, task: Task) -> None:
        """Controlled machines: `task` will go on in the handler of a signal."""

    def stuck(self, task: Task) -> bool:
        """Under a virtual clock: `task` has not trapped for a while. Should it be made to?"""
        return True

    def idle(self) -> None:
        """Under a virtual clock: nobody is runnable, and no timer will change that."""


P = TypeVar("P", bound=type[Policy])
_POLICIES: dict[str, type[Policy]] = {}


def policy(name: str) -> Callable[[P], P]:
    """Register a policy class under the name that `--policy` takes."""

    def register(cls: P) -> P:
        _POLICIES[name] = cls
        return cls

    return register


def policy_names() -> list[str]:
    """Registered names."""
    return sorted(_POLICIES)


def make_policy(name: str, seed: int) -> Policy:
    """A fresh policy. Raises UsageError for a name nobody has registered."""
    cls = _POLICIES.get(name)
    if cls is None:
        raise UsageError(f"unknown policy {name!r}: choose one of {', '.join(policy_names())}")
    return cls(seed)
