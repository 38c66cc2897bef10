"""Each guest of tests/guests prints the same and ends the same under a machine as on the host."""

from __future__ import annotations

import pytest

from support.guests import Builder, Guest, all_guests, guest_parameters
from support.twice import Twice

pytestmark = [pytest.mark.machine, pytest.mark.asyncio, pytest.mark.timeout(120)]


@pytest.mark.parametrize(("guest", "variant"), guest_parameters(all_guests()))
async def test_guest_behaves_as_on_the_host(
    guest: Guest, variant: str, guests: Builder, twice: Twice
) -> None:
    program = guests.build(guest, variant)
    await twice.agree([program, *guest.args], input=guest.input, **guest.machine)


@pytest.mark.parametrize("cpus", [1, 4])
@pytest.mark.parametrize(
    "name", ["thread_sixteen", "thread_munmap_hammer", "mem_cow_storm", "pipe_chain"]
)
@pytest.mark.many_traps
async def test_guest_behaves_the_same_on_any_number_of_cpus(
    name: str, cpus: int, guests: Builder, twice: Twice
) -> None:
    await twice.agree([guests.build(name)], cpus=cpus)


@pytest.mark.many_traps
async def test_guest_that_takes_all_memory_is_refused_or_killed_and_the_machine_lives(
    guests: Builder, twice: Twice
) -> None:
    hog = guests.build("memory_hog")
    script = f'{hog}; s=$?; [ $s = 3 ] || [ $s = 137 ] || echo "status $s"; echo alive'
    outcome = await twice.in_machine(["/bin/busybox", "sh", "-c", script], memory="64M")
    assert outcome.stdout.endswith(b"alive\n")
    assert b"status" not in outcome.stdout


async def test_streams_pass_binary_data_unchanged(twice: Twice) -> None:
    data = bytes(range(256)) * 1000
    outcome = await twice.agree(["/bin/busybox", "cat"], input=data)
    assert outcome.stdout == data


async def test_what_a_guest_changes_the_host_does_not_see(twice: Twice) -> None:
    marker = twice.scratch / "marker"
    script = f"echo changed > {marker}; rm -rf {twice.scratch}; echo done"
    outcome = await twice.in_machine(["/bin/busybox", "sh", "-c", script])
    assert outcome.stdout == b"done\n"
    assert twice.scratch.is_dir()
    assert not marker.exists()
