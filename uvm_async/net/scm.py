"""Control messages: open files and credentials that travel beside the data.

Linux: net/core/scm.c, man 7 unix, man 3 cmsg.

A file in a queued message holds a reference, taken when the message is queued
(`Scm.hold`), not when the control message is read: the call may sleep in between.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from struct import Struct
from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.fs.fdtable import fd_install
from uvm_async.fs.pidfd import PidFile

if TYPE_CHECKING:
    from uvm_async.fs.inode import File
    from uvm_async.kernel.task import Task
    from uvm_async.net.socket import SockFs

__all__ = ["CMSGHDR", "UCRED", "ControlWriter", "Creds", "Scm", "deliver_scm", "read_scm"]

CMSGHDR: Final = Struct("<Qii")
UCRED: Final = Struct("<iII")
SOL_SOCKET: Final = 1
SCM_RIGHTS, SCM_CREDENTIALS, SCM_PIDFD = 1, 2, 4
SCM_MAX_FD: Final = 253
MSG_CTRUNC: Final = 0x8
CAP_SETGID, CAP_SETUID, CAP_SYS_ADMIN = 6, 7, 21
OVERFLOW_ID: Final = 65534
NO_CREDS: Final = (0, OVERFLOW_ID, OVERFLOW_ID)
"""What a receiver sees of a sender who did not say."""

Creds = tuple[int, int, int]
"""(pid, uid, gid)."""


@dataclass(slots=True)
class Scm:
    """What travels with one message (Linux: struct scm_cookie)."""

    files: list[File] = field(default_factory=list)
    creds: Creds | None = None

    def hold(self, sb: SockFs) -> None:
        """The message is queued. Raises EBADF if a file was closed meanwhile."""
        from uvm_async.net.socket import SocketFile

        if any(file.refs == 0 for file in self.files):
            raise Errno.EBADF
        for file in self.files:
            file.refs += 1
            if isinstance(file, SocketFile):
                sb.inflight[file] = sb.inflight.get(file, 0) + 1

    def detach(self, sb: SockFs) -> list[File]:
        """The message is received or thrown away: its files, whose references are the caller's."""
        files, self.files = self.files, []
        for file in files:
            count = sb.inflight.pop(file, 0)  # type: ignore[call-overload]
            if count > 1:
                sb.inflight[file] = count - 1  # type: ignore[index]
        return files

    def peek(self) -> list[File]:
        """Its files once more, for MSG_PEEK."""
        for file in self.files:
            file.refs += 1
        return list(self.files)


def own_creds(task: Task) -> Creds:
    """What a sender says without asking it."""
    return (task.tgid, task.cred.uid, task.cred.gid)


def read_scm(task: Task, control: bytes) -> Scm:
    """What the control messages of a sendmsg(2) ask for.

    Raises EINVAL, EBADF, EPERM (somebody else's credentials), ESRCH.
    """
    scm = Scm()
    at = 0
    while len(control) - at >= CMSGHDR.size:
        length, level, kind = CMSGHDR.unpack_from(control, at)
        if length < CMSGHDR.size or length > len(control) - at:
            raise Errno.EINVAL
        data = control[at + CMSGHDR.size : at + length]
        at += length + 7 & ~7
        if level != SOL_SOCKET:
            continue
        if kind == SCM_RIGHTS:
            _read_rights(task, scm, data)
        elif kind == SCM_CREDENTIALS:
            scm.creds = _read_creds(task, data)
        else:
            raise Errno.EINVAL
    return scm


def _read_rights(task: Task, scm: Scm, data: bytes) -> None:
    count = len(data) // 4
    if count + len(scm.files) > SCM_MAX_FD:
        raise Errno.EINVAL
    for at in range(count):
        fd = int.from_bytes(data[at * 4 : at * 4 + 4], "little", signed=True)
        scm.files.append(task.files.get_raw(fd))


def _read_creds(task: Task, data: bytes) -> Creds:
    if len(data) != UCRED.size:
        raise Errno.EINVAL
    pid, uid, gid = UCRED.unpack(data)
    cred = task.cred
    if (
        (pid != task.tgid and not cred.capable(CAP_SYS_ADMIN))
        or (uid not in (cred.uid, cred.euid, cred.suid) and not cred.capable(CAP_SETUID))
        or (gid not in (cred.gid, cred.egid, cred.sgid) and not cred.capable(CAP_SETGID))
    ):
        raise Errno.EPERM
    if pid not in task.kernel.tasks and pid not in task.kernel.processes:
        raise Errno.ESRCH
    return (pid, uid, gid)


class ControlWriter:
    """The control buffer of a recvmsg(2), of `room` bytes at `addr`, being filled."""

    __slots__ = ("addr", "data", "flags", "room")

    def __init__(self, addr: int, room: int) -> None:
        self.addr = addr
        self.room = room if addr else 0
        self.data = b""
        self.flags = 0

    def put(self, kind: int, payload: bytes) -> None:
        """One control message, cut if there is no room (Linux: put_cmsg)."""
        left = self.room - len(self.data)
        length = CMSGHDR.size + len(payload)
        if left < CMSGHDR.size:
            self.flags |= MSG_CTRUNC
            return
        if left < length:
            self.flags |= MSG_CTRUNC
            length = left
        record = (CMSGHDR.pack(length, SOL_SOCKET, kind) + payload)[:length]
        self.data += record.ljust(min(length + 7 & ~7, left), b"\0")

    def fds_that_fit(self) -> int:
        return max(self.room - len(self.data) - CMSGHDR.size, 0) // 4


async def deliver_scm(
    task: Task,
    scm: Scm,
    out: ControlWriter,
    sb: SockFs,
    *,
    pass_creds: bool,
    pass_pidfd: bool,
    cloexec: bool,
) -> None:
    """Give the receiver what came with its message. Files it has no room for are closed.

    A control buffer that cannot be written loses its contents (controllen says 0).
    """
    files, scm.files = scm.files, []
    installed: list[int] = []
    if not out.addr and (pass_creds or pass_pidfd or files):
        out.flags |= MSG_CTRUNC
        await sb.drop_files(files)
        return
    if pass_creds:
        out.put(SCM_CREDENTIALS, UCRED.pack(*(scm.creds or NO_CREDS)))
    if files:
        installed = _install(task, files, out, cloexec=cloexec)
        if len(installed) < len(files):
            out.flags |= MSG_CTRUNC
            await sb.drop_files(files[len(installed) :])
    if pass_pidfd:
        fd = _sender_pidfd(task, scm.creds)
        if fd >= 0:
            installed.append(fd)
        out.put(SCM_PIDFD, fd.to_bytes(4, "little", signed=True))
    if out.data:
        try:
            await task.mm.copy_to_user(out.addr, out.data)
        except Errno.EFAULT:
            out.data = b""
            for fd in installed:
                with suppress(Errno):
                    await task.files.close(task, fd)


def _install(task: Task, files: list[File], out: ControlWriter, *, cloexec: bool) -> list[int]:
    fds: list[int] = []
    for file in files[: out.fds_that_fit()]:
        try:
            fds.append(fd_install(task, file, cloexec=cloexec))
        except Errno.EMFILE:
            break
    if fds:
        out.put(SCM_RIGHTS, b"".join(fd.to_bytes(4, "little") for fd in fds))
    return fds


def _sender_pidfd(task: Task, creds: Creds | None) -> int:
    """A pidfd of the sender, or an error's negative number, as SCM_PIDFD has it."""
    process = task.kernel.processes.get(creds[0]) if creds is not None else None
    if process is None:
        return -Errno.ESRCH.errno
    try:
        return fd_install(task, PidFile(task.kernel, process, None, 0), cloexec=True)
    except Errno.EMFILE as error:
        return -error.errno
