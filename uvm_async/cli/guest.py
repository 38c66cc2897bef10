"""One program in one machine, from boot to its end, with the signals that come meanwhile.

Signals for this process are the program's.  Those of the keyboard (SIGINT, SIGQUIT)
go to its process group, as a terminal would send them; before the program runs a
signal ends the attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any, Final

from uvm_async.cli.outcome import Died
from uvm_async.cli.terminal import Terminal
from uvm_async.kernel.observer import Observer
from uvm_async.machine import Machine
from uvm_async.process import CONSOLE, GuestProcess

__all__ = ["Forwarder", "in_machine"]

FORWARDED: Final = (
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
OF_THE_KEYBOARD: Final = (signal.SIGINT, signal.SIGQUIT)


class Forwarder:
    """Hands signals for this process to the guest."""

    def __init__(self) -> None:
        self.guest: GuestProcess | None = None
        self.died_of = 0
        """The signal that came before there was a program to take it."""
        self._job = asyncio.current_task()

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Handlers in place, and gone. What the caller has us ignore stays ignored."""
        loop = asyncio.get_running_loop()
        forwarded = [s for s in FORWARDED if signal.getsignal(s) != signal.SIG_IGN]
        for signo in forwarded:
            loop.add_signal_handler(signo, self._received, signo)
        try:
            yield
        finally:
            for signo in forwarded:
                loop.remove_signal_handler(signo)

    def _received(self, signo: signal.Signals) -> None:
        guest = self.guest
        if guest is None:
            if not self.died_of and self._job is not None:
                self.died_of = signo
                self._job.cancel()
            return
        with contextlib.suppress(ProcessLookupError):
            if signo in OF_THE_KEYBOARD:
                guest.send_signal_to_group(signo)
            else:
                guest.send_signal(signo)


def working_directory(options: dict[str, Any]) -> str:
    """The caller's, if the guest has it too; else /, as chroot(1) does it."""
    try:
        here = os.getcwd()
    except FileNotFoundError:  # deleted
        return "/"
    root = os.path.abspath(options["root"])
    if root == "/" or os.path.isdir(root + here):
        return here
    binds = [guest.rstrip("/") + "/" for _, guest, _ in options["binds"]]
    return here if any((here + "/").startswith(guest) for guest in binds) else "/"


def callers_environment() -> dict[str, str]:
    """What this process was started with: Python itself may since have set LC_CTYPE (PEP 538)."""
    try:
        with open("/proc/self/environ", "rb") as file:
            block = file.read()
    except OSError:
        return dict(os.environ)
    pairs = (os.fsdecode(entry).partition("=") for entry in block.split(b"\0") if b"=" in entry)
    return {name: value for name, _, value in pairs}


def keep_to_one_cpu() -> None:
    """This thread and the stubs of a machine of which one runs at a time share a CPU: a wake-up
    across CPUs costs several times a switch on one. (The loop of an embedder is the embedder's to
    place.)"""
    cpus = sorted(os.sched_getaffinity(0))
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, {cpus[os.getpid() % len(cpus)]})


async def in_machine(argv: list[str], observers: list[Observer], options: dict[str, Any]) -> int:
    """Run `argv`; answers its return code.

    Raises UsageError, MachineError, OSError (with its file name) if it cannot be executed, and
    Died for a signal that came too early for it.
    """
    forwarder = Forwarder()
    terminal = Terminal()
    stdin, stdout, stderr = (CONSOLE if terminal.is_console(fd) else None for fd in range(3))
    with forwarder.installed(), terminal.prepared():
        try:
            machine = Machine(**options, observers=observers)
            if machine.cpus == 1 or machine.clock_name == "virtual":
                keep_to_one_cpu()
            async with machine:
                with terminal.tied(machine.console):
                    guest = await machine.create_subprocess_exec(
                        *argv, stdin=stdin, stdout=stdout, stderr=stderr,
                        cwd=working_directory(options), env=callers_environment(),
                    )  # fmt: skip
                    forwarder.guest = guest
                    status = await guest.wait()
                    await terminal.flush()
                    return status
        except asyncio.CancelledError:
            if forwarder.died_of:
                raise Died(forwarder.died_of) from None
            raise
