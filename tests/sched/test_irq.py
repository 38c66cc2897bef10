"""Interrupts held off: nothing happens meanwhile, everything happens afterwards."""

from __future__ import annotations

import asyncio

import pytest

from uvm_async import PIPE, Machine
from uvm_async.sched.irq import irqs_off

pytestmark = [pytest.mark.machine, pytest.mark.fixed_machine]


async def test_a_sleeper_is_not_woken_while_interrupts_are_held_off() -> None:
    async with Machine() as m:
        process = await m.create_subprocess_exec(
            "/bin/sh", "-c", "sleep 0.05; echo up", stdout=PIPE
        )
        assert process.stdout is not None
        await asyncio.sleep(0.02)
        with irqs_off(m.kernel):
            with irqs_off(m.kernel):
                await asyncio.sleep(0.2)
            assert m.kernel.sched.irq_depth == 1
            await asyncio.sleep(0.05)
            assert not process.stdout._buffer  # type: ignore[attr-defined]
        assert await process.stdout.read() == b"up\n"
        assert await process.wait() == 0


async def test_flags_are_restored_when_the_section_raises() -> None:
    async with Machine() as m:
        try:
            with irqs_off(m.kernel):
                raise ValueError
        except ValueError:
            pass
        assert m.kernel.sched.irq_depth == 0
        assert (await m.run(["/bin/sleep", "0.01"])).returncode == 0
