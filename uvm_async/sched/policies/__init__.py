"""Scheduling policies: who runs next."""

from uvm_async.sched.policies.base import Policy, make_policy, policy, policy_names
from uvm_async.sched.policies.fair import Fair
from uvm_async.sched.policies.random import RandomWalk
from uvm_async.sched.policies.simple import Fifo, RoundRobin

__all__ = [
    "Fair",
    "Fifo",
    "Policy",
    "RandomWalk",
    "RoundRobin",
    "make_policy",
    "policy",
    "policy_names",
]
