"""Descriptors that are somebody else's: standard streams, the caller's terminal.

An event loop may make what it watches non-blocking (uvloop does), which is a
property of the open file, shared with whoever else has it: the shell that started
us, or our own output where that is the same terminal.  So the loop watches an
epoll of ours, and the descriptor stays as it was.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable

__all__ = ["Watch", "write_all"]


class Watch:
    """Calls back while a descriptor is readable."""

    def __init__(self, fd: int, readable: Callable[[], None]) -> None:
        """Raises PermissionError where there is nothing to wait for: a regular file."""
        self._epoll = select.epoll()
        try:
            self._epoll.register(fd, select.EPOLLIN)
        except BaseException:
            self._epoll.close()
            raise
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), readable)

    def close(self) -> None:
        """Watch no longer. Idempotent."""
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()


def write_all(fd: int, data: bytes) -> None:
    """Write `data`, waiting as long as it takes, also where somebody has made `fd` non-blocking.

    Raises OSError.
    """
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
