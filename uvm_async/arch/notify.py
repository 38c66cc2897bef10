"""Notifications: how stubs and timers reach the kernel, inside somebody's event loop.

One real-time signal, directed at the loop's thread, blocked there while a machine
lives, read through one signalfd.  Several machines on one loop share it: the
value of each notification carries the machine's epoch.

The hub of a thread is the one piece of process-wide state in the package: the
signal and its mask belong to the thread, not to a machine.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from collections.abc import Callable
from typing import Any

from uvm_async._host import ffi, lib
from uvm_async.errors import MachineError

__all__ = ["KIND_ACK", "KIND_TIMER", "KIND_TRAP", "NotifyHub"]

KIND_TRAP: int = lib.UVM_NOTIFY_TRAP
KIND_ACK: int = lib.UVM_NOTIFY_ACK
KIND_TIMER: int = lib.UVM_NOTIFY_TIMER

_BATCH = 64
_hubs: dict[int, NotifyHub] = {}

Receiver = Callable[[int, int], None]
"""Called with (kind, slot)."""


def _fresh_epoch(hub: NotifyHub) -> int:
    """One that no guest of another machine can guess."""
    while (epoch := secrets.randbits(32)) == 0 or epoch in hub._receivers:
        pass
    return epoch


class NotifyHub:
    """The signalfd of one thread, and who is behind each epoch."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._receivers: dict[int, tuple[Receiver, Callable[[], None]]] = {}
        self._values: Any = ffi.new("uint64_t[]", _BATCH)
        self._was_blocked = bool(lib.uvm_notify_block(1))
        self._fd = lib.uvm_notify_open()
        if self._fd < 0:
            self._restore()
            raise MachineError(f"no signalfd: {os.strerror(-self._fd)}")
        loop.add_reader(self._fd, self.drain)

    @classmethod
    def register(cls, receive: Receiver, done: Callable[[], None]) -> tuple[NotifyHub, int]:
        """Join the hub of this thread's running loop; answers it and a fresh epoch.

        `done` is called after each batch in which the machine received something. Neither may
        raise.
        """
        thread = threading.get_ident()
        loop = asyncio.get_running_loop()
        hub = _hubs.get(thread)
        if hub is not None and hub._loop is not loop:
            raise MachineError("a machine of another event loop still lives in this thread")
        if hub is None:
            hub = _hubs[thread] = cls(loop)
        epoch = _fresh_epoch(hub)
        hub._receivers[epoch] = (receive, done)
        return hub, epoch

    def unregister(self, epoch: int) -> None:
        """Leave. With the last machine the signal's old mask comes back."""
        self._receivers.pop(epoch, None)
        if self._receivers:
            return
        for thread, hub in list(_hubs.items()):
            if hub is self:
                del _hubs[thread]
        self._loop.remove_reader(self._fd)
        # Late notifications must not be left pending: unblocked, they would kill us.
        while lib.uvm_notify_drain(self._fd, self._values, _BATCH):
            pass
        os.close(self._fd)
        self._restore()

    def _restore(self) -> None:
        if not self._was_blocked:
            lib.uvm_notify_block(0)

    def wait(self) -> bool:
        """Block this thread, loop and all, for one notification, and hand it on.

        False: a timer's, or a signal of the host has come instead; time to look at the loop.
        Somebody has to have a timer armed.
        """
        if lib.uvm_notify_wait(self._values):
            return False
        value = self._values[0]
        receiver = self._receivers.get(value >> 32)
        kind = value >> 16 & 0xFFFF
        if receiver is not None:
            receiver[0](kind, value & 0xFFFF)
            receiver[1]()
        return bool(kind != KIND_TIMER)

    def drain(self) -> None:
        """Read one batch and hand each notification to its machine."""
        values = self._values
        count = lib.uvm_notify_drain(self._fd, values, _BATCH)
        receivers = self._receivers
        if count == 1:
            value = values[0]
            receiver = receivers.get(value >> 32)
            if receiver is not None:
                receiver[0](value >> 16 & 0xFFFF, value & 0xFFFF)
                receiver[1]()
            return
        called: dict[int, Callable[[], None]] = {}
        for value in ffi.unpack(values, count):
            receiver = receivers.get(value >> 32)
            if receiver is not None:
                receiver[0](value >> 16 & 0xFFFF, value & 0xFFFF)
                called[value >> 32] = receiver[1]
        for done in called.values():
            done()
