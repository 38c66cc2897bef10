"""procfs: /proc/sys: what can be tuned, and what is only told.

Linux: kernel/sysctl.c, fs/proc/proc_sysctl.c.  Settings that a guest may change
are kept in the super block (`ProcSuperBlock.settings`) unless they belong to the
kernel; whoever honours one reads it from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Final

from uvm_async.errors import Errno
from uvm_async.fs.procfs.node import Dir, Node, ProcDir, Text
from uvm_async.kernel.uts import RELEASE, SYSNAME, VERSION

if TYPE_CHECKING:
    from uvm_async.kernel.task import Task

__all__ = ["SysDir"]

HOST_NAME_BYTES: Final = 64
PID_MAX: Final = 32768


def _hostname(task: Task) -> bytes:
    return task.kernel.hostname + b"\n"


def _set_hostname(task: Task, data: bytes) -> None:
    task.kernel.hostname = _one_line(data, HOST_NAME_BYTES)


def _domainname(task: Task) -> bytes:
    return task.kernel.domainname + b"\n"


def _set_domainname(task: Task, data: bytes) -> None:
    task.kernel.domainname = _one_line(data, HOST_NAME_BYTES)


def _one_line(data: bytes, limit: int) -> bytes:
    return data.split(b"\n", 1)[0].split(b"\0", 1)[0][:limit]


def _uuid_text(value: bytes) -> bytes:
    digits = bytearray(value)
    digits[6] = digits[6] & 0x0F | 0x40
    digits[8] = digits[8] & 0x3F | 0x80
    text = digits.hex().encode()
    return b"-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:])) + b"\n"


def _uuid(task: Task) -> bytes:
    return _uuid_text(task.kernel.entropy.bytes(16))


def _boot_id(task: Task) -> bytes:
    from uvm_async.fs.procfs.super import proc_super_block

    sb = proc_super_block(task.kernel)
    if not sb.boot_id:
        sb.boot_id = task.kernel.entropy.bytes(16)
    return _uuid_text(sb.boot_id)


def _osrelease(task: Task) -> bytes:
    return RELEASE + b"\n"


def _ostype(task: Task) -> bytes:
    return SYSNAME + b"\n"


def _version(task: Task) -> bytes:
    return VERSION + b"\n"


def _threads_max(task: Task) -> bytes:
    return b"%d\n" % min(task.kernel.frames.total() // 8, 2 * PID_MAX)


def _open_files(task: Task) -> bytes:
    files = sum(len(t.files.fds) for t in task.kernel.tasks.values() if t.files.users)
    return b"%d\t0\t9223372036854775807\n" % files


class Constant:
    """A setting that only tells. Picklable, unlike a closure."""

    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text = text

    def __call__(self, task: Task) -> bytes:
        return self.text + b"\n"


class Setting:
    """A number (or, without `low`, a line of text) that a guest may change, and that nothing but
    this file need know."""

    __slots__ = ("default", "high", "low", "name")

    def __init__(
        self, name: str, default: bytes, low: int | None = None, high: int = (1 << 31) - 1
    ) -> None:
        self.name = name
        self.default = default
        self.low = low
        self.high = high

    def __call__(self, task: Task) -> bytes:
        from uvm_async.fs.procfs.super import proc_super_block

        return proc_super_block(task.kernel).settings.get(self.name, self.default) + b"\n"

    def store(self, task: Task, data: bytes) -> None:
        """Raises EINVAL."""
        from uvm_async.fs.procfs.super import proc_super_block

        text = _one_line(data, 128)
        if self.low is not None:
            try:
                value = int(text)
            except ValueError:
                raise Errno.EINVAL from None
            if not self.low <= value <= self.high:
                raise Errno.EINVAL
            text = b"%d" % value
        proc_super_block(task.kernel).settings[self.name] = text


def _told(text: bytes) -> Text:
    return Text(Constant(text))


def _tuned(name: str, default: bytes, low: int | None = None, high: int = (1 << 31) - 1) -> Text:
    setting = Setting(name, default, low, high)
    return Text(setting, 0o644, setting.store)


class RandomDir(ProcDir):
    """/proc/sys/kernel/random."""

    table: ClassVar[Mapping[bytes, Node]] = {
        b"boot_id": Text(_boot_id),
        b"entropy_avail": _told(b"256"),
        b"poolsize": _told(b"256"),
        b"urandom_min_reseed_secs": _told(b"60"),
        b"uuid": Text(_uuid),
        b"write_wakeup_threshold": _told(b"256"),
    }


class KernelDir(ProcDir):
    """/proc/sys/kernel."""

    table: ClassVar[Mapping[bytes, Node]] = {
        b"cap_last_cap": _told(b"40"),
        b"core_pattern": _tuned("core_pattern", b"core"),
        b"core_uses_pid": _tuned("core_uses_pid", b"0", 0, 1),
        b"dmesg_restrict": _told(b"0"),
        b"domainname": Text(_domainname, 0o644, _set_domainname),
        b"hostname": Text(_hostname, 0o644, _set_hostname),
        b"io_uring_disabled": _told(b"2"),
        b"keys": Dir(ProcDir),
        b"kptr_restrict": _told(b"0"),
        b"msgmax": _told(b"8192"),
        b"msgmnb": _told(b"16384"),
        b"msgmni": _told(b"32000"),
        b"ngroups_max": _told(b"65536"),
        b"osrelease": Text(_osrelease),
        b"ostype": Text(_ostype),
        b"overflowgid": _told(b"65534"),
        b"overflowuid": _told(b"65534"),
        b"panic": _told(b"0"),
        b"perf_event_paranoid": _told(b"2"),
        b"pid_max": _told(b"%d" % PID_MAX),
        b"printk": _told(b"4\t4\t1\t7"),
        b"random": Dir(RandomDir),
        b"randomize_va_space": _tuned("randomize_va_space", b"0", 0, 2),
        b"sched_child_runs_first": _told(b"0"),
        b"sem": _told(b"32000\t1024000000\t500\t32000"),
        b"shmall": _told(b"18446744073692774399"),
        b"shmmax": _told(b"18446744073692774399"),
        b"shmmni": _told(b"4096"),
        b"tainted": _told(b"0"),
        b"threads-max": Text(_threads_max),
        b"unprivileged_userns_clone": _told(b"0"),
        b"version": Text(_version),
        b"yama": Dir(ProcDir),
    }


class VmDir(ProcDir):
    """/proc/sys/vm."""

    table: ClassVar[Mapping[bytes, Node]] = {
        b"drop_caches": _tuned("drop_caches", b"0", 0, 7),
        b"max_map_count": _tuned("max_map_count", b"65530", 0),
        b"min_free_kbytes": _told(b"0"),
        b"mmap_min_addr": _told(b"65536"),
        b"nr_hugepages": _told(b"0"),
        b"overcommit_kbytes": _told(b"0"),
        b"overcommit_memory": _tuned("overcommit_memory", b"0", 0, 2),
        b"overcommit_ratio": _tuned("overcommit_ratio", b"50", 0),
        b"swappiness": _tuned("swappiness", b"60", 0, 200),
    }


class FsDir(ProcDir):
    """/proc/sys/fs."""

    table: ClassVar[Mapping[bytes, Node]] = {
        b"aio-max-nr": _told(b"65536"),
        b"aio-nr": _told(b"0"),
        b"file-max": _told(b"9223372036854775807"),
        b"file-nr": Text(_open_files),
        b"lease-break-time": _told(b"45"),
        b"nr_open": _told(b"1048576"),
        b"pipe-max-size": _told(b"1048576"),
        b"pipe-user-pages-hard": _told(b"0"),
        b"pipe-user-pages-soft": _told(b"16384"),
        b"protected_fifos": _told(b"0"),
        b"protected_hardlinks": _told(b"0"),
        b"protected_regular": _told(b"0"),
        b"protected_symlinks": _told(b"0"),
        b"suid_dumpable": _told(b"0"),
    }


class NetCoreDir(ProcDir):
    """/proc/sys/net/core."""

    table: ClassVar[Mapping[bytes, Node]] = {
        b"rmem_default": _told(b"212992"),
        b"rmem_max": _told(b"212992"),
        b"somaxconn": _told(b"4096"),
        b"wmem_default": _told(b"212992"),
        b"wmem_max": _told(b"212992"),
    }


class NetDir(ProcDir):
    """/proc/sys/net."""

    table: ClassVar[Mapping[bytes, Node]] = {b"core": Dir(NetCoreDir)}


class SysDir(ProcDir):
    """/proc/sys."""

    table: ClassVar[Mapping[bytes, Node]] = {
        b"fs": Dir(FsDir),
        b"kernel": Dir(KernelDir),
        b"net": Dir(NetDir),
        b"vm": Dir(VmDir),
    }
