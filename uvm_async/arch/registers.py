"""The guest's registers, in the host's own signal frame.

Linux: arch/x86/include/uapi/asm/sigcontext.h (struct sigcontext_64),
include/uapi/asm-generic/ucontext.h.  Numbers are indices in 64-bit words from
the start of the sigcontext, which stands 40 bytes into the ucontext.
"""

from __future__ import annotations

from typing import Final

R8: Final = 0
R9: Final = 1
R10: Final = 2
R11: Final = 3
R12: Final = 4
R13: Final = 5
R14: Final = 6
R15: Final = 7
RDI: Final = 8
RSI: Final = 9
RBP: Final = 10
RBX: Final = 11
RDX: Final = 12
RAX: Final = 13
RCX: Final = 14
RSP: Final = 15
RIP: Final = 16
EFLAGS: Final = 17
CSGSFS: Final = 18
ERR: Final = 19
TRAPNO: Final = 20
OLDMASK: Final = 21
CR2: Final = 22
FPSTATE: Final = 23

CONTEXT_BYTES: Final = 40
"""From ucontext to sigcontext: uc_flags, uc_link, uc_stack."""

SIGMASK: Final = 32
"""uc_sigmask: after the sigcontext's 256 bytes."""

USER_CS_SS: Final = 0x33 | 0x2B << 48
EFLAGS_USER: Final = 0x202
"""Interrupts on, and the bit that is always set."""

EFLAGS_FIX: Final = 0x40DD5
"""What sigreturn may change: AC, OF, DF, TF, SF, ZF, AF, PF, CF (arch/x86/kernel/signal_64.c)."""

UC_FP_XSTATE: Final = 0x1
UC_SIGCONTEXT_SS: Final = 0x2
UC_STRICT_RESTORE_SS: Final = 0x4

MASK64: Final = (1 << 64) - 1
