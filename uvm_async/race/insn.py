"""Instructions that touch shared memory: decoded, and encoded anew to be run out of line.

The copy's memory operand is `gs:0`, and the shim sets the gs base to where the
operand really is (cshim/stub/race.c), so a copy needs none of the registers that
its address was made of, and may stand anywhere.

Layout of an instruction's code (UVM_RACE_CODE_BYTES = 64): the copy and a jump back;
from 32 on the copy and `int3`, for an update that is divided into read and
write; in the last 8 bytes the address of the instruction in the guest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from iced_x86 import (
    Code,
    Decoder,
    Encoder,
    Instruction,
    InstructionInfoFactory,
    MemorySizeInfo,
    Mnemonic,
    OpAccess,
    OpKind,
    Register,
    RegisterInfo,
)

from uvm_async._host import ffi, lib

__all__ = ["MAX_BYTES", "MAX_CALL_BYTES", "decode", "ends_with_call"]

MAX_BYTES: Final = 15
MAX_CALL_BYTES: Final = 7
NONE: Final = 16
CODE_SPLIT: Final = 32
STACK_BYTES: Final = 8

READS: Final = frozenset(
    {OpAccess.READ, OpAccess.COND_READ, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE}
)
WRITES: Final = frozenset(
    {OpAccess.WRITE, OpAccess.COND_WRITE, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE}
)
_R64: Final = (
    Register.RAX, Register.RCX, Register.RDX, Register.RBX,
    Register.RSP, Register.RBP, Register.RSI, Register.RDI,
    Register.R8, Register.R9, Register.R10, Register.R11,
    Register.R12, Register.R13, Register.R14, Register.R15,
)  # fmt: skip
NUMBERS: Final = {register: i for i, register in enumerate(_R64)} | {Register.NONE: NONE}
STRINGS: Final = {
    Mnemonic.MOVSB: lib.UVM_INSN_MOVS, Mnemonic.MOVSW: lib.UVM_INSN_MOVS,
    Mnemonic.MOVSD: lib.UVM_INSN_MOVS, Mnemonic.MOVSQ: lib.UVM_INSN_MOVS,
    Mnemonic.STOSB: lib.UVM_INSN_STOS, Mnemonic.STOSW: lib.UVM_INSN_STOS,
    Mnemonic.STOSD: lib.UVM_INSN_STOS, Mnemonic.STOSQ: lib.UVM_INSN_STOS,
    Mnemonic.LODSB: lib.UVM_INSN_LODS, Mnemonic.LODSW: lib.UVM_INSN_LODS,
    Mnemonic.LODSD: lib.UVM_INSN_LODS, Mnemonic.LODSQ: lib.UVM_INSN_LODS,
    Mnemonic.CMPSB: lib.UVM_INSN_CMPS, Mnemonic.CMPSW: lib.UVM_INSN_CMPS,
    Mnemonic.CMPSD: lib.UVM_INSN_CMPS, Mnemonic.CMPSQ: lib.UVM_INSN_CMPS,
    Mnemonic.SCASB: lib.UVM_INSN_SCAS, Mnemonic.SCASW: lib.UVM_INSN_SCAS,
    Mnemonic.SCASD: lib.UVM_INSN_SCAS, Mnemonic.SCASQ: lib.UVM_INSN_SCAS,
}  # fmt: skip
_NARROW: Final = frozenset({OpKind.MEMORY_SEG_ESI, OpKind.MEMORY_ESEDI, OpKind.MEMORY_SEG_EDI})
_BITS: Final = frozenset({Mnemonic.BT, Mnemonic.BTS, Mnemonic.BTR, Mnemonic.BTC})
_STACK: Final[dict[int, Callable[[Instruction], bool]]] = {
    Mnemonic.PUSH: lambda i: i.stack_pointer_increment == -STACK_BYTES,
    Mnemonic.POP: lambda i: i.stack_pointer_increment == STACK_BYTES,
    Mnemonic.CALL: lambda i: i.code in (Code.CALL_REL32_64, Code.CALL_RM64),
    Mnemonic.RET: lambda i: i.code in (Code.RETNQ, Code.RETNQ_IMM16),
    Mnemonic.LEAVE: lambda i: i.code == Code.LEAVEQ,
}
_FACTORY: Final = InstructionInfoFactory()


def decode(
    code: bytes, ip: int, number: int, code_addr: int, *, choice: bool, user: bool
) -> tuple[Any, bytes]:
    """`struct uvm_race_insn` for the instruction whose bytes begin `code`, and its code.

    `code_addr` is where stubs see the code of instruction `number`; `choice`: it stands where
    accesses are choice points (locked ones always are), `user`: in no library.
    An instruction that cannot be run on shared memory comes back as UVM_INSN_REFUSED.
    """
    instruction = Decoder(64, code, ip=ip).decode()
    insn = ffi.new("struct uvm_race_insn *")
    insn.ip = ip
    insn.number = number
    insn.length = instruction.len or 1
    insn.bytes = code[: insn.length].ljust(16, b"\0")
    insn.base = insn.index = insn.reg = NONE
    insn.kind = lib.UVM_INSN_REFUSED
    if instruction.code == Code.INVALID:
        return insn, b""
    _operand(instruction, insn)
    locked = instruction.has_lock_prefix or (
        instruction.mnemonic == Mnemonic.XCHG and _explicit(instruction)
    )
    string = STRINGS.get(instruction.mnemonic)
    if string is not None and not _vector(instruction):
        if _narrow(instruction):
            return insn, b""
        insn.kind = string
        if instruction.segment_prefix == Register.FS:
            insn.flags |= lib.UVM_INSN_FS
        elif instruction.segment_prefix == Register.GS:
            insn.flags |= lib.UVM_INSN_GS
        insn.size = MemorySizeInfo(instruction.memory_size).size
        repeat = lib.UVM_INSN_REPE if instruction.has_rep_prefix else 0
        insn.flags |= repeat or (lib.UVM_INSN_REPNE if instruction.has_repne_prefix else 0)
        choice = True
    else:
        _classify(instruction, insn)
    if locked:
        insn.flags |= lib.UVM_INSN_LOCKED | lib.UVM_INSN_CHOICE
    if choice:
        insn.flags |= lib.UVM_INSN_CHOICE
    if user:
        insn.flags |= lib.UVM_INSN_USER
    if insn.kind != lib.UVM_INSN_COPY:
        return insn, b""
    out_of_line = _copy(instruction, insn, code_addr)
    if not out_of_line:
        insn.kind = lib.UVM_INSN_STEP
    return insn, out_of_line


def ends_with_call(code: bytes) -> bool:
    """Is the address behind `code`, MAX_CALL_BYTES of it, one that a call returns to?"""
    for length in range(2, MAX_CALL_BYTES + 1):
        instruction = Decoder(64, code[-length:]).decode()
        if instruction.mnemonic == Mnemonic.CALL and instruction.len == length:
            return True
    return False


def _vector(instruction: Instruction) -> bool:
    """MOVSD and CMPSD are also SSE instructions."""
    return any(
        instruction.op_kind(i) == OpKind.REGISTER and instruction.op_register(i) >= Register.XMM0
        for i in range(instruction.op_count)
    )


def _narrow(instruction: Instruction) -> bool:
    """A string instruction that counts in ecx and walks esi and edi."""
    return any(instruction.op_kind(i) in _NARROW for i in range(instruction.op_count))


def _explicit(instruction: Instruction) -> bool:
    return any(instruction.op_kind(i) == OpKind.MEMORY for i in range(instruction.op_count))


def _operand(instruction: Instruction, insn: Any) -> None:
    """Where the explicit memory operand is, how it is accessed, how large it is."""
    for memory in _FACTORY.info(instruction).used_memory():
        if memory.access in READS:
            insn.access |= lib.UVM_EVENT_READ
        if memory.access in WRITES:
            insn.access |= lib.UVM_EVENT_WRITE
    if not _explicit(instruction):
        return
    insn.size = MemorySizeInfo(instruction.memory_size).size
    if instruction.segment_prefix == Register.FS:
        insn.flags |= lib.UVM_INSN_FS
    elif instruction.segment_prefix == Register.GS:
        insn.flags |= lib.UVM_INSN_GS
    disp = instruction.memory_displacement
    if instruction.is_ip_rel_memory_operand:
        disp = instruction.ip_rel_memory_address
    else:
        insn.base = NUMBERS.get(instruction.memory_base, NONE)
        insn.index = NUMBERS.get(instruction.memory_index, NONE)
        insn.scale = instruction.memory_index_scale
    insn.disp = disp - (1 << 64) if disp >> 63 else disp


def _immediate(instruction: Instruction) -> int:
    value: int = instruction.immediate(0)
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _classify(instruction: Instruction, insn: Any) -> None:
    """Which way it is run."""
    mnemonic = instruction.mnemonic
    explicit = _explicit(instruction)
    register = instruction.op_count > 0 and instruction.op_kind(0) == OpKind.REGISTER
    if mnemonic in _STACK and not _STACK[mnemonic](instruction):
        return  # of 16 bits, or to another segment
    if register and mnemonic in (Mnemonic.PUSH, Mnemonic.POP, Mnemonic.CALL):
        insn.reg = NUMBERS.get(instruction.op_register(0), NONE)
        if insn.reg == NONE:
            return  # a segment register
        insn.kind = {
            Mnemonic.PUSH: lib.UVM_INSN_PUSH, Mnemonic.POP: lib.UVM_INSN_POP,
            Mnemonic.CALL: lib.UVM_INSN_CALL_REG,
        }[mnemonic]  # fmt: skip
    elif mnemonic == Mnemonic.PUSH and explicit:
        insn.kind = lib.UVM_INSN_PUSH_MEM
    elif mnemonic == Mnemonic.PUSH:
        insn.kind = lib.UVM_INSN_PUSH_IMM
        insn.imm = _immediate(instruction)
    elif mnemonic == Mnemonic.CALL and explicit:
        insn.kind = lib.UVM_INSN_CALL_MEM
    elif mnemonic == Mnemonic.CALL:
        insn.kind = lib.UVM_INSN_CALL
        insn.imm = instruction.near_branch_target
    elif mnemonic == Mnemonic.RET:
        insn.kind = lib.UVM_INSN_RET
        insn.imm = _immediate(instruction) if instruction.op_count else 0
    elif mnemonic == Mnemonic.LEAVE:
        insn.kind = lib.UVM_INSN_LEAVE
    elif explicit and insn.size and _address_known(instruction):
        if mnemonic in _BITS and instruction.op_kind(1) == OpKind.REGISTER:
            insn.flags |= lib.UVM_INSN_BIT
            insn.reg = NUMBERS[RegisterInfo(instruction.op_register(1)).full_register]
        insn.kind = lib.UVM_INSN_COPY
        if instruction.is_stack_instruction:  # pop [mem]: the processor's own step
            insn.kind = lib.UVM_INSN_REFUSED
    # The rest has no operand whose place could be computed (xlat, enter, gathers) or whose size is
    # known (xsave).


def _address_known(instruction: Instruction) -> bool:
    if instruction.is_ip_rel_memory_operand:
        return True
    return instruction.memory_base in NUMBERS and instruction.memory_index in NUMBERS


def _copy(instruction: Instruction, insn: Any, code_addr: int) -> bytes:
    """The out-of-line code, or nothing if there can be none."""
    length = insn.length
    back = insn.ip + length
    copy = instruction.copy()
    copy.segment_prefix = Register.GS
    copy.memory_base = Register.NONE
    copy.memory_index = Register.NONE
    copy.memory_index_scale = 1
    copy.memory_displacement = 0
    copy.memory_displ_size = 8
    encoder = Encoder(64)
    try:
        encoder.encode(copy, code_addr)
    except ValueError:
        return b""
    body = encoder.take_buffer()
    jump = b"\xff\x25\x00\x00\x00\x00" + back.to_bytes(8, "little")
    if len(body) + len(jump) > CODE_SPLIT or len(body) + 1 > 24:
        return b""
    first = (body + jump).ljust(CODE_SPLIT, b"\xcc")
    second = (body + b"\xcc").ljust(24, b"\xcc")
    code: bytes = first + second + int(insn.ip).to_bytes(8, "little")
    return code
