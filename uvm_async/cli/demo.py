"""`uvm demo`: a short tour of a machine, on programs that every host has.

It leaves a picture of the switches, and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from uvm_async.cli.host import find_tool
from uvm_async.cli.outcome import FAILED, WRONG_USE, complain, terminable
from uvm_async.errors import MachineError, UsageError

if TYPE_CHECKING:
    from uvm_async.machine import Machine
    from uvm_async.trace.picture import Switches

__all__ = ["command", "make_image", "steps_of"]

WHO: Final = "uvm demo"
DISK_BYTES: Final = 32 << 20
PATIENCE_S: Final = 120
BAR: Final = 24

PROCESSES: Final = """
echo "I am process $$, user $(id -u), on $(uname -s) called $(uname -n)."
for n in 1 2 3; do (exit $n) & wait $!; echo "a child ended with status $?"; done
trap 'echo "a signal came: USR1"' USR1; kill -USR1 $$
"""
PIPES: Final = "seq 20000 | grep 7 | sort -r | head -n 3; seq 20000 | grep -c 7"
PREEMPTION: Final = """
count() { i=0; while [ $i -lt 15000 ]; do i=$((i + 1)); done; echo "$1 has counted to $i"; }
count one & count two & count three & count four &
wait
"""
THREADS: Final = """
import hashlib, threading, time
block = bytes(8 << 20)
def work():
    for _ in range(6):
        hashlib.sha256(block).digest()
def timed(n):
    threads = [threading.Thread(target=work) for _ in range(n)]
    begin = time.monotonic()
    [t.start() for t in threads]
    [t.join() for t in threads]
    return time.monotonic() - begin
one, two = timed(1), timed(2)
print(f"one thread, its work once: {one * 1000:.0f} ms")
print(f"two threads, twice the work: {two * 1000:.0f} ms, {2 * one / two:.1f} times as fast")
"""
DISK: Final = """
set -e
mount -t ext2 /dev/vda /mnt
mkdir /mnt/letters
for name in alpha beta gamma; do echo "this is $name" >/mnt/letters/$name; done
dd if=/dev/zero of=/mnt/big bs=64k count=64 2>/dev/null
mv /mnt/letters/gamma /mnt/letters/delta; rm /mnt/letters/beta
ls -l /mnt/letters; cat /mnt/letters/delta
sync
umount /mnt
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One stop of the tour."""

    title: str
    what: str
    program: Sequence[str]
    pictured: bool = False


def steps_of(with_disk: bool) -> list[Step]:
    """The stops of the tour."""
    steps = [
        Step("processes", "fork, exec, exit, wait and signals in a shell", ["sh", "-c", PROCESSES]),
        Step("pipes", "four programs in a row", ["sh", "-c", PIPES]),
        Step("preemption", "four that compute and two vCPUs", ["sh", "-c", PREEMPTION], True),
        Step(
            "threads", "two threads, each a host process, on two CPUs",
            [sys.executable, "-I", "-S", "-c", THREADS], True,
        ),
    ]  # fmt: skip
    if with_disk:
        steps.append(Step("disk", "our ext2 on a file of the host", ["sh", "-c", DISK]))
    return steps


class Progress:
    """One line at the bottom, where there is a terminal."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._shown = sys.stderr.isatty()

    def at(self, step: int, title: str) -> None:
        """Draw it."""
        if self._shown:
            done = BAR * step // self._steps
            bar = "#" * done + "." * (BAR - done)
            print(f"\r[{bar}] {step}/{self._steps} {title:24}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Make room for what is to be said."""
        if self._shown:
            print(f"\r{'':{BAR + 40}}\r", end="", file=sys.stderr, flush=True)


@click.command(short_help="A short tour: processes, pipes, preemption, threads, a disk.")
@click.option("--picture", type=click.Path(dir_okay=False), default="uvm-switches.svg",
              metavar="FILE", help="The picture (default uvm-switches.svg).")  # fmt: skip
@click.option("--transport", type=click.Choice(["futex", "signal"]), default="futex",
              help="How kernel and guest switch.")  # fmt: skip
@click.option("--trap", type=click.Choice(["sud", "seccomp"]), help="The trap door.")
def command(picture: str, **options: Any) -> int:
    """Boot a machine of two vCPUs with a disk, and show what it can do."""
    folder = os.path.dirname(os.path.abspath(picture))
    if not os.access(folder, os.W_OK):
        return complain(WHO, f"{folder} is not writable: say --picture FILE", WRONG_USE)
    with terminable(), tempfile.TemporaryDirectory(prefix="uvm-demo-") as place:
        image = make_image(os.path.join(place, "disk.img"))
        try:
            failed = _run(_tour(image, picture, options))
        except UsageError as error:
            return complain(WHO, str(error), WRONG_USE)
        except MachineError as error:
            return complain(WHO, str(error), FAILED)
        if image is not None:
            failed += _check_image(image)
    click.echo(f"The picture of the switches is {picture}.")
    return 1 if failed else 0


def _run(tour: Any) -> list[str]:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        failed: list[str] = runner.run(tour)
        return failed


async def _tour(image: str | None, picture: str, options: dict[str, Any]) -> list[str]:
    """All steps in one machine; answers the titles of those that failed."""
    from uvm_async.machine import Machine
    from uvm_async.trace.picture import Switches, draw

    steps = steps_of(image is not None)
    progress = Progress(len(steps))
    progress.at(0, "booting")
    switches = Switches()
    failed = []
    disks = [image] if image is not None else []
    async with Machine(disks=disks, cpus=2, observers=[switches], **options) as machine:
        for index, step in enumerate(steps):
            progress.at(index, step.title)
            if not await _show(machine, switches, step, progress):
                failed.append(step.title)
        progress.at(len(steps), "done")
        sched = machine.kernel.sched
        said = f"{sched.traps:,} traps and {sched.switches:,} switches in all."
    progress.clear()
    click.echo(said)
    with open(picture, "w", encoding="utf-8") as file:
        file.write(draw(switches.slices, "Preemption, and threads on two vCPUs"))
    return failed


async def _show(machine: Machine, switches: Switches, step: Step, progress: Progress) -> bool:
    """Run one step and print what came of it."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    switches.recording = step.pictured
    try:
        result = await machine.run(step.program, cwd="/", timeout=PATIENCE_S)
        text, ok = (result.stdout + result.stderr).decode(errors="replace"), not result.returncode
    except TimeoutError:
        text, ok = f"no end within {PATIENCE_S} seconds\n", False
    except OSError as error:
        text, ok = f"{error}\n", False
    switches.recording = False
    progress.clear()
    click.echo(f"{step.title}: {step.what} ({(loop.time() - begin) * 1000:.0f} ms)")
    click.echo(textwrap.indent(text, "    ") + ("" if ok else "    It failed.\n"))
    return ok


# -- the disk


def make_image(path: str) -> str | None:
    """An empty ext2 at `path`; None, and the reason said, if it cannot be made."""
    tool = find_tool("mke2fs")
    if tool is None:
        click.echo("No disk in this tour: there is no mke2fs (apt-get install e2fsprogs).\n")
        return None
    with open(path, "wb") as file:
        file.truncate(DISK_BYTES)
    done = subprocess.run([tool, "-q", "-F", "-t", "ext2", path], capture_output=True, text=True)
    if done.returncode:
        click.echo(f"No disk in this tour: mke2fs said {done.stderr.strip()}\n")
        return None
    return path


def _check_image(path: str) -> list[str]:
    tool = find_tool("e2fsck")
    if tool is None:
        click.echo("Not checked: there is no e2fsck (apt-get install e2fsprogs).")
        return []
    done = subprocess.run([tool, "-fn", path], capture_output=True, text=True)
    last = (done.stdout.strip() or done.stderr.strip()).splitlines()[-1]
    click.echo(f"e2fsck, on the host, calls the disk {'damaged' if done.returncode else 'clean'}:")
    click.echo(f"    {last.replace(path, os.path.basename(path))}")
    return ["e2fsck"] if done.returncode else []
