"""epoll_create, epoll_ctl, epoll_wait. Linux: fs/eventpoll.c."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.fs.epoll import EPOLLEXCLUSIVE, EXCLUSIVE_OK, EpollFile
from uvm_async.fs.fdtable import fd_install, nofile_limit
from uvm_async.fs.lifetime import held_fd
from uvm_async.sched.wait import block_on
from uvm_async.syscalls.abi import EPOLL_EVENT
from uvm_async.syscalls.polling import begin_sleep, read_timespec, set_user_mask, until_done
from uvm_async.syscalls.rw import check_range
from uvm_async.syscalls.table import Addr, Fd, Flags, Int, Size, syscall

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

__all__: list[str] = []

O_CLOEXEC: Final = 0o2000000
EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD = 1, 2, 3
MAX_EVENTS: Final = ((1 << 31) - 1) // EPOLL_EVENT.size


@syscall("epoll_create")
def sys_epoll_create(task: Task, size: Int) -> int:
    """Open an epoll descriptor; the size is only checked. man 2 epoll_create."""
    if size <= 0:
        raise Errno.EINVAL
    return _create(task, 0)


@syscall("epoll_create1")
def sys_epoll_create1(task: Task, flags: Flags) -> int:
    """Open an epoll descriptor. man 2 epoll_create1."""
    return _create(task, flags)


def _create(task: Task, flags: int) -> int:
    if flags & ~O_CLOEXEC:
        raise Errno.EINVAL
    task.files.check_room(nofile_limit(task))
    return fd_install(task, EpollFile(task), cloexec=bool(flags & O_CLOEXEC))


@syscall("epoll_ctl", missing="EPOLLEXCLUSIVE wakes all.")
async def sys_epoll_ctl(task: Task, epfd: Fd, op: Int, fd: Fd, event: Addr) -> int:
    """Add, change or remove what an epoll descriptor watches. man 2 epoll_ctl."""
    events = data = 0
    if op != EPOLL_CTL_DEL:
        raw = await task.mm.copy_from_user(event, EPOLL_EVENT.size)
        events, data = EPOLL_EVENT.unpack(raw)
    ep = task.files.get(epfd)
    file = task.files.get(fd)
    if not file.can_poll:
        raise Errno.EPERM
    if file is ep or not isinstance(ep, EpollFile):
        raise Errno.EINVAL
    if events & EPOLLEXCLUSIVE and (
        op == EPOLL_CTL_MOD or isinstance(file, EpollFile) or events & ~EXCLUSIVE_OK
    ):
        raise Errno.EINVAL
    if op == EPOLL_CTL_ADD:
        ep.add(task, file, fd, events, data)
    elif op == EPOLL_CTL_MOD:
        ep.modify(task, file, fd, events, data)
    elif op == EPOLL_CTL_DEL:
        ep.delete(file, fd)
    else:
        raise Errno.EINVAL
    return 0


async def _wait(task: Task, epfd: int, events: int, maxevents: int, timeout_ns: int | None) -> int:
    if not 0 < maxevents <= MAX_EVENTS:
        raise Errno.EINVAL
    check_range(events, maxevents * EPOLL_EVENT.size)
    async with held_fd(task, epfd) as ep:
        if not isinstance(ep, EpollFile):
            raise Errno.EINVAL
        sleep = begin_sleep(task, timeout_ns)
        found = ep.harvest(task, maxevents)
        if not found:
            if sleep.is_over(task.kernel.clock.monotonic_ns()):
                return 0
            await block_on(ep.wait, deadline_ns=sleep.deadline_ns, restart="intr")
        packed = b"".join(EPOLL_EVENT.pack(*event) for event in found)
        await task.mm.copy_to_user(events, packed)
        return len(found)


@syscall("epoll_wait")
async def sys_epoll_wait(task: Task, epfd: Fd, events: Addr, maxevents: Int, timeout: Int) -> int:
    """Wait for events on an epoll descriptor. man 2 epoll_wait."""
    timeout_ns = None if timeout < 0 else timeout * 1_000_000
    return await _wait(task, epfd, events, maxevents, timeout_ns)


@syscall("epoll_pwait")
async def sys_epoll_pwait(
    task: Task, epfd: Fd, events: Addr, maxevents: Int, timeout: Int, sigmask: Addr, size: Size
) -> int:
    """epoll_wait with a signal mask. man 2 epoll_pwait."""
    await set_user_mask(task, sigmask, size)
    timeout_ns = None if timeout < 0 else timeout * 1_000_000
    with until_done(task):
        return await _wait(task, epfd, events, maxevents, timeout_ns)


@syscall("epoll_pwait2")
async def sys_epoll_pwait2(
    task: Task, epfd: Fd, events: Addr, maxevents: Int, timeout: Addr, sigmask: Addr, size: Size
) -> int:
    """epoll_pwait with nanoseconds. man 2 epoll_pwait2."""
    timeout_ns = await read_timespec(task, timeout)
    await set_user_mask(task, sigmask, size)
    with until_done(task):
        return await _wait(task, epfd, events, maxevents, timeout_ns)
