"""The machine's console: a terminal whose line ends in the embedding process.

Linux: drivers/tty/hvc/hvc_console.c in spirit; the numbers are those of the first
serial line, which programs know.  /dev/ttyS0 is the terminal itself, /dev/console
the same without job control, /dev/tty whatever terminal the caller's session has.

The embedder's side: it feeds what was typed (`feed`), says when the window has
another size, and takes what is on its way to the screen (`take`) when `on_output`
calls.  That link is not state: whoever thaws a machine finds the console under its
name (`Kernel.roots`) and sets it again.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.fs.devfs import devfs, register_device
from uvm_async.fs.inode import File, Path
from uvm_async.fs.walk import lookup_child
from uvm_async.state import Entity
from uvm_async.tty.base import Tty
from uvm_async.tty.file import TtyFile

if TYPE_CHECKING:
    from uvm_async.kernel.kernel import Kernel
    from uvm_async.kernel.task import Process, Task

__all__ = ["Console", "TtyDevice", "register_ttys"]

O_ACCMODE: Final = 3
O_WRONLY: Final = 1
O_RDWR: Final = 2
O_NOCTTY: Final = 0o400
CAP_SYS_ADMIN: Final = 1 << 21
TTY_GID: Final = 5
CONSOLE_NAME: Final = b"ttyS0"
CONSOLE_RDEV: Final = os.makedev(4, 64)
AUX_TTY_RDEV: Final = os.makedev(5, 0)
AUX_CONSOLE_RDEV: Final = os.makedev(5, 1)


class TtyDevice(Entity):
    """The driver of one terminal's node."""

    def __init__(self, tty: Tty, *, is_console: bool = False) -> None:
        self.tty = tty
        self.is_console = is_console

    async def open_node(self, task: Task, path: Path, flags: int) -> File:
        """A session leader without a terminal gets it as its own, unless O_NOCTTY. Raises EBUSY
        (TIOCEXCL), EIO (hung up)."""
        tty, process = self.tty, task.process
        if tty.hung_up:
            raise Errno.EIO
        if tty.exclusive and not task.cred.capabilities & CAP_SYS_ADMIN:
            raise Errno.EBUSY
        file = TtyFile(path, flags, tty, is_console=self.is_console)
        if (
            not self.is_console
            and not flags & O_NOCTTY
            and process.session == process.pid
            and process.tty is None
            and tty.session is None
            and file.readable
        ):
            tty.make_controlling(process)
        return file


class CurrentTtyDevice(Entity):
    """/dev/tty."""

    async def open_node(self, task: Task, path: Path, flags: int) -> File:
        """Raises ENXIO where the session has no terminal."""
        tty = task.process.tty
        if not isinstance(tty, Tty):
            raise Errno.ENXIO
        if tty.hung_up:
            raise Errno.EIO
        return TtyFile(path, flags, tty)


class Console(Entity):
    """The terminal that the embedder is at the other end of."""

    def __init__(self, kernel: Kernel) -> None:
        self.tty = Tty(kernel, CONSOLE_NAME, CONSOLE_RDEV)

    # -- the embedder's side

    @property
    def room(self) -> int:
        """How many bytes it makes sense to feed now; what is fed beyond is kept all the same."""
        return max(4096 - len(self.tty.incoming), 0)

    def feed(self, data: bytes) -> None:
        """Somebody has typed."""
        self.tty.feed(data)

    def hang_up(self) -> None:
        """The other end is gone."""
        self.tty.hang_up()

    def set_output(self, on_output: Callable[[], None] | None) -> None:
        """`on_output` is called when there is something to `take`."""
        self.tty.out.on_data = on_output
        if on_output is not None and self.tty.out.buffer:
            on_output()

    def take(self) -> bytes:
        """All that is on its way to the screen."""
        return self.tty.out.take()

    def set_winsize(self, rows: int, columns: int, xpixels: int = 0, ypixels: int = 0) -> None:
        """The window has another size."""
        self.tty.set_winsize(rows, columns, xpixels, ypixels)

    async def open_for(self, process: Process) -> File:
        """An open file on /dev/ttyS0 for the first process's standard streams, with one reference;
        it becomes the controlling terminal of `process`, which leads a session."""
        kernel = self.tty.kernel
        sb = await devfs(kernel)
        root = kernel.mounts.root_dentry(sb)
        async with sb.root.lock:
            dentry = await lookup_child(root, CONSOLE_NAME)
        mount = next((m for m in kernel.mounts.mounts if m.sb is sb), None)
        place = Path(mount or kernel.mounts.internal[sb.fs_type], dentry)
        file = TtyFile(place, O_RDWR, self.tty)
        if process.tty is None and self.tty.session is None:
            self.tty.make_controlling(process)
        return file


async def register_ttys(kernel: Kernel, console: Console | None) -> None:
    """/dev/tty, and with a console /dev/console and /dev/ttyS0."""
    by_all, by_owner = stat.S_IFCHR | 0o666, stat.S_IFCHR | 0o600
    await register_device(kernel, b"tty", by_all, AUX_TTY_RDEV, CurrentTtyDevice(), gid=TTY_GID)
    if console is not None:
        tty = console.tty
        await register_device(
            kernel, CONSOLE_NAME, by_owner | 0o020, CONSOLE_RDEV, TtyDevice(tty), gid=TTY_GID
        )
        driver = TtyDevice(tty, is_console=True)
        await register_device(kernel, b"console", by_owner, AUX_CONSOLE_RDEV, driver, gid=TTY_GID)
