"""A guest process, seen from asyncio: the habits of asyncio.subprocess.

Differences are few: `pid` is the guest's, and there is no transport.
"""

from __future__ import annotations

import asyncio
import signal as signals
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from uvm_async.errors import MachineError
from uvm_async.kernel.signal import SI_USER, SigInfo, send_to_process
from uvm_async.stdio import CONSOLE, DEVNULL, PIPE, STDOUT, GuestStdin

if TYPE_CHECKING:
    from uvm_async.errors import Errno
    from uvm_async.kernel.kernel import Kernel
    from uvm_async.kernel.task import Process, Task
    from uvm_async.stdio import Streams

__all__ = ["CONSOLE", "DEVNULL", "PIPE", "STDOUT", "CompletedProcess", "GuestProcess", "GuestStdin"]


@dataclass(frozen=True, slots=True)
class CompletedProcess:
    """How a program ended. `returncode` is negative for a death by signal."""

    args: Sequence[str | bytes]
    returncode: int
    stdout: bytes
    stderr: bytes


class GuestProcess:
    """A running program (asyncio.subprocess.Process)."""

    def __init__(self, kernel: Kernel, process: Process, streams: Streams) -> None:
        self._kernel = kernel
        self._process = process
        self._streams = streams
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._ended.add_done_callback(lambda f: f.cancelled() or f.exception())
        self.pid = process.pid
        self.stdin = streams.stdin
        self.stdout = streams.stdout
        self.stderr = streams.stderr

    @property
    def returncode(self) -> int | None:
        """Exit status, -signal for a death by signal, None while it runs."""
        if not self._ended.done() or self._ended.exception() is not None:
            return None
        return self._ended.result()

    def reattach(self, kernel: Kernel, process: Process) -> None:
        """After a thaw: the same process, in a fresh graph."""
        self._kernel = kernel
        self._process = process

    async def started(self, task: Task, failed: asyncio.Future[Errno]) -> None:
        """Wait until the program runs, or could not."""
        while task.phase == "spawn" and not failed.done() and not self._ended.done():
            await asyncio.sleep(0)

    def exited(self, status: int) -> None:
        """The machine reports the end, with a wait status."""
        if not self._ended.done():
            signo = status & 0x7F
            self._ended.set_result(-signo if signo else status >> 8 & 0xFF)

    def machine_closed(self, failure: BaseException | None) -> None:
        """It will never end by itself: the machine has."""
        if not self._ended.done():
            self._ended.set_exception(failure or MachineError("the machine was closed"))
        self._streams.close()

    async def wait(self) -> int:
        """Wait for its end; answers `returncode`. Raises MachineError if the machine ends first."""
        status = await asyncio.shield(self._ended)
        await self._streams.flush()
        return status

    async def communicate(self, input: bytes | None = None) -> tuple[bytes | None, bytes | None]:
        """Feed `input`, read both outputs to their end, wait."""
        if self.stdin is not None:
            if input:
                self.stdin.write(input)
            self.stdin.close()
        stdout, stderr = await asyncio.gather(_read(self.stdout), _read(self.stderr))
        await self.wait()
        return stdout, stderr

    def send_signal(self, signo: int) -> None:
        """Signal the process. Raises ProcessLookupError if it has ended."""
        if self._ended.done():
            raise ProcessLookupError
        send_to_process(self._process, SigInfo(signo, SI_USER))
        self._kernel.sched.poke()

    def send_signal_to_group(self, signo: int) -> None:
        """Signal all of its process group, as a terminal's ^C does. Raises ProcessLookupError."""
        if self._ended.done():
            raise ProcessLookupError
        if not self._kernel.kill_pgrp(self._process.pgrp, signo):
            raise ProcessLookupError
        self._kernel.sched.poke()

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signals.SIGTERM)

    def kill(self) -> None:
        """SIGKILL; nothing if it has ended."""
        if not self._ended.done():
            self.send_signal(signals.SIGKILL)


async def _read(stream: asyncio.StreamReader | None) -> bytes | None:
    return await stream.read() if stream is not None else None
