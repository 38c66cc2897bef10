"""The nursery and its stubs, seen from the kernel.

A stub is a host process that executes one guest task; the nursery is their
parent (cshim/nursery/nursery.c).  A *blank* stub stands in a trap and belongs to
no task; the pool keeps some ahead of need.

Invariants:
- a stub is owned by the pool, or by exactly one task, or it is dead;
- a stub's mailbox and stack are read and written only while it is TRAPPED;
- no host pid is signalled after the kernel has taken note of its death.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from uvm_async._host import ffi, lib
from uvm_async.arch.notify import KIND_ACK, KIND_TRAP, NotifyHub
from uvm_async.arch.physmem import Physmem
from uvm_async.arch.registers import CONTEXT_BYTES
from uvm_async.errors import MachineError

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

__all__ = ["Stub", "StubFamily", "StubOptions"]

ORPHANS_S = 2.0
_MESSAGE = struct.Struct("<IIII")
_SETUP_STEPS = {
    1: "mapping physmem", 2: "no_new_privs", 3: "mprotect", 4: "the seccomp filter",
    5: "mapping the race area",
}  # fmt: skip


def _offset(field: str) -> int:
    return int(ffi.offsetof("struct uvm_mailbox", field))


# Indices of mailbox fields, in 32-bit or 64-bit words.
STATE = _offset("state") // 4
TRAP = _offset("trap") // 4
SIG = _offset("sig") // 4
CODE = _offset("code") // 4
HOST_PID = _offset("host_pid") // 4
PREFILL = _offset("prefill") // 4
SPIN = _offset("spin") // 4
ARCH = _offset("arch") // 4
FAULT_ADDR = _offset("fault_addr") // 8
FAULT_ERROR = _offset("fault_error") // 8
FS_BASE = _offset("fs_base") // 8
GS_BASE = _offset("gs_base") // 8
PGD = _offset("pgd") // 8
FRAME = _offset("frame") // 8
PREFILL_ADDR = _offset("prefill_addr") // 8

TRAP_SYSCALL: int = lib.UVM_TRAP_SYSCALL
TRAP_FAULT: int = lib.UVM_TRAP_FAULT
TRAP_EXCEPTION: int = lib.UVM_TRAP_EXCEPTION
TRAP_PREEMPT: int = lib.UVM_TRAP_PREEMPT
TRAP_RACE: int = lib.UVM_TRAP_RACE


@dataclass(frozen=True, slots=True)
class StubOptions:
    """How stubs trap and wait."""

    transport: int = lib.UVM_TRANSPORT_FUTEX
    door: int = lib.UVM_DOOR_SUD
    nice: int = 5
    spin: int = 0
    trap_tsc: bool = False
    """rdtsc and rdtscp trap, so that time is the kernel's to tell."""
    race: tuple[int, int, int] = (0, 0, 0)
    """Where a controlled machine's race area is: offset in physmem, bytes, offset of its code."""


class Stub:
    """One host process.  `u32`/`u64` are the mailbox's first index in physmem's views,
    `regs` the index (64-bit) of its trap frame's registers, see arch.registers."""

    __slots__ = ("cpu", "dead", "mailbox", "offset", "pid", "regs", "slot", "task", "u32", "u64")

    def __init__(self, slot: int, pid: int, offset: int, frame: int, mailbox: Any) -> None:
        self.slot = slot
        self.pid = pid
        self.offset = offset
        """Byte offset of its slot in physmem."""
        self.mailbox = mailbox
        self.u32 = offset // 4
        self.u64 = offset // 8
        self.regs = (offset + frame + CONTEXT_BYTES) // 8
        self.task: Task | None = None
        self.dead = False
        self.cpu = -1
        """The host CPU it is kept on (arch.placement)."""


def _lives(stub: Stub) -> bool:
    """Is its process there, and not a zombie?"""
    try:
        with open(f"/proc/{stub.pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] not in (b"Z", b"X")
    except OSError:
        return False


class StubFamily:
    """Nursery, pool, and the way notifications take from stubs to the kernel."""

    def __init__(
        self,
        physmem: Physmem,
        options: StubOptions,
        *,
        on_trap: Callable[[Stub], None],
        on_ack: Callable[[Stub], None],
        on_timer: Callable[[], None],
        on_death: Callable[[Stub, int], None],
        on_lost: Callable[[str], None],
        on_error: Callable[[BaseException], None],
        done: Callable[[], None],
    ) -> None:
        self.physmem = physmem
        self.options = options
        self.stubs: dict[int, Stub] = {}
        """Living stubs by slot."""
        self.pool: list[Stub] = []
        self.frame_offset = 0
        """Of the trap frame (ucontext) within a slot; the same in all stubs of a host."""
        self.keep_tlb: Callable[[int], None] | None = None
        """Controlled machines: told of a blank stub's slot, instead of dropping its Tlb."""
        self._slot_offset = physmem.slot_offset
        self._on_trap = on_trap
        self._on_ack = on_ack
        self._on_timer = on_timer
        self._on_death = on_death
        self._on_lost = on_lost
        self._on_error = on_error
        self._done_batch = done
        self._free_slots: list[int] = []
        self._next_slot = 0
        self._unborn: dict[int, None] = {}
        self._waiters: list[Callable[[], None]] = []
        self._socket: socket.socket | None = None
        self._ready: asyncio.Future[None] | None = None
        self._gone: asyncio.Future[None] | None = None
        self._closing = False
        self._at_eof = False
        self._timer = -1
        self._hub: NotifyHub | None = None
        self.epoch = 0

    # -- birth and death of the family

    async def start(self, count: int) -> None:
        """Start the nursery and `count` blank stubs. Raises MachineError."""
        loop = asyncio.get_running_loop()
        self._hub, self.epoch = NotifyHub.register(self._receive, self._done)
        try:
            self._timer = lib.uvm_timer_open(self.epoch)
            if self._timer < 0:
                raise MachineError(f"no timer: {os.strerror(-self._timer)}")
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._socket = ours
            ours.setblocking(False)
            try:
                error = lib.uvm_nursery_launch(self.physmem.fd, theirs.fileno())
            finally:
                theirs.close()
            if error:
                hint = " (see ulimit -n)" if error == -errno.EMFILE else ""
                raise MachineError(f"cannot start the nursery: {os.strerror(-error)}{hint}")
            self._ready = loop.create_future()
            loop.add_reader(ours, self._on_socket)
            config = ffi.new("struct uvm_config *")
            config.physmem_size = self.physmem.size
            config.slot_offset = self._slot_offset
            config.data_offset = self.physmem.data_offset
            config.kernel_pid = os.getpid()
            config.kernel_tid = lib.uvm_gettid()
            config.epoch = self.epoch
            config.transport = self.options.transport
            config.door = self.options.door
            config.fsgsbase = lib.uvm_has_fsgsbase()
            config.nice = self.options.nice
            config.no_tsc = self.options.trap_tsc
            config.race_offset, config.race_size, config.race_code = self.options.race
            ours.send(bytes(ffi.buffer(config)))
            self.grow(count)
            await self._ready
        except BaseException:
            self.kill()
            raise

    async def close(self) -> None:
        """End every stub and the nursery, and wait until they are gone."""
        if self._socket is None:
            return
        self._closing = True
        if self._at_eof:
            self.kill()
            return
        self._gone = asyncio.get_running_loop().create_future()
        with contextlib.suppress(OSError):
            self._socket.send(_MESSAGE.pack(lib.UVM_ORDER_QUIT, 0, 0, 0))
        try:
            await self._gone
        finally:
            self.kill()

    def kill(self) -> None:
        """As `close`, at once: waits (some milliseconds) without the loop."""
        sock, self._socket = self._socket, None
        if sock is not None:
            self._closing = True
            asyncio.get_running_loop().remove_reader(sock)
            sock.setblocking(True)
            sock.settimeout(5)
            with contextlib.suppress(OSError):
                sock.send(_MESSAGE.pack(lib.UVM_ORDER_QUIT, 0, 0, 0))
                while sock.recv(64):
                    pass
            sock.close()
            if self._at_eof:
                self._await_orphans()
        if self._timer >= 0:
            lib.uvm_timer_close(self._timer)
            self._timer = -1
        if self._hub is not None:
            self._hub.unregister(self.epoch)
            self._hub = None
        self.stubs.clear()
        self.pool.clear()

    def _await_orphans(self) -> None:
        """The nursery died by itself: its stubs are dying too (parent-death signal), but until they
        are dead they may still notify, and an unblocked notification would kill us."""
        deadline = time.monotonic() + ORPHANS_S
        for stub in self.stubs.values():
            with contextlib.suppress(OSError):
                os.kill(stub.pid, signal.SIGKILL)
        while time.monotonic() < deadline and any(map(_lives, self.stubs.values())):
            time.sleep(0.001)

    # -- the pool

    def grow(self, count: int) -> None:
        """Ask for `count` more blank stubs; they arrive by and by."""
        if self._socket is None:
            return
        first = self._next_slot
        if self._free_slots:  # slots of dead stubs, one by one
            count_free = min(count, len(self._free_slots))
            for _ in range(count_free):
                slot = self._free_slots.pop()
                self._order_fork(slot, 1)
            count -= count_free
        count = min(count, lib.UVM_MAX_SLOTS - first)
        if count > 0:
            self._next_slot += count
            self._order_fork(first, count)

    def _order_fork(self, first: int, count: int) -> None:
        assert self._socket is not None
        for slot in range(first, first + count):
            self._unborn[slot] = None
        self._socket.send(_MESSAGE.pack(lib.UVM_ORDER_FORK, first, count, 0))

    def take(self) -> Stub | None:
        """A blank stub, or None if there is none right now (see `when_available`)."""
        if len(self.pool) < 8 and len(self._unborn) < 16:
            self.grow(16)
        return self.pool.pop() if self.pool else None

    def when_available(self, callback: Callable[[], None]) -> None:
        """Call back once when a blank stub has come, or can come no more."""
        self._waiters.append(callback)

    @property
    def exhausted(self) -> bool:
        """No blank stub, and none on its way."""
        return not self.pool and not self._unborn

    def give_back(self, stub: Stub) -> None:
        """A task has ended: its stub is blank again (and drops its Tlb when next used)."""
        stub.task = None
        if stub.dead:
            return
        if self.keep_tlb is not None:
            self.keep_tlb(stub.slot)
        else:
            lib.uvm_stub_shootdown_all(stub.mailbox)
        self.physmem.u64[stub.u64 + PGD] = self.physmem.size
        self.pool.append(stub)

    # -- mechanism: stopping and starting

    def wait(self) -> bool:
        """See NotifyHub.wait."""
        return self._hub is not None and self._hub.wait()

    def kick(self, stub: Stub, *, preempt: bool, want_ack: bool = False) -> None:
        """Ask a running stub to trap (`preempt`) and/or to acknowledge its shootdowns."""
        if not stub.dead:
            lib.uvm_stub_kick(stub.mailbox, stub.pid, preempt, want_ack)

    def set_timer(self, deadline_ns: int, interval_ns: int = 0) -> None:
        """Arm the one timer (CLOCK_MONOTONIC, ns); 0 disarms."""
        lib.uvm_timer_set(self._timer, deadline_ns, interval_ns)

    # -- what arrives

    def _done(self) -> None:
        try:
            self._done_batch()
        except Exception as error:
            self._on_error(error)

    def _receive(self, kind: int, slot: int) -> None:
        try:
            self._deliver(kind, slot)
        except Exception as error:
            self._on_error(error)

    def _deliver(self, kind: int, slot: int) -> None:
        stub = self.stubs.get(slot)
        if kind == KIND_TRAP:
            if stub is not None:
                if stub.task is not None:
                    self._on_trap(stub)
            elif slot in self._unborn:
                self._born(slot)
        elif kind == KIND_ACK:
            if stub is not None:
                self._on_ack(stub)
        else:
            self._on_timer()

    def _born(self, slot: int) -> None:
        del self._unborn[slot]
        offset = self._slot_offset + slot * lib.UVM_SLOT_SIZE
        u64 = self.physmem.u64
        frame = u64[offset // 8 + FRAME] - lib.UVM_SLOT_BASE
        if self.frame_offset == 0:
            self.frame_offset = frame
        if frame != self.frame_offset:
            self._on_lost("a stub's signal frame is not where the others' are")
            return
        pid = self.physmem.u32[offset // 4 + HOST_PID]
        self.physmem.u32[offset // 4 + SPIN] = self.options.spin
        stub = Stub(slot, pid, offset, frame, self.physmem.base + offset)
        self.stubs[slot] = stub
        self.pool.append(stub)
        self._call_waiters()

    def _call_waiters(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter()

    def _on_socket(self) -> None:
        assert self._socket is not None
        for _ in range(64):
            try:
                data = self._socket.recv(_MESSAGE.size)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._on_eof()
                return
            self._on_report(*_MESSAGE.unpack(data))
            if self._socket is None:
                return

    def _on_eof(self) -> None:
        assert self._socket is not None
        self._at_eof = True
        asyncio.get_running_loop().remove_reader(self._socket)
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)
        elif self._ready is not None and not self._ready.done():
            self._ready.set_exception(MachineError("the nursery died while starting"))
        elif not self._closing:
            self._on_lost("the nursery died")

    def _on_report(self, op: int, a: int, b: int, c: int) -> None:
        if op == lib.UVM_REPORT_READY:
            assert self._ready is not None
            if self._ready.done():
                return
            if a or b:
                step = _SETUP_STEPS.get(a, f"step {a}")
                self._ready.set_exception(
                    MachineError(f"the nursery failed at {step}: {os.strerror(b)}")
                )
            else:
                self._ready.set_result(None)
        elif op == lib.UVM_REPORT_FORKED:
            if c:
                for slot in [s for s in self._unborn if s >= a + b]:
                    del self._unborn[slot]
                    self._free_slots.append(slot)
                self._call_waiters()
        elif op == lib.UVM_REPORT_DEAD:
            self._on_dead(a, b)

    def _on_dead(self, pid: int, status: int) -> None:
        assert self._socket is not None
        stub = next((s for s in self.stubs.values() if s.pid == pid), None)
        if stub is not None:
            stub.dead = True
            del self.stubs[stub.slot]
            if stub in self.pool:
                self.pool.remove(stub)
            if stub.task is not None:
                self._on_death(stub, status)
            self._free_slots.append(stub.slot)
        else:  # it died before its first trap
            for slot in list(self._unborn):
                at = (self._slot_offset + slot * lib.UVM_SLOT_SIZE) // 4
                if self.physmem.u32[at + HOST_PID] == pid:
                    del self._unborn[slot]
                    self._free_slots.append(slot)
            self._call_waiters()
        self._socket.send(_MESSAGE.pack(lib.UVM_ORDER_REAP, pid, 0, 0))
        self._done()
