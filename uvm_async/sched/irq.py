"""Holding off interrupts: what cli(), sti(), save_flags() and restore_flags() were.

Linux: include/linux/irqflags.h.  While held off, neither the timer nor a device (a
finished job of the host) changes anything in the machine; what happens meanwhile
is delivered, in order, when the last holder lets go.  Between two awaits nothing
can happen anyway; this is for drivers in asyncio's manner, whose critical section
spans an await.

    with irqs_off(kernel):
        await device.program()
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uvm_async.kernel.kernel import Kernel

__all__ = ["irqs_off"]


class irqs_off:
    """Context manager; nests, and restores what it found."""

    __slots__ = ("_kernel",)

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def __enter__(self) -> None:
        self._kernel.sched.irq_save()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._kernel.sched.irq_restore()
