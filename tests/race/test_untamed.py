"""Instructions that nobody can answer for the processor: found, told from their like, named."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from race.rig import target
from uvm_async.errors import UsageError
from uvm_async.race.binary import Binary
from uvm_async.race.session import Checks, Session
from uvm_async.race.sources import Mapping, Sources
from uvm_async.race.untamed import doubt, sets_gs

SOURCE = """
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

unsigned long looks_alike(void) {
    unsigned long value;
    __asm__ volatile("movabs $0x11f0c70fdbae0ff3,%0" : "=r"(value));
    return value;
}

static void *draws(void *arg) {
    unsigned long value = 1;
#ifdef RDRAND
    for (int i = 0; i < 40; i++)
        __asm__ volatile("rdrand %0" : "=r"(value));
#endif
#ifdef WRGSBASE
    __asm__ volatile("xor %0,%0; wrgsbase %0" : "=r"(value));
#endif
    if (write(1, value & 1 ? "odd" : "even", 3) != 3)
        return 0;
    return arg;
}

int main(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, draws, NULL);
    pthread_join(thread, NULL);
    return looks_alike() == 1;
}
"""


def compiled(directory: Path, *flags: str) -> Path:
    out = directory / "-".join(["draws", *(flag.strip("-") for flag in flags)])
    source = directory / "draws.c"
    source.write_text(SOURCE)
    command = ["gcc", "-O1", "-pthread", "-mfsgsbase", *flags, source, "-o", out]
    subprocess.run(command, check=True)
    return out


def linked(path: Path) -> Sources:
    """As if the file were mapped where it is linked for."""
    return Sources(
        Mapping(start, start + size, offset, str(path))
        for offset, start, size, _ in Binary(str(path)).segments
    )


@pytest.mark.parametrize("link", ["-static", "-no-pie"])
@pytest.mark.parametrize("debug", ["-g", "-s"])
def test_instruction_is_told_from_bytes_that_look_like_it(
    tmp_path: Path, link: str, debug: str
) -> None:
    with_symbols = debug == "-g"
    plain = linked(compiled(tmp_path, link, debug))
    assert sets_gs(plain) == ""
    assert ("rdrand" not in doubt(plain)) == with_symbols
    draws = doubt(linked(compiled(tmp_path, link, debug, "-DRDRAND")))
    assert draws.startswith("rdrand at 0x")
    if with_symbols:
        assert draws.count("rdrand") == 1 and "(draws.c:16)" in draws
        named = sets_gs(linked(compiled(tmp_path, link, debug, "-DWRGSBASE")))
        assert named.startswith("wrgsbase at 0x") and named.endswith("(draws.c:19)")


@pytest.mark.machine
@pytest.mark.fixed_machine
async def test_schedule_that_does_not_repeat_names_its_cause(tmp_path: Path) -> None:
    program = compiled(tmp_path, "-static", "-g", "-DRDRAND")
    checks = Checks(deterministic=True)
    async with Session(target(program), strategy="random", checks=checks) as session:
        for _ in range(200):
            result = await session.next()
            if not result.failure:
                continue
            failure = await session.shortened(result, session.schedule_of(result), budget=40)
            if failure.detail:
                break
    assert "has not failed again" in failure.detail
    assert "(rdrand at 0x" in failure.detail and "(draws.c:16)" in failure.detail


@pytest.mark.machine
@pytest.mark.fixed_machine
async def test_program_that_sets_gs_is_refused_and_the_instruction_named(tmp_path: Path) -> None:
    program = compiled(tmp_path, "-static", "-g", "-DWRGSBASE")
    with pytest.raises(UsageError, match=r"sets GS \(wrgsbase at 0x[0-9a-f]+ \(draws.c:19\)\)"):
        async with Session(target(program), strategy="random"):
            pass
