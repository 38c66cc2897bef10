"""Instructions on watched memory do what the processor does, every form of them.

The guest (guests/instructions.c) runs some 110 forms on pages that two threads share and prints
registers, flags and a hash of memory after each.  The host's run of it is the oracle.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import subprocess
from pathlib import Path

import pytest

from race.rig import ENVIRONMENT, build_guest
from support.guests import Builder
from uvm_async.errors import MachineError
from uvm_async.race.engine import Engine, Limits, Target
from uvm_async.race.explore import Options, explore
from uvm_async.race.model import Profile, Result
from uvm_async.race.strategies import make_strategy

pytestmark = [pytest.mark.machine, pytest.mark.fixed_machine, pytest.mark.many_traps]

FORMS = re.findall(
    r"^    F\((\w+),",
    (Path(__file__).parent / "guests" / "instructions.c").read_text(),
    re.MULTILINE,
)
REFUSED = ("addr32", "pop_mem", "pushf", "push16", "enter", "xlat", "xsave", "maskmov", "gather")
"""These cannot be run on shared memory, and are named."""
LIMITS = Limits(steps=1_000_000, host_s=60)
PROFILING = 3
KICKED_RUNS = 20


def differences(got: bytes, expected: bytes) -> list[str]:
    """Forms whose lines differ."""
    lines = {line.split()[0]: line for line in got.decode().splitlines()}
    return [
        line.split()[0]
        for line in expected.decode().splitlines()
        if lines.get(line.split()[0]) != line
    ]


async def run(engine: Engine, strategy: str, seed: int, mode: str) -> Result:
    who = make_strategy(strategy, seed)
    who.begin(Profile())
    return await engine.execute(who, mode=mode)


async def test_all_forms_answer_as_on_the_host(guests: Builder) -> None:
    program = build_guest(guests, "instructions")
    expected = subprocess.run([program], capture_output=True, check=True).stdout
    assert [line.split()[0].decode() for line in expected.splitlines()] == [
        form for form in FORMS if form not in REFUSED
    ]
    engine = Engine(Target((str(program),), ENVIRONMENT, "/"), limits=LIMITS)
    try:
        await engine.start()
        race = engine.machine.area.race
        for seed in range(PROFILING):  # every page watched; then every word known to be shared
            result = await run(engine, "random", seed, "all")
            assert (result.failure, differences(result.stdout, expected)) == ("", [])
            assert result.stdout == expected
            engine.learn()
        engine.machine.area.relist()
        assert len(engine.machine.area.active_words()) >= 80
        for seed, strategy in enumerate(("delay:bound=0", "random", "random", "pct", "pos")):
            result = await run(engine, strategy, seed, "listed")
            assert (result.failure, differences(result.stdout, expected)) == ("", [])
            assert result.stdout == expected
            assert result.steps > len(FORMS)
            assert race.copied > 1_000 and race.emulated > 50 and race.stepped > 5
            assert not race.full and not race.lost
    finally:
        await engine.close()


@pytest.mark.parametrize("preempt", [False, True], ids=["acknowledge", "preempt"])
@pytest.mark.parametrize("mode", ["all", "listed"])
async def test_kick_at_any_moment_changes_nothing(
    guests: Builder, preempt: bool, mode: str
) -> None:
    """Kicks are not blocked while an access is run in the shim: it may be anywhere."""
    program = build_guest(guests, "instructions")
    expected = subprocess.run([program], capture_output=True, check=True).stdout
    engine = Engine(Target((str(program),), ENVIRONMENT, "/"), limits=LIMITS)
    try:
        await engine.start()
        for seed in range(2 * PROFILING):
            await run(engine, "delay:bound=0", seed, "all")
            engine.learn()
        if mode == "listed":
            engine.machine.area.relist()
        strategy = "delay:bound=0" if mode == "all" else "random"
        quiet = await run(engine, strategy, 0, mode)
        kicks = 0
        for _ in range(KICKED_RUNS):
            kicking = asyncio.create_task(kick_all(engine, preempt))
            result = await run(engine, strategy, 0, mode)
            kicking.cancel()
            kicks += await kicking
            assert (result.failure, differences(result.stdout, expected)) == ("", [])
            assert result.stdout == quiet.stdout
            if not preempt:  # else an access that is about to be made is begun again, and counted
                assert result.switches == quiet.switches
        assert kicks > 20 * KICKED_RUNS
    finally:
        await engine.close()


async def kick_all(engine: Engine, preempt: bool) -> int:
    """Kick whoever runs, until cancelled: how often. Without a pause it would get nowhere, and
    stand there as a task that computes."""
    kicks = 0
    family = engine.machine.kernel.family
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            current = engine.machine.kernel.sched.vcpus[0].current
            if current is not None and current.stub is not None:
                family.kick(current.stub, preempt=preempt, want_ack=not preempt)
                kicks += 1
            await asyncio.sleep(0.001)
    return kicks


@pytest.mark.parametrize("form", REFUSED)
async def test_what_cannot_be_run_on_shared_memory_is_named(guests: Builder, form: str) -> None:
    program = build_guest(guests, "instructions")
    listing = subprocess.run(
        ["objdump", "-d", f"--disassemble=form_{form}", program], capture_output=True, text=True,
        check=True,
    ).stdout  # fmt: skip
    with pytest.raises(MachineError, match="cannot be run on shared memory") as caught:
        async for _ in explore(
            Target((str(program), form), ENVIRONMENT, "/"), Options(schedules=20)
        ):
            pass
    named = re.search(r"the instruction at 0x([0-9a-f]+) ", str(caught.value))
    assert named and re.search(rf"^\s*{named[1]}:", listing, re.MULTILINE)


async def test_return_to_no_address_is_a_fault_as_on_the_host(guests: Builder) -> None:
    program = build_guest(guests, "returns_nowhere")
    assert subprocess.run([program], check=False).returncode == -signal.SIGSEGV
    engine = Engine(Target((str(program),), ENVIRONMENT, "/"), limits=LIMITS)
    try:
        await engine.start()
        for mode in ("all", "all", "listed"):
            result = await run(engine, "random", 1, mode)
            assert result.failure == "SIGSEGV"
            engine.learn()
        assert engine.machine.area.race.emulated >= 2  # the push and the return
    finally:
        await engine.close()


@pytest.mark.parametrize("strategy", ["random", "pct", "pos"])
async def test_signal_never_comes_within_an_instruction(guests: Builder, strategy: str) -> None:
    program = build_guest(guests, "signal_in_update")
    options = Options(strategy=strategy, schedules=200, shrink=False)
    found = [f async for f in explore(Target((str(program),), ENVIRONMENT, "/"), options)]
    assert [(f.why, f.stdout) for f in found] == []
