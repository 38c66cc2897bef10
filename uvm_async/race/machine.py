"""A machine whose every choice is somebody's: virtual clock, race area, controlled policy."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from uvm_async._host import lib
from uvm_async.arch.stub import StubOptions
from uvm_async.errors import MachineError
from uvm_async.machine import Machine, parse_size
from uvm_async.race.area import AREA_BYTES, RaceArea
from uvm_async.race.controlled import Chooser, Controlled

__all__ = ["ControlledMachine"]


class ControlledMachine(Machine):
    """As `Machine`, with a `Controlled` policy that asks `chooser`.

    memory is the guest's; the race area comes on top of it.
    """

    def __init__(
        self,
        chooser: Chooser,
        *,
        calls_return: bool,
        step_limit: int,
        root: str | os.PathLike[str] = "/",
        memory: int | str = "128M",
        cpus: int = 2,
        seed: int = 0,
        binds: Sequence[tuple[str, str, bool]] = (),
        **options: Any,
    ) -> None:
        super().__init__(
            root, memory=parse_size(memory) + AREA_BYTES, cpus=cpus, clock="virtual", seed=seed,
            binds=binds, max_tasks=lib.UVM_RACE_SLOTS, **options,
        )  # fmt: skip
        self._chooser = chooser
        self.controlled = Controlled(step_limit, calls_return=calls_return)
        self.controlled.chooser = chooser
        self.policy = self.controlled
        self.area: RaceArea

    def _prepare_memory(self) -> None:
        assert self._physmem is not None
        self.area = RaceArea(self._physmem)
        self.controlled.area = self.area

    def _stub_options(self) -> StubOptions:
        if lib.uvm_has_fsgsbase() == 0:
            raise MachineError("this processor has no FSGSBASE: races cannot be explored on it")
        area = self.area
        return replace(super()._stub_options(), race=(area.offset, area.size, area.code))
