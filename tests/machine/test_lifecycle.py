"""A machine begins and ends: whoever dies, and whenever it is cancelled, nothing is left.

Beside it the embedder's own children, signals, mask and affinity are untouched.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from support.guests import Builder
from support.leaks import census, new_since
from support.options import MachineOptions
from support.uvm import UVM, Family, family_of, one_line, option_arguments

pytestmark = [
    pytest.mark.machine,
    pytest.mark.asyncio,
    pytest.mark.timeout(120),
    pytest.mark.realtime,
]
BUSYBOX = "/bin/busybox"
EMBEDDER = Path(__file__).resolve().parent.parent / "support" / "embedder.py"
GONE_S = 10


class Embedder:
    """An embedding process under a test's eyes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> str:
        assert self.process.stdout
        return (await asyncio.wait_for(self.process.stdout.readline(), 60)).decode().strip()

    async def rest(self) -> str:
        assert self.process.stdout
        return (await asyncio.wait_for(self.process.stdout.read(), 60)).decode()


@asynccontextmanager
async def embedder(
    way: str, options: MachineOptions, *program: str
) -> AsyncIterator[tuple[Embedder, Family]]:
    """An embedder that says `ready`, and the host processes of its machine."""
    kwargs = {**options.kwargs(), "loop": options.loop}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EMBEDDER), way, json.dumps(kwargs), *program),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        e = Embedder(process)
        if way == "ends_its_loop_thread":
            assert await e.line() == "started"
        else:
            assert (await e.line()).startswith("ready")
        yield e, await family_of(process.pid)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("mode", ["computing", "sleeping"])
async def test_killed_kernel_takes_its_family_with_it(
    mode: str, machine_options: MachineOptions, guests: Builder
) -> None:
    program = [str(guests.build("forever")), *(["sleep"] if mode == "sleeping" else [])]
    async with embedder("waits", machine_options, *program) as (e, family):
        e.process.send_signal(signal.SIGKILL)
        await e.process.wait()
        assert family.gone_within(GONE_S), family.living()


async def test_killed_kernel_takes_its_family_though_a_forked_child_of_the_embedder_lives(
    machine_options: MachineOptions, guests: Builder
) -> None:
    kwargs = {**machine_options.kwargs(), "loop": machine_options.loop}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EMBEDDER), "forks", json.dumps(kwargs), str(guests.build("forever"))),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    word, child = (await asyncio.wait_for(process.stdout.readline(), 60)).split()
    assert word == b"ready"
    try:
        family = await family_of(process.pid)
        process.kill()
        await process.wait()
        assert family.gone_within(GONE_S), family.living()
        os.kill(int(child), 0)  # it did live
    finally:
        os.kill(int(child), signal.SIGKILL)


@pytest.mark.parametrize("mode", ["computing", "sleeping"])
async def test_killed_nursery_ends_the_machine_with_a_message(
    mode: str, machine_options: MachineOptions, guests: Builder
) -> None:
    program = [str(guests.build("forever")), *(["sleep"] if mode == "sleeping" else [])]
    async with embedder("waits", machine_options, *program) as (e, family):
        os.kill(family.nursery, signal.SIGKILL)
        _, stderr = await asyncio.wait_for(e.process.communicate(), 60)
        assert e.process.returncode == 1  # an exception
        assert b"nursery" in stderr
        assert family.gone_within(GONE_S), family.living()


async def test_killed_stub_ends_its_task_and_no_other(
    machine_options: MachineOptions, guests: Builder
) -> None:
    script = "while :; do :; done & echo ready; wait $!; echo child $?; (exit 3); echo shell $?"
    async with embedder("waits", machine_options, BUSYBOX, "sh", "-c", script) as (e, family):
        os.kill(await Family(e.process.pid).computing_stub(), signal.SIGKILL)
        assert await e.rest() == "child 137\nshell 3\nstatus 0\n"
        await e.process.wait()
        assert family.gone_within(GONE_S), family.living()


async def test_many_killed_stubs_are_replaced(
    machine_options: MachineOptions, guests: Builder
) -> None:
    script = "echo ready; n=0; while [ $n -lt 200 ]; do /bin/true; n=$((n + 1)); done; echo $n"
    async with embedder("waits", machine_options, BUSYBOX, "sh", "-c", script) as (e, _):
        nursery = Family(e.process.pid).nursery
        for _ in range(5):
            blank = sorted(Family(e.process.pid).members - {nursery})[-1]
            os.kill(blank, signal.SIGKILL)
            await asyncio.sleep(0.05)
        last = (await e.rest()).splitlines()[-1]
        # The shell's own stub may have been among them: then it was killed as one.
        assert last in ("status 0", "status -9")


async def test_end_of_the_loops_thread_without_a_close_is_an_end(
    machine_options: MachineOptions, guests: Builder
) -> None:
    way = "ends_its_loop_thread"
    async with embedder(way, machine_options, str(guests.build("forever"))) as (e, family):
        assert await e.line() == "ready"
        assert family.gone_within(GONE_S), family.living()
        assert e.process.returncode is None
        assert e.process.stdin
        e.process.stdin.close()
        assert await e.process.wait() == 0


async def test_interrupted_embedder_leaves_nothing(
    machine_options: MachineOptions, guests: Builder
) -> None:
    program = str(guests.build("forever"))
    async with embedder("waits", machine_options, program) as (e, family):
        e.process.send_signal(signal.SIGINT)
        _, stderr = await asyncio.wait_for(e.process.communicate(), 60)
        assert b"KeyboardInterrupt" in stderr
        assert family.gone_within(GONE_S), family.living()


async def test_command_line_says_125_when_the_machine_itself_failed(
    machine_options: MachineOptions, guests: Builder
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(UVM, "run", *option_arguments(machine_options), "--", str(guests.build("forever"))),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    assert await asyncio.wait_for(process.stdout.readline(), 60) == b"running\n"
    family = await family_of(process.pid)
    os.kill(family.nursery, signal.SIGKILL)
    _, stderr = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 125
    assert b"nursery" in stderr and one_line(stderr)
    assert family.gone_within(GONE_S), family.living()


async def one_life(options: MachineOptions, program: list[str], **machine: Any) -> int:
    """A machine from start to end with one program in it; the program's status."""
    from uvm_async import Machine

    async with Machine(**options.kwargs(**machine)) as m:
        result = await m.run(program, input=b"some input\n", cwd="/")
        return int(result.returncode)


async def cancelled_after(steps: int, options: MachineOptions, program: list[str]) -> bool:
    """Cancel a machine's life after so many steps of the loop; whether it was still alive."""
    job = asyncio.create_task(one_life(options, program))
    for _ in range(steps):
        await asyncio.sleep(0)
        if job.done():
            break
    job.cancel()
    try:
        await job
    except asyncio.CancelledError:
        return True
    return False


@pytest.mark.parametrize(("first", "step"), [(0, 1), (60, 7), (400, 61)])
async def test_cancelled_at_any_step_of_the_loop_leaves_nothing(
    first: int, step: int, machine_options: MachineOptions
) -> None:
    script = "cat | while read -r l; do (echo $l); done; sleep 0.01; /bin/true"
    program = [BUSYBOX, "sh", "-c", script]
    for k in range(40):
        before = census()
        alive = await cancelled_after(first + k * step, machine_options, program)
        left = new_since(before)
        assert not left, f"cancelled after {first + k * step} steps: {left}"
        if not alive:
            break
    assert await one_life(machine_options, program) == 0


@pytest.mark.many_traps
async def test_closed_in_a_thaw_leaves_nothing(machine_options: MachineOptions) -> None:
    from uvm_async import Machine

    options = machine_options.kwargs(clock="virtual", freeze_every=1)
    for steps in range(1, 200, 3):
        before = census()
        async with Machine(**options) as m:
            job = asyncio.create_task(m.run([BUSYBOX, "sh", "-c", "echo a | cat"]))
            for _ in range(steps):
                await asyncio.sleep(0)
            job.cancel()
            with pytest.raises(asyncio.CancelledError):
                await job
        left = new_since(before)
        assert not left, f"closed after {steps} steps: {left}"


async def test_cancelled_twice_leaves_nothing(machine_options: MachineOptions) -> None:
    for steps in range(0, 60, 3):
        job = asyncio.create_task(one_life(machine_options, [BUSYBOX, "sleep", "100"]))
        for _ in range(steps * 5):
            await asyncio.sleep(0)
        job.cancel()
        for _ in range(steps % 7):
            await asyncio.sleep(0)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job


async def test_cancelled_run_ends_its_program_and_the_machine_goes_on(
    machine_options: MachineOptions,
) -> None:
    from uvm_async import Machine

    async with Machine(**machine_options.kwargs()) as m:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(m.run([BUSYBOX, "sh", "-c", "sleep 1000 & sleep 1000"]), 0.5)
        result = await m.run([BUSYBOX, "sh", "-c", "ps | grep -c '[s]leep 1000'"])
        assert result.stdout in (b"0\n", b"1\n")  # the background one may outlive its shell
        result = await m.run([BUSYBOX, "echo", "alive"])
        assert result.stdout == b"alive\n"


async def test_exception_in_the_body_leaves_nothing(
    machine_options: MachineOptions, guests: Builder
) -> None:
    from uvm_async import Machine

    with pytest.raises(ZeroDivisionError):
        async with Machine(**machine_options.kwargs()) as m:
            process = await m.create_subprocess_exec(
                str(guests.build("forever")), stdout=asyncio.subprocess.PIPE
            )
            assert await process.stdout.readline() == b"running\n"
            raise ZeroDivisionError


async def test_machine_may_be_started_again_and_again(machine_options: MachineOptions) -> None:
    for _ in range(20):
        assert await one_life(machine_options, [BUSYBOX, "true"]) == 0


async def test_several_machines_live_in_one_loop_and_share_nothing(
    machine_options: MachineOptions, scratch: Path
) -> None:
    from uvm_async import Machine

    async def live(n: int) -> bytes:
        async with Machine(**machine_options.kwargs(memory="64M")) as m:
            await m.run([BUSYBOX, "sh", "-c", f"echo {n} >> {scratch}/file"], cwd=str(scratch))
            script = f"i=0; while [ $i -lt {n * 5} ]; do /bin/true; i=$((i + 1)); done; cat file"
            return bytes((await m.run([BUSYBOX, "sh", "-c", script], cwd=str(scratch))).stdout)

    outputs = await asyncio.gather(*(live(n) for n in range(1, 5)))
    assert outputs == [b"%d\n" % n for n in range(1, 5)]
    assert list(scratch.iterdir()) == []


async def test_several_programs_run_at_once_in_one_machine(
    machine_options: MachineOptions,
) -> None:
    from uvm_async import Machine

    async with Machine(**machine_options.kwargs()) as m:
        runs = [m.run([BUSYBOX, "sh", "-c", f"sleep 0.05; cat; exit {i}"], input=b"%d" % i)
                for i in range(8)]  # fmt: skip
        results = await asyncio.gather(*runs)
    assert [r.returncode for r in results] == list(range(8))
    assert [r.stdout for r in results] == [b"%d" % i for i in range(8)]


async def test_processes_have_the_habits_of_asyncios(machine_options: MachineOptions) -> None:
    from uvm_async import Machine

    pipe = asyncio.subprocess.PIPE
    async with Machine(**machine_options.kwargs()) as m:
        p = await m.create_subprocess_exec(BUSYBOX, "cat", stdin=pipe, stdout=pipe)
        assert p.returncode is None and p.pid > 0
        p.stdin.write(b"one\n")
        await p.stdin.drain()
        assert await p.stdout.readline() == b"one\n"
        p.stdin.close()
        assert await p.wait() == 0 == p.returncode
        p = await m.create_subprocess_exec(BUSYBOX, "sort", stdin=pipe, stdout=pipe, stderr=pipe)
        assert await p.communicate(b"b\na\n") == (b"a\nb\n", b"")
        p = await m.create_subprocess_exec(BUSYBOX, "sleep", "1000")
        p.terminate()
        assert await p.wait() == -signal.SIGTERM
        p = await m.create_subprocess_exec(BUSYBOX, "sleep", "1000")
        p.kill()
        assert await p.wait() == -signal.SIGKILL
        p = await m.create_subprocess_exec(BUSYBOX, "sleep", "1000")
        p.send_signal(signal.SIGHUP)
        assert await p.wait() == -signal.SIGHUP
        with pytest.raises(ProcessLookupError):
            p.send_signal(signal.SIGHUP)
        with pytest.raises(FileNotFoundError):
            await m.create_subprocess_exec("/nonexistent/program")
        with pytest.raises(PermissionError):
            await m.create_subprocess_exec("/etc/passwd")


async def test_program_that_runs_at_the_close_is_killed(
    machine_options: MachineOptions, guests: Builder
) -> None:
    from uvm_async import Machine
    from uvm_async.errors import MachineError

    pipe = asyncio.subprocess.PIPE
    async with Machine(**machine_options.kwargs()) as m:
        p = await m.create_subprocess_exec(str(guests.build("forever")), stdout=pipe)
        assert await p.stdout.readline() == b"running\n"
    with pytest.raises(MachineError):
        await asyncio.wait_for(p.wait(), 10)
    assert await p.stdout.read() == b""


async def test_asyncios_own_subprocesses_work_beside_a_machine(
    machine_options: MachineOptions,
) -> None:
    from uvm_async import Machine

    async def own(n: int) -> tuple[bytes, int | None]:
        p = await asyncio.create_subprocess_exec(
            *("/bin/sh", "-c", f"echo {n}; exit {n}"), stdout=asyncio.subprocess.PIPE
        )
        out, _ = await p.communicate()
        return out, p.returncode

    async with Machine(**machine_options.kwargs()) as m:
        script = "i=0; while [ $i -lt 50 ]; do /bin/true; i=$((i + 1)); done; exit 9"
        guest = asyncio.create_task(m.run([BUSYBOX, "sh", "-c", script]))
        assert await asyncio.gather(*(own(n) for n in range(10))) == [
            (b"%d\n" % n, n) for n in range(10)
        ]
        assert (await guest).returncode == 9
        assert await own(3) == (b"3\n", 3)
    assert await own(4) == (b"4\n", 4)


async def test_embedders_wait_never_sees_the_family(machine_options: MachineOptions) -> None:
    from uvm_async import Machine

    disposition = signal.getsignal(signal.SIGCHLD)
    async with Machine(**machine_options.kwargs()) as m:
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        await m.run([BUSYBOX, "true"])
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 6"], {})
        assert os.waitpid(-1, 0) == (pid, 6 << 8)
        assert signal.getsignal(signal.SIGCHLD) == disposition
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


async def test_only_one_signal_is_blocked_while_a_machine_lives_and_none_afterwards(
    machine_options: MachineOptions,
) -> None:
    from uvm_async import Machine

    dispositions = {s: signal.getsignal(s) for s in signal.valid_signals() if s < 32}
    before, affinity = signal.pthread_sigmask(signal.SIG_BLOCK, []), os.sched_getaffinity(0)
    async with Machine(**machine_options.kwargs()) as m:
        during = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        await m.run([BUSYBOX, "true"])
        assert during >= before and len(during - before) <= 1
        assert all(s >= signal.SIGRTMIN for s in during - before)
        assert os.sched_getaffinity(0) == affinity
        assert {s: signal.getsignal(s) for s in dispositions} == dispositions
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


def test_import_starts_nothing() -> None:
    program = """if True:
        import os, sys
        def state():
            return sorted(os.listdir('/proc/self/task')), sorted(os.listdir('/proc/self/fd'))
        before = state()
        import uvm_async
        assert 'cffi' not in sys.modules and 'uvloop' not in sys.modules, 'the front is not light'
        uvm_async.Machine
        assert state() == before, (before, state())
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            print('nothing')
        """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("nothing\n", "")


def test_machine_lives_in_a_thread_that_is_not_the_main_one(
    machine_options: MachineOptions,
) -> None:
    statuses = []

    def thread() -> None:
        life = one_life(machine_options, [BUSYBOX, "sh", "-c", "/bin/true; exit 5"])
        statuses.append(asyncio.run(life))

    threads = [threading.Thread(target=thread) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert statuses == [5, 5]


@pytest.mark.realtime
async def test_loop_goes_on_while_a_guest_computes(
    machine_options: MachineOptions, guests: Builder
) -> None:
    from uvm_async import Machine

    loop = asyncio.get_running_loop()
    async with Machine(**machine_options.kwargs()) as m:
        p = await m.create_subprocess_exec(
            str(guests.build("forever")), stdout=asyncio.subprocess.PIPE
        )
        assert await p.stdout.readline() == b"running\n"
        delays = []
        for _ in range(50):
            before = loop.time()
            await asyncio.sleep(0.01)
            delays.append(loop.time() - before - 0.01)
        p.kill()
        await p.wait()
    assert sorted(delays)[25] < 0.05
