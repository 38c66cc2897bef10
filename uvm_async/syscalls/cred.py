"""Credentials: man 2 getuid, setuid, setresuid, setgroups, capget. See credentials(7)."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from uvm_async.errors import Errno
from uvm_async.syscalls.table import Addr, Int, UInt, syscall

if TYPE_CHECKING:
    from uvm_async.kernel.cred import Cred
    from uvm_async.kernel.task import Task

KEEP: Final = 0xFFFFFFFF
CAP_SETGID, CAP_SETUID = 6, 7
CAPABILITY_VERSIONS: Final = {0x19980330: 1, 0x20071026: 2, 0x20080522: 2}


def _id(value: int) -> int:
    return -1 if value == KEEP else value


def _install(task: Task, cred: Cred) -> int:
    if cred.euid != task.cred.euid or cred.egid != task.cred.egid:
        task.process.dumpable = 0
    task.cred = cred
    return 0


@syscall("getuid")
def sys_getuid(task: Task) -> int:
    """man 2 getuid."""
    return task.cred.uid


@syscall("geteuid")
def sys_geteuid(task: Task) -> int:
    """man 2 geteuid."""
    return task.cred.euid


@syscall("getgid")
def sys_getgid(task: Task) -> int:
    """man 2 getgid."""
    return task.cred.gid


@syscall("getegid")
def sys_getegid(task: Task) -> int:
    """man 2 getegid."""
    return task.cred.egid


@syscall("getresuid")
async def sys_getresuid(task: Task, ruid: Addr, euid: Addr, suid: Addr) -> int:
    """man 2 getresuid."""
    c = task.cred
    for addr, value in ((ruid, c.uid), (euid, c.euid), (suid, c.suid)):
        await task.mm.copy_to_user(addr, value.to_bytes(4, "little"))
    return 0


@syscall("getresgid")
async def sys_getresgid(task: Task, rgid: Addr, egid: Addr, sgid: Addr) -> int:
    """man 2 getresgid."""
    c = task.cred
    for addr, value in ((rgid, c.gid), (egid, c.egid), (sgid, c.sgid)):
        await task.mm.copy_to_user(addr, value.to_bytes(4, "little"))
    return 0


@syscall("setuid")
def sys_setuid(task: Task, uid: UInt) -> int:
    """man 2 setuid."""
    c = task.cred
    if uid == KEEP:
        raise Errno.EINVAL
    if c.capable(CAP_SETUID):
        return _install(task, c.with_uids(uid, uid, uid))
    if uid in (c.uid, c.suid):
        return _install(task, c.with_uids(euid=uid))
    raise Errno.EPERM


@syscall("setgid")
def sys_setgid(task: Task, gid: UInt) -> int:
    """man 2 setgid."""
    c = task.cred
    if gid == KEEP:
        raise Errno.EINVAL
    if c.capable(CAP_SETGID):
        return _install(task, c.with_gids(gid, gid, gid))
    if gid in (c.gid, c.sgid):
        return _install(task, c.with_gids(egid=gid))
    raise Errno.EPERM


@syscall("setresuid")
def sys_setresuid(task: Task, ruid: UInt, euid: UInt, suid: UInt) -> int:
    """man 2 setresuid."""
    c = task.cred
    if not c.capable(CAP_SETUID):
        for value in (ruid, euid, suid):
            if value != KEEP and value not in (c.uid, c.euid, c.suid):
                raise Errno.EPERM
    return _install(task, c.with_uids(_id(ruid), _id(euid), _id(suid)))


@syscall("setresgid")
def sys_setresgid(task: Task, rgid: UInt, egid: UInt, sgid: UInt) -> int:
    """man 2 setresgid."""
    c = task.cred
    if not c.capable(CAP_SETGID):
        for value in (rgid, egid, sgid):
            if value != KEEP and value not in (c.gid, c.egid, c.sgid):
                raise Errno.EPERM
    return _install(task, c.with_gids(_id(rgid), _id(egid), _id(sgid)))


@syscall("setreuid")
def sys_setreuid(task: Task, ruid: UInt, euid: UInt) -> int:
    """man 2 setreuid."""
    c = task.cred
    if not c.capable(CAP_SETUID):
        if ruid != KEEP and ruid not in (c.uid, c.euid):
            raise Errno.EPERM
        if euid != KEEP and euid not in (c.uid, c.euid, c.suid):
            raise Errno.EPERM
    new_euid = c.euid if euid == KEEP else euid
    saved = new_euid if ruid != KEEP or (euid != KEEP and euid != c.uid) else -1
    return _install(task, c.with_uids(_id(ruid), _id(euid), saved))


@syscall("setregid")
def sys_setregid(task: Task, rgid: UInt, egid: UInt) -> int:
    """man 2 setregid."""
    c = task.cred
    if not c.capable(CAP_SETGID):
        if rgid != KEEP and rgid not in (c.gid, c.egid):
            raise Errno.EPERM
        if egid != KEEP and egid not in (c.gid, c.egid, c.sgid):
            raise Errno.EPERM
    new_egid = c.egid if egid == KEEP else egid
    saved = new_egid if rgid != KEEP or (egid != KEEP and egid != c.gid) else -1
    return _install(task, c.with_gids(_id(rgid), _id(egid), saved))


@syscall("setfsuid")
def sys_setfsuid(task: Task, uid: UInt) -> int:
    """man 2 setfsuid."""
    c = task.cred
    if uid != KEEP and (c.capable(CAP_SETUID) or uid in (c.uid, c.euid, c.suid, c.fsuid)):
        task.cred = replace(c, fsuid=uid)
    return c.fsuid


@syscall("setfsgid")
def sys_setfsgid(task: Task, gid: UInt) -> int:
    """man 2 setfsgid."""
    c = task.cred
    if gid != KEEP and (c.capable(CAP_SETGID) or gid in (c.gid, c.egid, c.sgid, c.fsgid)):
        task.cred = replace(c, fsgid=gid)
    return c.fsgid


@syscall("getgroups")
async def sys_getgroups(task: Task, size: Int, out: Addr) -> int:
    """man 2 getgroups."""
    groups = task.cred.groups
    if size < 0:
        raise Errno.EINVAL
    if size:
        if size < len(groups):
            raise Errno.EINVAL
        await task.mm.copy_to_user(out, struct.pack(f"<{len(groups)}I", *groups))
    return len(groups)


@syscall("setgroups")
async def sys_setgroups(task: Task, size: Int, groups: Addr) -> int:
    """man 2 setgroups."""
    if not task.cred.capable(CAP_SETGID):
        raise Errno.EPERM
    if not 0 <= size <= 65536:
        raise Errno.EINVAL
    data = await task.mm.copy_from_user(groups, 4 * size) if size else b""
    task.cred = replace(task.cred, groups=tuple(sorted(struct.unpack(f"<{size}I", data))))
    return 0


async def _capability_header(task: Task, header: int) -> tuple[int, int]:
    version, pid = struct.unpack("<Ii", await task.mm.copy_from_user(header, 8))
    words = CAPABILITY_VERSIONS.get(version)
    if words is None:
        await task.mm.copy_to_user(header, (0x20080522).to_bytes(4, "little"))
        raise Errno.EINVAL
    return words, pid


@syscall("capget")
async def sys_capget(task: Task, header: Addr, data: Addr) -> int:
    """man 2 capget."""
    try:
        words, pid = await _capability_header(task, header)
    except Errno.EINVAL:
        if data:
            raise
        return 0
    if pid < 0:
        raise Errno.EINVAL
    target = task.kernel.tasks.get(pid) if pid else task
    if target is None:
        raise Errno.ESRCH
    if data:
        c = target.cred
        out = b"".join(
            struct.pack("<III", c.capabilities >> s & 0xFFFFFFFF, c.permitted >> s & 0xFFFFFFFF, 0)
            for s in (0, 32)[:words]
        )
        await task.mm.copy_to_user(data, out)
    return 0


@syscall("capset", missing="the inheritable set is not kept")
async def sys_capset(task: Task, header: Addr, data: Addr) -> int:
    """man 2 capset."""
    words, pid = await _capability_header(task, header)
    if pid not in (0, task.pid):
        raise Errno.EPERM
    raw = await task.mm.copy_from_user(data, 12 * words)
    effective = permitted = 0
    for i in range(words):
        e, p, _ = struct.unpack_from("<III", raw, 12 * i)
        effective |= e << 32 * i
        permitted |= p << 32 * i
    if permitted & ~task.cred.permitted or effective & ~permitted:
        raise Errno.EPERM
    task.cred = replace(task.cred, capabilities=effective, permitted=permitted)
    return 0
