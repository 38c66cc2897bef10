"""A trapped task's registers, by name, for code that is not hot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvm_async._host import lib
from uvm_async.arch import registers as r
from uvm_async.arch.stub import ARCH, FS_BASE, GS_BASE, PGD, PREFILL, PREFILL_ADDR

if TYPE_CHECKING:
    from uvm_async.arch.physmem import Physmem
    from uvm_async.arch.stub import Stub

__all__ = [
    "blank_frame",
    "fp_state",
    "load_frame",
    "load_trap",
    "save_frame",
    "save_trap",
    "set_fp_state",
    "set_pgd",
    "set_prefill",
]

SLOT_BYTES: int = lib.UVM_SLOT_SIZE
STACK_BASE: int = lib.UVM_SLOT_BASE + lib.UVM_PAGE_SIZE
STACK_BYTES: int = SLOT_BYTES - lib.UVM_PAGE_SIZE
SS_AUTODISARM = 0x80000000
TRAP_FIRST = 4
TRAP_BYTES = 28
"""In a mailbox: trap, sig, code, fault_addr, fault_error."""
FP_SW_RESERVED = 464
"""Offset of struct _fpx_sw_bytes in the FXSAVE image."""
FP_XSTATE_MAGIC1 = 0x46505853
FP_LEGACY_BYTES = 512
XSTATE_HEADER_BYTES = 64


def save_frame(physmem: Physmem, stub: Stub) -> bytes:
    """A trapped task's whole register state: FS and GS base, then the frame as it stands."""
    u64 = physmem.u64
    start = stub.regs * 8 - r.CONTEXT_BYTES
    bases = u64[stub.u64 + FS_BASE].to_bytes(8, "little") + u64[stub.u64 + GS_BASE].to_bytes(
        8, "little"
    )
    return bases + bytes(physmem.bytes[start : stub.offset + SLOT_BYTES])


def load_frame(physmem: Physmem, stub: Stub, frame: bytes, wake_mask: int) -> None:
    """Put a saved state into a trapped stub. `wake_mask`: the host signals it keeps blocked."""
    u64 = physmem.u64
    start = stub.regs * 8 - r.CONTEXT_BYTES
    u64[stub.u64 + FS_BASE] = int.from_bytes(frame[:8], "little")
    u64[stub.u64 + GS_BASE] = int.from_bytes(frame[8:16], "little")
    physmem.bytes[start : stub.offset + SLOT_BYTES] = frame[16:]
    u64[stub.regs + r.SIGMASK] = wake_mask


def save_trap(physmem: Physmem, stub: Stub) -> bytes:
    """As `save_frame`, with why it trapped, so that the trap can be answered after a thaw."""
    start = stub.offset + TRAP_FIRST
    why = bytes(physmem.bytes[start : start + TRAP_BYTES])
    return why + physmem.u32[stub.u32 + ARCH].to_bytes(4, "little") + save_frame(physmem, stub)


def load_trap(physmem: Physmem, stub: Stub, saved: bytes, wake_mask: int) -> None:
    """The inverse of `save_trap`."""
    start = stub.offset + TRAP_FIRST
    frame = TRAP_BYTES + 4
    physmem.bytes[start : start + TRAP_BYTES] = saved[:TRAP_BYTES]
    physmem.u32[stub.u32 + ARCH] = int.from_bytes(saved[TRAP_BYTES:frame], "little")
    load_frame(physmem, stub, saved[frame:], wake_mask)


def blank_frame(physmem: Physmem, stub: Stub, ip: int, sp: int, wake_mask: int) -> None:
    """A fresh program's registers: all zero but where it starts and its stack."""
    u64 = physmem.u64
    base = stub.regs
    context = base - r.CONTEXT_BYTES // 8
    u64[context] = r.UC_SIGCONTEXT_SS | r.UC_STRICT_RESTORE_SS
    u64[context + 1] = 0
    u64[context + 2] = STACK_BASE
    u64[context + 3] = SS_AUTODISARM
    u64[context + 4] = STACK_BYTES
    for i in range(32):
        u64[base + i] = 0
    u64[base + r.SIGMASK] = wake_mask
    u64[base + r.RIP] = ip
    u64[base + r.RSP] = sp
    u64[base + r.EFLAGS] = r.EFLAGS_USER
    u64[base + r.CSGSFS] = r.USER_CS_SS
    u64[stub.u64 + FS_BASE] = 0
    u64[stub.u64 + GS_BASE] = 0


def set_pgd(physmem: Physmem, stub: Stub, pgd: int) -> None:
    """Which page tables the shim walks (a frame number)."""
    physmem.u64[stub.u64 + PGD] = pgd << 12


def set_prefill(physmem: Physmem, stub: Stub, pages: list[int]) -> None:
    """Pages (address | error code bits) to map before the task goes on."""
    for i, page in enumerate(pages[: lib.UVM_PREFILL_RING]):
        physmem.u64[stub.u64 + PREFILL_ADDR + i] = page
    physmem.u32[stub.u32 + PREFILL] = min(len(pages), lib.UVM_PREFILL_RING)


def _fp_offset(physmem: Physmem, stub: Stub) -> int:
    """Byte offset in physmem of the frame's FP state, 0 if the frame has none."""
    pointer = physmem.u64[stub.regs + r.FPSTATE]
    inside: int = pointer - lib.UVM_SLOT_BASE
    if pointer == 0 or not 0 <= inside <= SLOT_BYTES - FP_LEGACY_BYTES:
        return 0
    return stub.offset + inside


def fp_state(physmem: Physmem, stub: Stub) -> bytes:
    """The FP and vector state as the guest's signal frame wants it (b"" if it has none)."""
    at = _fp_offset(physmem, stub)
    if not at:
        return b""
    size = FP_LEGACY_BYTES
    if physmem.u32[(at + FP_SW_RESERVED) // 4] == FP_XSTATE_MAGIC1:
        size = physmem.u32[(at + FP_SW_RESERVED) // 4 + 1]
    size = min(size, stub.offset + SLOT_BYTES - at)
    return bytes(physmem.bytes[at : at + size])


def set_fp_state(physmem: Physmem, stub: Stub, state: bytes) -> None:
    """Take FP and vector state from a guest's signal frame; what the processor would refuse is
    masked. An empty state is the initial one."""
    at = _fp_offset(physmem, stub)
    if not at:
        return
    if not state:
        physmem.u64[stub.regs + r.FPSTATE] = 0
        return
    room = stub.offset + SLOT_BYTES - at  # what stands here may be the guest's own invention
    host_magic = (
        physmem.u32[(at + FP_SW_RESERVED) // 4] == FP_XSTATE_MAGIC1
        and room >= FP_LEGACY_BYTES + XSTATE_HEADER_BYTES
    )
    features = physmem.u64[(at + FP_SW_RESERVED + 8) // 8] if host_magic else 0
    xstate_size = physmem.u32[(at + FP_SW_RESERVED + 16) // 4] if host_magic else FP_LEGACY_BYTES
    xstate_size = max(FP_LEGACY_BYTES, min(xstate_size, room))
    guest_magic = int.from_bytes(state[FP_SW_RESERVED : FP_SW_RESERVED + 4], "little")
    physmem.bytes[at : at + FP_SW_RESERVED] = state[:FP_SW_RESERVED]
    mxcsr = physmem.u32[at // 4 + 6]
    physmem.u32[at // 4 + 6] = mxcsr & 0xFFFF
    if not host_magic:
        return
    header = (at + FP_LEGACY_BYTES) // 8
    if guest_magic == FP_XSTATE_MAGIC1 and len(state) >= xstate_size:
        physmem.bytes[at + FP_LEGACY_BYTES : at + xstate_size] = state[FP_LEGACY_BYTES:xstate_size]
        physmem.u64[header] &= features
    else:
        physmem.u64[header] = features & 3
    for i in range(1, 8):
        physmem.u64[header + i] = 0
