"""Strategies: who runs next at a choice point, one class per file.

Randomized: `random`, `pct`, `pos`, `surw`; with feedback: `rff`; systematic, which end: `delay`,
`preemption`; several by what pays: `mix`.  `Replay` follows a schedule and has no name to be asked
for.  Whoever wants another writes a `Strategy` and names it as `package.module:Class`.
"""

from uvm_async.race.strategies.base import (
    FOREVER,
    Strategy,
    make_strategy,
    strategy,
    strategy_names,
)
from uvm_async.race.strategies.delay import DelayBounded
from uvm_async.race.strategies.mix import Mix
from uvm_async.race.strategies.pct import Pct
from uvm_async.race.strategies.pos import Pos
from uvm_async.race.strategies.preemption import PreemptionBounded
from uvm_async.race.strategies.random import RandomWalk
from uvm_async.race.strategies.replay import Replay
from uvm_async.race.strategies.rff import Rff
from uvm_async.race.strategies.surw import Surw

__all__ = [
    "FOREVER",
    "DelayBounded",
    "Mix",
    "Pct",
    "Pos",
    "PreemptionBounded",
    "RandomWalk",
    "Replay",
    "Rff",
    "Strategy",
    "Surw",
    "make_strategy",
    "strategy",
    "strategy_names",
]
