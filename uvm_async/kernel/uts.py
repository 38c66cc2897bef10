"""What the kernel calls itself, in uname(2) and /proc.

Linux: include/linux/uts.h.  The release is that of the ABI whose behaviour is
followed; programs refuse to run on one that is too old.  Host name and domain name
are the machine's (`Kernel.hostname`, `Kernel.domainname`).
"""

from __future__ import annotations

from typing import Final

__all__ = ["MACHINE", "RELEASE", "SYSNAME", "VERSION"]

SYSNAME: Final = b"Linux"
RELEASE: Final = b"6.1.0-uvm"
VERSION: Final = b"#1 SMP uvm_async"
MACHINE: Final = b"x86_64"
