"""Guests that have taken over their shim: the machine and the others live."""

from __future__ import annotations

import asyncio

import pytest

from support.guests import Builder
from uvm_async import PIPE, Machine

pytestmark = [pytest.mark.machine, pytest.mark.fixed_machine]


async def test_guest_that_blocks_the_hosts_signals_is_ended_and_the_others_go_on(
    guests: Builder,
) -> None:
    program = str(guests.build("unstoppable"))
    async with Machine() as m:
        hostile = await m.create_subprocess_exec(program, stdout=PIPE)
        assert hostile.stdout is not None
        assert await hostile.stdout.readline() == b"off\n"
        result = await m.run(["/bin/sh", "-c", "echo still here"])
        assert result.stdout == b"still here\n"
        assert await hostile.wait() == -9


@pytest.mark.parametrize("transport", ["futex", "signal"])
async def test_guest_cannot_make_the_kernel_signal_a_process_of_the_host(
    transport: str, guests: Builder
) -> None:
    victim = await asyncio.create_subprocess_exec("/bin/sleep", "100")
    try:
        async with Machine(transport=transport) as m:
            result = await m.run([str(guests.build("writes_pid")), str(victim.pid)])
            assert result.stdout == b"done\n"
        await asyncio.sleep(0.05)
        assert victim.returncode is None
    finally:
        victim.kill()
        await victim.wait()
