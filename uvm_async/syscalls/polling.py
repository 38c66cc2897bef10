"""Waiting for several descriptors: poll, select, and their masked forms.

Linux: fs/select.c.  The first run of a call turns the timeout into a deadline,
which `task.restart` carries to the runs after a wake-up; a signal mask is set by
the first run only, and put back when the call ends (`task.saved_blocked`).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.fs.fdtable import nofile_limit
from uvm_async.kernel.signal import recalc_sigpending
from uvm_async.sched.wait import Interrupted, WaitQueue, block_on
from uvm_async.syscalls.abi import POLLFD, SIGSET_ARG, TIMESPEC, TIMEVAL
from uvm_async.syscalls.table import Addr, Int, Size, UInt, syscall

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

__all__ = ["Sleep", "begin_sleep", "read_timespec", "set_user_mask", "until_done"]

POLLIN, POLLPRI, POLLOUT, POLLERR, POLLHUP, POLLNVAL = 1, 2, 4, 8, 16, 32
POLLRDNORM, POLLRDBAND, POLLWRNORM, POLLWRBAND = 0x40, 0x80, 0x100, 0x200
IN_SET: Final = POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR
OUT_SET: Final = POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR
EX_SET: Final = POLLPRI
O_PATH: Final = 0o10000000
SIGSET_BYTES: Final = 8
UNBLOCKABLE: Final = 1 << (9 - 1) | 1 << (19 - 1)
"""SIGKILL and SIGSTOP."""
SECOND_NS: Final = 1_000_000_000
FOREVER_NS: Final = 1 << 62


@dataclass(slots=True)
class Sleep:
    """`task.restart` of a call that waits: until when, on the monotonic clock (None: for ever)."""

    deadline_ns: int | None

    def is_over(self, now_ns: int) -> bool:
        return self.deadline_ns is not None and now_ns >= self.deadline_ns


def begin_sleep(task: Task, timeout_ns: int | None) -> Sleep:
    """The sleep that this call began in an earlier run, or begins now."""
    sleep = task.restart
    if isinstance(sleep, Sleep):
        return sleep
    deadline = None
    if timeout_ns is not None:
        deadline = min(task.kernel.clock.monotonic_ns() + timeout_ns, FOREVER_NS)
    task.restart = sleep = Sleep(deadline)
    return sleep


async def set_user_mask(task: Task, sigmask: int, size: int) -> None:
    """Block these signals until the call ends. Raises EINVAL, EFAULT."""
    if not sigmask or task.saved_blocked is not None:
        return
    if size != SIGSET_BYTES:
        raise Errno.EINVAL
    mask = int.from_bytes(await task.mm.copy_from_user(sigmask, SIGSET_BYTES), "little")
    task.saved_blocked = task.blocked
    task.blocked = mask & ~UNBLOCKABLE


class until_done:
    """`with until_done(task)`: a mask that `set_user_mask` set is taken back when the call ends,
    unless by a signal, which is delivered under it first."""

    __slots__ = ("task",)

    def __init__(self, task: Task) -> None:
        self.task = task

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: object, tb: object) -> None:
        task = self.task
        ended = kind is None or issubclass(kind, Errno)
        if ended and task.saved_blocked is not None:
            task.blocked, task.saved_blocked = task.saved_blocked, None
            recalc_sigpending(task)


async def read_timespec(task: Task, addr: int) -> int | None:
    """A timeout in nanoseconds, or None (no address: for ever). Raises EINVAL, EFAULT."""
    if not addr:
        return None
    seconds, nanoseconds = TIMESPEC.unpack(await task.mm.copy_from_user(addr, TIMESPEC.size))
    if seconds < 0 or not 0 <= nanoseconds < SECOND_NS:
        raise Errno.EINVAL
    return min(int(seconds) * SECOND_NS + int(nanoseconds), FOREVER_NS)


# -- poll


def _scan(task: Task, fds: list[tuple[int, int]]) -> tuple[list[int], list[WaitQueue]]:
    """(revents of each, queues to wait on)."""
    table = task.files.fds
    answers: list[int] = []
    queues: list[WaitQueue] = []
    for fd, events in fds:
        if fd < 0:
            answers.append(0)
            continue
        file = table.get(fd)
        if file is None or file.flags & O_PATH:
            answers.append(POLLNVAL)
            continue
        answers.append(file.poll(task) & (events | POLLERR | POLLHUP) & 0xFFFF)
        queues += file.poll_queues_of(task)
    return answers, queues


async def _poll(task: Task, ufds: int, nfds: int, timeout_ns: int | None) -> int:
    if nfds > nofile_limit(task):
        raise Errno.EINVAL
    raw = await task.mm.copy_from_user(ufds, nfds * POLLFD.size) if nfds else b""
    wanted = [(fd, events & 0xFFFF) for fd, events, _ in POLLFD.iter_unpack(raw)]
    sleep = begin_sleep(task, timeout_ns)
    answers, queues = _scan(task, wanted)
    ready = sum(1 for answer in answers if answer)
    if not ready and not sleep.is_over(task.kernel.clock.monotonic_ns()):
        await block_on(*queues, deadline_ns=sleep.deadline_ns, restart="nohand")
    if nfds:
        packed = b"".join(
            raw[at * 8 : at * 8 + 6] + answer.to_bytes(2, "little")
            for at, answer in enumerate(answers)
        )
        await task.mm.copy_to_user(ufds, packed)
    return ready


@syscall("poll")
async def sys_poll(task: Task, ufds: Addr, nfds: UInt, timeout_msecs: Int) -> int:
    """Wait for events on file descriptors. man 2 poll."""
    timeout = None if timeout_msecs < 0 else timeout_msecs * 1_000_000
    return await _poll(task, ufds, nfds, timeout)


@syscall("ppoll")
async def sys_ppoll(
    task: Task, ufds: Addr, nfds: UInt, tsp: Addr, sigmask: Addr, sigsetsize: Size
) -> int:
    """poll with nanoseconds and a signal mask; the time left is written back. man 2 ppoll."""
    timeout = await read_timespec(task, tsp)
    await set_user_mask(task, sigmask, sigsetsize)
    with until_done(task):
        try:
            ready = await _poll(task, ufds, nfds, timeout)
        except Interrupted:
            await _write_left(task, tsp)
            raise
        await _write_left(task, tsp)
        return ready


async def _write_left(task: Task, tsp: int, *, microseconds: bool = False) -> None:
    """The time that is left goes where the timeout came from (if it can be written)."""
    sleep = task.restart
    if not tsp or not isinstance(sleep, Sleep) or sleep.deadline_ns is None:
        return
    left = max(sleep.deadline_ns - task.kernel.clock.monotonic_ns(), 0)
    seconds, nanoseconds = divmod(left, SECOND_NS)
    struct = TIMEVAL if microseconds else TIMESPEC
    # That it cannot be written is not reported by Linux either.
    with suppress(Errno.EFAULT):
        await task.mm.copy_to_user(
            tsp, struct.pack(seconds, nanoseconds // 1000 if microseconds else nanoseconds)
        )


# -- select


def _bits(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


async def _select(task: Task, n: int, addrs: tuple[int, int, int], timeout_ns: int | None) -> int:
    if n < 0:
        raise Errno.EINVAL
    n = min(n, max(task.files.fds, default=-1) + 1)
    size = (n + 63) // 64 * 8
    sets = [
        _bits(await task.mm.copy_from_user(addr, size)) if addr and size else 0 for addr in addrs
    ]
    sleep = begin_sleep(task, timeout_ns)
    results, queues = _scan_sets(task, n, sets)
    ready = sum(result.bit_count() for result in results)
    if not ready and not sleep.is_over(task.kernel.clock.monotonic_ns()):
        await block_on(*queues, deadline_ns=sleep.deadline_ns, restart="nohand")
    for addr, result in zip(addrs, results, strict=True):
        if addr and size:
            await task.mm.copy_to_user(addr, result.to_bytes(size, "little"))
    return ready


def _scan_sets(task: Task, n: int, sets: list[int]) -> tuple[list[int], list[WaitQueue]]:
    """(the three result sets, queues to wait on). Raises EBADF."""
    results = [0, 0, 0]
    queues: list[WaitQueue] = []
    wanted = (sets[0] | sets[1] | sets[2]) & ((1 << n) - 1)
    while wanted:
        bit = wanted & -wanted
        wanted ^= bit
        file = task.files.get(bit.bit_length() - 1)
        mask = file.poll(task)
        for at, meaning in enumerate((IN_SET, OUT_SET, EX_SET)):
            if sets[at] & bit and mask & meaning:
                results[at] |= bit
        queues += file.poll_queues_of(task)
    return results, queues


@syscall("select")
async def sys_select(task: Task, n: Int, inp: Addr, outp: Addr, exp: Addr, tvp: Addr) -> int:
    """Wait for descriptors in three sets; the time left is written back. man 2 select."""
    timeout: int | None = None
    if tvp:
        seconds, micro = TIMEVAL.unpack(await task.mm.copy_from_user(tvp, TIMEVAL.size))
        seconds += micro // 1_000_000
        if seconds < 0 or micro < 0:
            raise Errno.EINVAL
        timeout = min(seconds * SECOND_NS + micro % 1_000_000 * 1000, FOREVER_NS)
    try:
        ready = await _select(task, n, (inp, outp, exp), timeout)
    except Interrupted:
        await _write_left(task, tvp, microseconds=True)
        raise
    await _write_left(task, tvp, microseconds=True)
    return ready


@syscall("pselect6")
async def sys_pselect6(
    task: Task, n: Int, inp: Addr, outp: Addr, exp: Addr, tsp: Addr, sig: Addr
) -> int:
    """select with nanoseconds and a signal mask. man 2 pselect."""
    mask_addr, mask_size = 0, 0
    if sig:
        mask_addr, mask_size = SIGSET_ARG.unpack(await task.mm.copy_from_user(sig, 16))
    timeout = await read_timespec(task, tsp)
    await set_user_mask(task, mask_addr, mask_size)
    with until_done(task):
        try:
            ready = await _select(task, n, (inp, outp, exp), timeout)
        except Interrupted:
            await _write_left(task, tsp)
            raise
        await _write_left(task, tsp)
        return ready
