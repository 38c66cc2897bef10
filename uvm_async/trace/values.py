"""How each argument is shown: numbers by name, strings and structures from guest memory.

The declarations of syscalls/table.py say what is a descriptor, a path, a signal;
this adds what only strace(1) wants to know.  A shower answers None when guest
memory cannot be read (yet): what a call reads is tried at its beginning and again
at its end, what it writes at its end only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from uvm_async.syscalls.abi import IOVEC, POLLFD, STAT, STATX, TIMESPEC, TIMEVAL
from uvm_async.trace import flags

if TYPE_CHECKING:
    from uvm_async.syscalls.table import Kind, SyscallDef
    from uvm_async.trace.usermem import UserMemory

__all__ = ["MAX_STRING_BYTES", "Call", "Shower", "quote", "shower_of"]

MAX_STRING_BYTES: Final = 32
MAX_ITEMS: Final = 32
MAX_PATH_BYTES: Final = 4096
AT_FDCWD: Final = -100
PR_SET_NAME: Final = 15


@dataclass(slots=True)
class Call:
    """A call under way."""

    definition: SyscallDef | None
    name: str
    arguments: tuple[int, ...]
    memory: UserMemory
    result: int | None = None
    """None until it is done (and for a call that has none)."""
    shown: int = 0
    """Arguments printed so far."""
    unfinished: bool = False
    """Its line was broken off."""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """It has an error for a result."""
        return self.result is not None and -4096 < self.result < 0


Show = Callable[[Call, int], str | None]


@dataclass(frozen=True, slots=True)
class Shower:
    """How to show one argument; `out`: the call writes it, so only once it is done."""

    show: Show
    out: bool = False


def quote(data: bytes, limit: int = MAX_STRING_BYTES, *, whole: bool = True) -> str:
    """A C string literal, with `...` where there was more."""
    text = []
    for byte in data[:limit]:
        char = chr(byte)
        if char in '"\\':
            text.append("\\" + char)
        elif 32 <= byte < 127:
            text.append(char)
        else:
            text.append({10: "\\n", 9: "\\t", 13: "\\r"}.get(byte, f"\\{byte:o}"))
    return f'"{"".join(text)}"{"" if whole and len(data) <= limit else "..."}'


# -- scalars


def _dec(call: Call, value: int) -> str:
    return str(value)


def _hex(call: Call, value: int) -> str:
    return "NULL" if value == 0 else hex(value & (1 << 64) - 1)


def _flag_hex(call: Call, value: int) -> str:
    return hex(value & 0xFFFFFFFF) if value else "0"


def _oct(call: Call, value: int) -> str:
    return f"{value:#05o}".replace("0o", "0")


def _fd(call: Call, value: int) -> str:
    return "AT_FDCWD" if value == AT_FDCWD else str(value)


def _signal(call: Call, value: int) -> str:
    return flags.signal_name(value)


def _bits(name: str, *, zero: str = "0") -> Shower:
    table = flags.BITS[name]
    return Shower(lambda call, value: flags.bits(table, value, zero=zero))


def _enum(name: str) -> Shower:
    table = flags.ENUMS[name]
    return Shower(lambda call, value: flags.number(table, value))


def _plain(function: Callable[[int], str]) -> Shower:
    return Shower(lambda call, value: function(value))


# -- strings


def _path(call: Call, value: int) -> str | None:
    return _string(call, value, MAX_PATH_BYTES)


def _str(call: Call, value: int) -> str | None:
    return _string(call, value, MAX_STRING_BYTES)


def _string(call: Call, value: int, limit: int) -> str | None:
    if not value:
        return "NULL"
    found = call.memory.string(value, limit)
    return quote(found[0], limit, whole=found[1]) if found is not None else None


def _argv(call: Call, value: int) -> str | None:
    if not value:
        return "NULL"
    pointers = _pointers(call, value)
    if pointers is None:
        return None
    shown = [_str(call, pointer) or hex(pointer) for pointer in pointers[:MAX_ITEMS]]
    return f"[{', '.join(shown)}{', ...' if len(pointers) > MAX_ITEMS else ''}]"


def _envp(call: Call, value: int) -> str | None:
    if not value:
        return "NULL"
    pointers = _pointers(call, value)
    return None if pointers is None else f"{value:#x} /* {len(pointers)} vars */"


def _pointers(call: Call, addr: int) -> list[int] | None:
    found: list[int] = []
    while True:
        word = call.memory.words(addr + 8 * len(found), 1)
        if word is None:
            return None
        if not word[0]:
            return found
        found.append(word[0])


def _buffer(length: Callable[[Call], int | None]) -> Show:
    def show(call: Call, value: int) -> str | None:
        count = length(call)
        if count is None:
            return _hex(call, value)
        data = call.memory.prefix(value, min(count, MAX_STRING_BYTES))
        if len(data) < min(count, MAX_STRING_BYTES):
            return None
        return quote(data, whole=count <= MAX_STRING_BYTES)

    return show


def _result_length(call: Call) -> int | None:
    return call.result if call.result is not None and call.result >= 0 else None


def _argument(index: int) -> Callable[[Call], int | None]:
    return lambda call: call.arguments[index]


READ_BUFFER: Final = Shower(_buffer(_result_length), out=True)
C_STRING_OUT: Final = Shower(lambda call, value: _string(call, value, MAX_PATH_BYTES), out=True)


# -- structures


def _struct(size: int, show: Callable[[bytes], str]) -> Show:
    def shown(call: Call, value: int) -> str | None:
        if not value:
            return "NULL"
        data = call.memory.read(value, size)
        return show(data) if data is not None else None

    return shown


def _stat(data: bytes) -> str:
    values = STAT.unpack(data)
    mode, rdev, size = values[3], values[6], values[7]
    what = (
        f"st_rdev=makedev({os.major(rdev):#x}, {os.minor(rdev):#x})" if rdev else f"st_size={size}"
    )
    return f"{{st_mode={flags.mode_name(mode)}, {what}, ...}}"


def _statx(data: bytes) -> str:
    values = STATX.unpack(data)
    return f"{{stx_mode={flags.mode_name(values[6])}, stx_size={values[8]}, ...}}"


def _timespec(data: bytes) -> str:
    seconds, nanoseconds = TIMESPEC.unpack(data)
    return f"{{tv_sec={seconds}, tv_nsec={nanoseconds}}}"


def _timeval(data: bytes) -> str:
    seconds, microseconds = TIMEVAL.unpack(data)
    return f"{{tv_sec={seconds}, tv_usec={microseconds}}}"


def _two_timespecs(data: bytes) -> str:
    return f"[{_timespec(data[:16])}, {_timespec(data[16:])}]"


def _itimerval(data: bytes) -> str:
    return f"{{it_interval={_timeval(data[:16])}, it_value={_timeval(data[16:])}}}"


def _two_fds(data: bytes) -> str:
    one, other = (int.from_bytes(data[i : i + 4], "little") for i in (0, 4))
    return f"[{one}, {other}]"


def _word(data: bytes) -> str:
    return f"[{int.from_bytes(data, 'little', signed=True)}]"


def _sigset(data: bytes) -> str:
    return flags.signal_set(int.from_bytes(data, "little"))


def _sigaction(data: bytes) -> str:
    handler, bits, restorer, mask = (
        int.from_bytes(data[i : i + 8], "little") for i in range(0, 32, 8)
    )
    who = {0: "SIG_DFL", 1: "SIG_IGN"}.get(handler, hex(handler))
    parts = [
        f"sa_handler={who}",
        f"sa_mask={flags.signal_set(mask)}",
        f"sa_flags={flags.bits(flags.BITS['sa'], bits)}",
    ]
    if restorer:
        parts.append(f"sa_restorer={restorer:#x}")
    return "{" + ", ".join(parts) + "}"


def _rlimit(data: bytes) -> str:
    soft, hard = (int.from_bytes(data[i : i + 8], "little") for i in (0, 8))
    return f"{{rlim_cur={_limit(soft)}, rlim_max={_limit(hard)}}}"


def _limit(value: int) -> str:
    if value == (1 << 64) - 1:
        return "RLIM64_INFINITY"
    return f"{value >> 10}*1024" if value > 4096 and not value & 1023 else str(value)


def _utsname(data: bytes) -> str:
    names = [data[i : i + 65].partition(b"\0")[0] for i in range(0, 390, 65)]
    return f"{{sysname={quote(names[0])}, nodename={quote(names[1])}, ...}}"


def _wait_status(data: bytes) -> str:
    status = int.from_bytes(data, "little")
    if status & 0x7F == 0:
        return f"[{{WIFEXITED(s) && WEXITSTATUS(s) == {status >> 8 & 0xFF}}}]"
    if status & 0xFF == 0x7F:
        return f"[{{WIFSTOPPED(s) && WSTOPSIG(s) == {flags.signal_name(status >> 8 & 0xFF)}}}]"
    if status == 0xFFFF:
        return "[{WIFCONTINUED(s)}]"
    dumped = " && WCOREDUMP(s)" if status & 0x80 else ""
    return f"[{{WIFSIGNALED(s) && WTERMSIG(s) == {flags.signal_name(status & 0x7F)}{dumped}}}]"


def _wait_status_out(call: Call, value: int) -> str | None:
    if not call.result or call.failed:
        return _hex(call, value)
    return _struct(4, _wait_status)(call, value)


def _iovec(length: Callable[[Call], int | None]) -> Show:
    def show(call: Call, value: int) -> str | None:
        left, count = length(call), call.arguments[2]
        if count > 1024:
            return _hex(call, value)
        data = call.memory.read(value, IOVEC.size * min(count, MAX_ITEMS))
        if data is None:
            return None
        parts = []
        for base, size in IOVEC.iter_unpack(data):
            take = size if left is None else min(size, left)
            shown = _buffer(lambda _, n=take: n)(call, base) if call.result != 0 else '""'  # type: ignore[misc]
            if shown is None:
                return None
            parts.append(f"{{iov_base={shown}, iov_len={size}}}")
            left = None if left is None else left - take
        return f"[{', '.join(parts)}{', ...' if count > MAX_ITEMS else ''}]"

    return show


def _pollfds(call: Call, value: int) -> str | None:
    count = call.arguments[1]
    data = call.memory.read(value, POLLFD.size * min(count, MAX_ITEMS))
    if data is None:
        return None
    table = flags.BITS["poll"]
    return "[" + ", ".join(
        f"{{fd={fd}, events={flags.bits(table, events & 0xFFFF)}}}"
        for fd, events, _ in POLLFD.iter_unpack(data)
    ) + "]"  # fmt: skip


def _entries(call: Call, value: int) -> str | None:
    if call.failed or call.result is None:
        return _hex(call, value)
    data = call.memory.prefix(value, call.result)
    at = count = 0
    while at + 18 < len(data) and (length := int.from_bytes(data[at + 16 : at + 18], "little")):
        at, count = at + length, count + 1
    return f"{value:#x} /* {count} entries */"


def _clone_args(data: bytes) -> str:
    words = [int.from_bytes(data[i : i + 8], "little") for i in range(0, 64, 8)]
    return (
        f"{{flags={flags.clone_flags(words[0])}, exit_signal={flags.signal_name(words[4])}, "
        f"stack={words[5]:#x}, stack_size={words[6]:#x}, ...}}"
    )


def _epoll_event(data: bytes) -> str:
    events, value = int.from_bytes(data[:4], "little"), int.from_bytes(data[4:12], "little")
    return f"{{events={flags.bits(flags.BITS['epoll'], events)}, data={value:#x}}}"


def _fcntl_argument(call: Call, value: int) -> str | None:
    command = flags.ENUMS["fcntl"].get(call.arguments[1], "")
    if command == "F_SETFL":
        return flags.open_flags(value)
    if command == "F_SETFD":
        return flags.bits(flags.BITS["fdflag"], value)
    if command in ("F_GETFD", "F_GETFL", "F_GETOWN", "F_GETPIPE_SZ", "F_GET_SEALS"):
        return ""
    return str(value) if value < 1 << 32 else hex(value)


def _prctl_argument(call: Call, value: int) -> str | None:
    if call.arguments[0] == PR_SET_NAME:
        return _string(call, value, 16)
    return str(value) if value < 1 << 16 else hex(value)


def _open_mode(call: Call, value: int) -> str | None:
    """Only where a file may be made."""
    at = [name for name, _ in call.definition.params].index("flags") if call.definition else 1
    return _oct(call, value) if call.arguments[at] & (os.O_CREAT | 0o20000000) else ""


STRUCT_STAT: Final = Shower(_struct(STAT.size, _stat), out=True)
IN_TIMESPEC: Final = Shower(_struct(16, _timespec))
OUT_TIMESPEC: Final = Shower(_struct(16, _timespec), out=True)
IN_SIGSET: Final = Shower(_struct(8, _sigset))
OUT_SIGSET: Final = Shower(_struct(8, _sigset), out=True)
OUT_TWO_FDS: Final = Shower(_struct(8, _two_fds), out=True)
OUT_LIMIT: Final = Shower(_struct(16, _rlimit), out=True)
OUT_WORD: Final = Shower(_struct(4, _word), out=True)
OPEN_FLAGS: Final = _plain(flags.open_flags)
OPEN_MODE: Final = Shower(_open_mode)
PIPE_FLAGS: Final = _bits("pipe")
AT_FLAGS: Final = _bits("at")
IN_SET_TIMES: Final = Shower(_struct(32, _two_timespecs))
WRITE_BUFFER: Final = Shower(_buffer(_argument(2)))
ARGV: Final = Shower(_argv)
ENVP: Final = Shower(_envp)
WRITE_VECTOR: Final = Shower(_iovec(lambda call: None))
READ_VECTOR: Final = Shower(_iovec(_result_length), out=True)
POLL_SET: Final = Shower(_pollfds)

BY_CALL: Final[Mapping[tuple[str, str], Shower]] = {
    ("read", "buf"): READ_BUFFER,
    ("pread64", "buf"): READ_BUFFER,
    ("write", "buf"): WRITE_BUFFER,
    ("pwrite64", "buf"): WRITE_BUFFER,
    ("readv", "vec"): READ_VECTOR,
    ("preadv", "vec"): READ_VECTOR,
    ("preadv2", "vec"): READ_VECTOR,
    ("writev", "vec"): WRITE_VECTOR,
    ("pwritev", "vec"): WRITE_VECTOR,
    ("pwritev2", "vec"): WRITE_VECTOR,
    ("readlink", "buf"): READ_BUFFER,
    ("readlinkat", "buf"): READ_BUFFER,
    ("getrandom", "buf"): READ_BUFFER,
    ("getrandom", "flags"): _bits("random"),
    ("getcwd", "buf"): C_STRING_OUT,
    ("open", "flags"): OPEN_FLAGS,
    ("openat", "flags"): OPEN_FLAGS,
    ("open", "mode"): OPEN_MODE,
    ("openat", "mode"): OPEN_MODE,
    ("access", "mode"): _bits("access", zero="F_OK"),
    ("faccessat", "mode"): _bits("access", zero="F_OK"),
    ("faccessat2", "mode"): _bits("access", zero="F_OK"),
    ("lseek", "whence"): _enum("whence"),
    ("mmap", "prot"): _bits("prot", zero="PROT_NONE"),
    ("mmap", "flags"): _bits("map"),
    ("mmap", "offset"): Shower(lambda call, value: hex(value) if value else "0"),
    ("mprotect", "prot"): _bits("prot", zero="PROT_NONE"),
    ("mremap", "flags"): _bits("mremap"),
    ("msync", "flags"): _bits("msync"),
    ("madvise", "advice"): _enum("madvise"),
    ("fadvise64", "advice"): _enum("fadvise"),
    ("rt_sigaction", "act"): Shower(_struct(32, _sigaction)),
    ("rt_sigaction", "oldact"): Shower(_struct(32, _sigaction), out=True),
    ("rt_sigprocmask", "how"): _enum("sigprocmask"),
    ("rt_sigprocmask", "new"): IN_SIGSET,
    ("rt_sigprocmask", "old"): OUT_SIGSET,
    ("rt_sigsuspend", "mask"): IN_SIGSET,
    ("rt_sigtimedwait", "which"): IN_SIGSET,
    ("rt_sigtimedwait", "timeout"): IN_TIMESPEC,
    ("rt_sigpending", "out"): OUT_SIGSET,
    ("ppoll", "sigmask"): IN_SIGSET,
    ("poll", "ufds"): POLL_SET,
    ("ppoll", "ufds"): POLL_SET,
    ("ppoll", "tsp"): IN_TIMESPEC,
    ("pselect6", "tsp"): IN_TIMESPEC,
    ("select", "tvp"): Shower(_struct(16, _timeval)),
    ("ioctl", "cmd"): _enum("ioctl"),
    ("fcntl", "cmd"): _enum("fcntl"),
    ("fcntl", "arg"): Shower(_fcntl_argument),
    ("flock", "operation"): _bits("flock"),
    ("pipe", "fildes"): OUT_TWO_FDS,
    ("pipe2", "fildes"): OUT_TWO_FDS,
    ("pipe2", "flags"): PIPE_FLAGS,
    ("dup3", "flags"): PIPE_FLAGS,
    ("clone", "flags"): _plain(flags.clone_flags),
    ("clone3", "args"): Shower(_struct(64, _clone_args)),
    ("execve", "argv"): ARGV,
    ("execve", "envp"): ENVP,
    ("execveat", "argv"): ARGV,
    ("execveat", "envp"): ENVP,
    ("wait4", "status"): Shower(_wait_status_out, out=True),
    ("wait4", "options"): _bits("wait"),
    ("waitid", "which"): _enum("waitid"),
    ("waitid", "options"): _bits("wait"),
    ("uname", "out"): Shower(_struct(390, _utsname), out=True),
    ("getdents", "dirent"): Shower(_entries, out=True),
    ("getdents64", "dirent"): Shower(_entries, out=True),
    ("nanosleep", "request"): IN_TIMESPEC,
    ("nanosleep", "remaining"): Shower(_hex),
    ("clock_nanosleep", "request"): IN_TIMESPEC,
    ("clock_nanosleep", "flags"): _bits("timer"),
    ("clock_nanosleep", "clock"): _enum("clock"),
    ("clock_gettime", "clock"): _enum("clock"),
    ("clock_gettime", "out"): OUT_TIMESPEC,
    ("clock_getres", "clock"): _enum("clock"),
    ("clock_getres", "out"): OUT_TIMESPEC,
    ("timer_create", "clock"): _enum("clock"),
    ("gettimeofday", "tv"): Shower(_struct(16, _timeval), out=True),
    ("setitimer", "which"): _enum("itimer"),
    ("getitimer", "which"): _enum("itimer"),
    ("setitimer", "new"): Shower(_struct(32, _itimerval)),
    ("utimensat", "utimes"): IN_SET_TIMES,
    ("utimensat", "flags"): AT_FLAGS,
    ("getrlimit", "resource"): _enum("rlimit"),
    ("setrlimit", "resource"): _enum("rlimit"),
    ("prlimit64", "resource"): _enum("rlimit"),
    ("getrlimit", "out"): OUT_LIMIT,
    ("setrlimit", "new"): Shower(_struct(16, _rlimit)),
    ("prlimit64", "new"): Shower(_struct(16, _rlimit)),
    ("prlimit64", "old"): OUT_LIMIT,
    ("getrusage", "who"): _enum("who"),
    ("getpriority", "which"): _enum("priority"),
    ("setpriority", "which"): _enum("priority"),
    ("sched_setscheduler", "policy"): _enum("policy"),
    ("prctl", "option"): _enum("prctl"),
    ("prctl", "arg2"): Shower(_prctl_argument),
    ("arch_prctl", "code"): _enum("arch_prctl"),
    ("mount", "flags"): _bits("mount"),
    ("umount2", "flags"): _bits("umount"),
    ("futex", "op"): _plain(flags.futex_operation),
    ("futex", "timeout"): Shower(lambda call, value: _futex_timeout(call, value)),
    ("epoll_ctl", "op"): _enum("epoll_ctl"),
    ("epoll_ctl", "event"): Shower(_struct(12, _epoll_event)),
    ("newfstatat", "flag"): AT_FLAGS,
    ("unlinkat", "flag"): AT_FLAGS,
    ("fchownat", "flag"): AT_FLAGS,
    ("linkat", "flags"): AT_FLAGS,
    ("statx", "flags"): AT_FLAGS,
    ("statx", "mask"): _bits("statx"),
    ("statx", "buffer"): Shower(_struct(STATX.size, _statx), out=True),
    ("faccessat2", "flags"): AT_FLAGS,
    ("execveat", "flags"): AT_FLAGS,
    ("renameat2", "flags"): _bits("rename"),
    ("memfd_create", "flags"): _bits("memfd"),
    ("eventfd2", "flags"): PIPE_FLAGS,
    ("epoll_create1", "flags"): PIPE_FLAGS,
}
BY_NAME: Final[Mapping[str, Shower]] = {"statbuf": STRUCT_STAT}
BY_KIND: Final[Mapping[str, Shower]] = {
    "dec": Shower(_dec),
    "hex": Shower(_hex),
    "oct": Shower(_oct),
    "fd": Shower(_fd),
    "signal": Shower(_signal),
    "path": Shower(_path),
    "str": Shower(_str),
}
FLAGS_HEX: Final = Shower(_flag_hex)


def _futex_timeout(call: Call, value: int) -> str | None:
    """A time for what waits, a number for what requeues."""
    command = call.arguments[1] & ~(flags.FUTEX_PRIVATE | flags.FUTEX_REALTIME)
    if command in (0, 6, 9, 11, 13):
        return _struct(16, _timespec)(call, value)
    return str(value & 0xFFFFFFFF)


def shower_of(call: str, parameter: str, kind: Kind) -> Shower:
    """How to show this parameter of this call."""
    found = BY_CALL.get((call, parameter)) or BY_NAME.get(parameter)
    if found is not None:
        return found
    if kind.show == "hex" and kind.ctype == "s32":
        return FLAGS_HEX
    return BY_KIND[kind.show]
