"""Messages over sockets: send, recv and their kin, one at a time or several.

Linux: net/socket.c.  A call that slept runs again from its top and reads the
message header again; `net.socket.SocketWait` says how far it was.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.fs.lifetime import held_fd
from uvm_async.mm.iov import UserIter
from uvm_async.net.scm import ControlWriter, deliver_scm, read_scm
from uvm_async.net.socket import (
    MSG_CMSG_CLOEXEC,
    MSG_DONTWAIT,
    MSG_EOR,
    MSG_WAITFORONE,
    SO_PASSCRED,
    SO_PASSPIDFD,
    SOCK_SEQPACKET,
    Message,
    SocketFile,
    SocketWait,
    earlier_run,
)
from uvm_async.sched.wait import Interrupted
from uvm_async.syscalls.abi import INT
from uvm_async.syscalls.polling import read_timespec
from uvm_async.syscalls.rw import IOV_MAX, MAX_RW_BYTES, check_range, import_iovec
from uvm_async.syscalls.sockets import (
    SOCKADDR_MAX,
    copy_sockaddr_to_user,
    read_sockaddr,
    socket_of,
)
from uvm_async.syscalls.table import Addr, Fd, Flags, Int, Size, UInt, syscall

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

__all__: list[str] = []

MSGHDR: Final = Struct("<Qi4xQQQQI4x")
"""msg_name, msg_namelen, msg_iov, msg_iovlen, msg_control, msg_controllen, msg_flags."""
MMSGHDR_BYTES: Final = 64
NAMELEN_AT, CONTROLLEN_AT, FLAGS_AT, MSG_LEN_AT = 8, 40, 48, 56
MSG_CMSG_COMPAT: Final = 0x80000000
OPTMEM_MAX: Final = 131072
INTERNAL_FLAGS: Final = 0x8000 | 0x20000 | 0x80000 | 0x8000000
"""MSG_SENDPAGE_NOPOLICY and its like: not for callers."""


@syscall("sendto", missing="MSG_OOB, MSG_MORE and MSG_ZEROCOPY.")
async def sys_sendto(
    task: Task, fd: Fd, buff: Addr, size: Size, flags: Flags, addr: Addr, addr_len: Int
) -> int:
    """Send a message. man 2 send."""
    check_range(buff, min(size, MAX_RW_BYTES))
    async with held_fd(task, fd) as held:
        file = socket_of(held)
        name = await read_sockaddr(task, addr, addr_len) if addr else b""
        it = UserIter(task.mm, [(buff, min(size, MAX_RW_BYTES))], write=False)
        call_flags = file.call_flags(flags & ~INTERNAL_FLAGS)
        return await file.socket.send(task, Message(it, name), call_flags)


@syscall("recvfrom", missing="MSG_OOB and MSG_ERRQUEUE.")
async def sys_recvfrom(
    task: Task, fd: Fd, ubuf: Addr, size: Size, flags: Flags, addr: Addr, addr_len: Addr
) -> int:
    """Receive a message. man 2 recv."""
    check_range(ubuf, min(size, MAX_RW_BYTES))
    async with held_fd(task, fd) as held:
        file = socket_of(held)
        msg = Message(UserIter(task.mm, [(ubuf, min(size, MAX_RW_BYTES))], write=True))
        done = await file.socket.receive(task, msg, file.call_flags(flags))
        await _close_files(file, msg)
        if addr:
            await copy_sockaddr_to_user(task, msg.name, addr, addr_len)
        return done


async def _close_files(file: SocketFile, msg: Message) -> None:
    """Nobody asked for the files that came along."""
    if msg.scm.files:
        files, msg.scm.files = msg.scm.files, []
        await file.socket.sb.drop_files(files)


async def _segments(task: Task, iov: int, count: int) -> list[tuple[int, int]]:
    if count > IOV_MAX:
        raise Errno.EMSGSIZE
    return await import_iovec(task, iov, count)


async def _send_message(task: Task, file: SocketFile, header: int, flags: int) -> int:
    name, namelen, iov, count, control, size, _ = MSGHDR.unpack(
        await task.mm.copy_from_user(header, MSGHDR.size)
    )
    if name and namelen < 0:
        raise Errno.EINVAL
    to = b""
    if name and namelen:
        to = await read_sockaddr(task, name, min(namelen, SOCKADDR_MAX))
    segments = await _segments(task, iov, count)
    if size > OPTMEM_MAX:
        raise Errno.ENOBUFS
    controls = await task.mm.copy_from_user(control, size) if control and size else b""
    msg = Message(UserIter(task.mm, segments, write=False), to, read_scm(task, controls))
    return await file.socket.send(task, msg, flags)


def _send_flags(file: SocketFile, flags: int) -> int:
    if flags & MSG_CMSG_COMPAT:
        raise Errno.EINVAL
    if file.socket.type == SOCK_SEQPACKET:
        flags |= MSG_EOR
    return file.call_flags(flags & ~INTERNAL_FLAGS)


@syscall("sendmsg", missing="MSG_OOB, MSG_MORE, MSG_ZEROCOPY and SCM_SECURITY.")
async def sys_sendmsg(task: Task, fd: Fd, msg: Addr, flags: Flags) -> int:
    """Send a message with control messages. man 2 sendmsg."""
    async with held_fd(task, fd) as held:
        file = socket_of(held)
        return await _send_message(task, file, msg, _send_flags(file, flags))


async def _receive_message(task: Task, file: SocketFile, header: int, flags: int) -> int:
    name, namelen, iov, count, control, size, _ = MSGHDR.unpack(
        await task.mm.copy_from_user(header, MSGHDR.size)
    )
    if name and namelen < 0:
        raise Errno.EINVAL
    segments = await _segments(task, iov, count)
    socket = file.socket
    msg = Message(UserIter(task.mm, segments, write=True))
    done = await socket.receive(task, msg, flags)
    out = ControlWriter(control, min(size, 1 << 31))
    await deliver_scm(
        task,
        msg.scm,
        out,
        socket.sb,
        pass_creds=bool(socket.options.get(SO_PASSCRED)),
        pass_pidfd=bool(socket.options.get(SO_PASSPIDFD)),
        cloexec=bool(flags & MSG_CMSG_CLOEXEC),
    )
    if name:
        await copy_sockaddr_to_user(task, msg.name, name, header + NAMELEN_AT)
    shown = msg.flags | out.flags | flags & MSG_CMSG_CLOEXEC
    await task.mm.copy_to_user(header + FLAGS_AT, shown.to_bytes(4, "little"))
    await task.mm.copy_to_user(header + CONTROLLEN_AT, len(out.data).to_bytes(8, "little"))
    return done


@syscall("recvmsg", missing="MSG_OOB, MSG_ERRQUEUE, SCM_SECURITY and time stamps.")
async def sys_recvmsg(task: Task, fd: Fd, msg: Addr, flags: Flags) -> int:
    """Receive a message with control messages. man 2 recvmsg."""
    async with held_fd(task, fd) as held:
        if flags & MSG_CMSG_COMPAT:
            raise Errno.EINVAL
        file = socket_of(held)
        return await _receive_message(task, file, msg, file.call_flags(flags))


def _next_message(task: Task, messages: int) -> None:
    """What is said from now on is about the next message."""
    task.restart = SocketWait(messages=messages) if messages else None


@syscall("sendmmsg", missing="As sendmsg.")
async def sys_sendmmsg(task: Task, fd: Fd, mmsg: Addr, vlen: UInt, flags: Flags) -> int:
    """Send several messages; answers how many. man 2 sendmmsg."""
    async with held_fd(task, fd) as held:
        file = socket_of(held)
        send_flags = _send_flags(file, flags)
        before = earlier_run(task)
        count = before.messages if before is not None else 0
        try:
            while count < min(vlen, IOV_MAX):
                header = mmsg + count * MMSGHDR_BYTES
                sent = await _send_message(task, file, header, send_flags)
                await task.mm.copy_to_user(header + MSG_LEN_AT, INT.pack(sent))
                count += 1
                _next_message(task, count)
        except (Errno, Interrupted):
            if not count:
                raise
        return count


@syscall("recvmmsg", missing="As recvmsg.")
async def sys_recvmmsg(
    task: Task, fd: Fd, mmsg: Addr, vlen: UInt, flags: Flags, timeout: Addr
) -> int:
    """Receive several messages; answers how many. man 2 recvmmsg."""
    if flags & MSG_CMSG_COMPAT:
        raise Errno.EINVAL
    limit_ns = await read_timespec(task, timeout)
    async with held_fd(task, fd) as held:
        file = socket_of(held)
        receive_flags = file.call_flags(flags & ~MSG_WAITFORONE)
        clock = task.kernel.clock
        before = earlier_run(task)
        count = before.messages if before is not None else 0
        started_ns = clock.monotonic_ns()
        try:
            while count < min(vlen, IOV_MAX):
                header = mmsg + count * MMSGHDR_BYTES
                if count and flags & MSG_WAITFORONE:
                    receive_flags |= MSG_DONTWAIT
                got = await _receive_message(task, file, header, receive_flags)
                await task.mm.copy_to_user(header + MSG_LEN_AT, INT.pack(got))
                count += 1
                _next_message(task, count)
                if limit_ns is not None and clock.monotonic_ns() - started_ns >= limit_ns:
                    break
        except (Errno, Interrupted):
            if not count:
                raise
        return count
