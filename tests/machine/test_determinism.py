"""Under the virtual clock a run is a function of the binary, its arguments, files and the seed."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.guests import Builder
from support.options import MachineOptions
from support.oracle import ENVIRONMENT, Outcome, empty_directory
from support.twice import Twice

pytestmark = [
    pytest.mark.machine,
    pytest.mark.asyncio,
    pytest.mark.many_traps,
    pytest.mark.timeout(300),
]


async def run(
    options: MachineOptions, program: Path, cwd: Path, seed: int, **machine: Any
) -> tuple[Outcome, str]:
    """The outcome and the hash of the trace of one run under the virtual clock."""
    from uvm_async import Machine

    empty_directory(cwd)
    kwargs = options.kwargs(**{"clock": "virtual", "seed": seed, **machine})
    async with Machine(**kwargs) as m:
        result = await m.run([str(program)], env=dict(ENVIRONMENT), cwd=str(cwd))
        return Outcome.of(result), m.trace_hash


@pytest.fixture
def load() -> Iterator[None]:
    """Two programs that compute beside the test."""
    burn = "while True: pass"
    burners = [subprocess.Popen([sys.executable, "-c", burn]) for _ in range(2)]
    yield
    for burner in burners:
        burner.kill()
        burner.wait()


@pytest.mark.parametrize("variant", ["static", "dynamic"])
async def test_hundred_runs_of_a_threaded_program_are_one(
    variant: str, machine_options: MachineOptions, guests: Builder, scratch: Path
) -> None:
    """Never frozen: what freezing changes is the question of another test, and not so often."""
    options = dataclasses.replace(machine_options, freeze_every=None)
    program = guests.build("thread_sixteen", variant)
    first = await run(options, program, scratch, seed=7)
    assert first[0].status == "exited with 0"
    for _ in range(99):
        assert await run(options, program, scratch, seed=7) == first


async def test_fifty_seeds_of_a_racy_program_give_ten_outputs_each_its_own_for_ever(
    machine_options: MachineOptions, guests: Builder, scratch: Path
) -> None:
    program = guests.build("racy")
    first = [await run(machine_options, program, scratch, seed) for seed in range(50)]
    again = [await run(machine_options, program, scratch, seed) for seed in range(50)]
    assert first == again
    assert len({outcome.stdout for outcome, _ in first}) >= 10


async def test_load_on_the_host_changes_nothing(
    machine_options: MachineOptions, guests: Builder, scratch: Path, request: pytest.FixtureRequest
) -> None:
    program = guests.build("racy")
    idle = [await run(machine_options, program, scratch, seed) for seed in range(20)]
    request.getfixturevalue("load")
    assert [await run(machine_options, program, scratch, seed) for seed in range(20)] == idle


@pytest.mark.parametrize("variant", ["static", "dynamic"])
async def test_times_addresses_pids_and_random_bytes_come_from_the_seed(
    variant: str, machine_options: MachineOptions, guests: Builder, scratch: Path
) -> None:
    program = guests.build("tells_all", variant)
    first = await run(machine_options, program, scratch, seed=1)
    assert first[0].status == "exited with 0"
    assert await run(machine_options, program, scratch, seed=1) == first
    assert await run(machine_options, program, scratch, seed=2) != first


async def test_freezing_changes_neither_output_nor_trace(
    machine_options: MachineOptions, guests: Builder, scratch: Path
) -> None:
    unfrozen = dataclasses.replace(machine_options, freeze_every=None)
    for name in ("racy", "thread_condition", "thread_sixteen", "fork_wide"):
        program = guests.build(name)
        plain = await run(unfrozen, program, scratch, 3)
        assert await run(machine_options, program, scratch, 3, freeze_every=97) == plain


async def test_virtual_time_does_not_wait(twice: Twice) -> None:
    before = time.monotonic()
    script = "a=$(date +%s); sleep 100000; b=$(date +%s); echo $(( b - a >= 100000 ))"
    outcome = await twice.in_machine(["/bin/busybox", "sh", "-c", script], clock="virtual", seed=1)
    assert outcome.stdout == b"1\n"
    assert time.monotonic() - before < 30


async def test_program_that_polls_the_virtual_clock_gets_on(twice: Twice) -> None:
    script = "end=$((${EPOCHREALTIME/.} + 20000)); while ((${EPOCHREALTIME/.} < end)); do :; done"
    outcome = await twice.in_machine(
        ["/bin/bash", "-c", f"{script}; echo over"], clock="virtual", seed=1
    )
    assert outcome.stdout == b"over\n"
