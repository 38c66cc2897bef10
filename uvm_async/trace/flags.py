"""Names of bits and numbers, as strace prints them.

Source of the numbers: the host's own through the standard library where that has
them, else the C headers named beside them.
"""

from __future__ import annotations

import errno
import mmap
import os
import signal
import stat
from collections.abc import Mapping
from typing import Final

__all__ = [
    "BITS",
    "ENUMS",
    "bits",
    "errno_name",
    "mode_name",
    "number",
    "signal_name",
    "signal_set",
]

Table = Mapping[int, str]


def _of(module: object, prefix: str, names: str) -> dict[int, str]:
    return {getattr(module, prefix + name): prefix + name for name in names.split()}


def _counted(prefix: str, names: str, first: int = 0) -> dict[int, str]:
    return {first + i: prefix + name for i, name in enumerate(names.split())}


def _shifted(prefix: str, names: str, first_bit: int = 0) -> dict[int, str]:
    return {
        1 << first_bit + i: prefix + name for i, name in enumerate(names.split()) if name != "-"
    }


OPEN: Final = {
    **_of(os, "O_", "CREAT EXCL NOCTTY TRUNC APPEND NONBLOCK ASYNC DIRECT DIRECTORY NOFOLLOW "
          "NOATIME CLOEXEC PATH"),
    os.O_TMPFILE: "O_TMPFILE",
    os.O_SYNC: "O_SYNC",
    os.O_DSYNC: "O_DSYNC",
    0o100000: "O_LARGEFILE",
}  # fmt: skip
ACCESS_MODES: Final = ("O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE")

BITS: Final[Mapping[str, Table]] = {
    "prot": {
        **_of(mmap, "PROT_", "READ WRITE EXEC"),
        0x01000000: "PROT_GROWSDOWN",
        0x02000000: "PROT_GROWSUP",
    },
    # <asm/mman.h>
    "map": {
        0x01: "MAP_SHARED", 0x02: "MAP_PRIVATE", 0x10: "MAP_FIXED", 0x20: "MAP_ANONYMOUS",
        0x40: "MAP_32BIT", 0x100: "MAP_GROWSDOWN", 0x800: "MAP_DENYWRITE",
        0x1000: "MAP_EXECUTABLE", 0x2000: "MAP_LOCKED", 0x4000: "MAP_NORESERVE",
        0x8000: "MAP_POPULATE", 0x10000: "MAP_NONBLOCK", 0x20000: "MAP_STACK",
        0x40000: "MAP_HUGETLB", 0x80000: "MAP_SYNC", 0x100000: "MAP_FIXED_NOREPLACE",
    },
    "mremap": _shifted("MREMAP_", "MAYMOVE FIXED DONTUNMAP"),
    "msync": _shifted("MS_", "ASYNC INVALIDATE SYNC"),
    # <linux/sched.h>
    "clone": _shifted("CLONE_", "VM FS FILES SIGHAND PIDFD PTRACE VFORK PARENT THREAD NEWNS "
                      "SYSVSEM SETTLS PARENT_SETTID CHILD_CLEARTID DETACHED UNTRACED "
                      "CHILD_SETTID NEWCGROUP NEWUTS NEWIPC NEWUSER NEWPID NEWNET IO", 8),
    "wait": {
        1: "WNOHANG", 2: "WSTOPPED", 4: "WEXITED", 8: "WCONTINUED", 0x01000000: "WNOWAIT",
        0x20000000: "__WNOTHREAD", 0x40000000: "__WALL", 0x80000000: "__WCLONE",
    },
    "at": {
        0x100: "AT_SYMLINK_NOFOLLOW", 0x200: "AT_REMOVEDIR", 0x400: "AT_SYMLINK_FOLLOW",
        0x800: "AT_NO_AUTOMOUNT", 0x1000: "AT_EMPTY_PATH", 0x2000: "AT_STATX_FORCE_SYNC",
        0x4000: "AT_STATX_DONT_SYNC",
    },
    "pipe": {os.O_NONBLOCK: "O_NONBLOCK", os.O_CLOEXEC: "O_CLOEXEC", os.O_DIRECT: "O_DIRECT"},
    "access": {4: "R_OK", 2: "W_OK", 1: "X_OK"},
    # <asm/signal.h>
    "sa": {
        0x1: "SA_NOCLDSTOP", 0x2: "SA_NOCLDWAIT", 0x4: "SA_SIGINFO", 0x04000000: "SA_RESTORER",
        0x08000000: "SA_ONSTACK", 0x10000000: "SA_RESTART", 0x40000000: "SA_NODEFER",
        0x80000000: "SA_RESETHAND",
    },
    # <linux/mount.h>
    "mount": {
        1: "MS_RDONLY", 2: "MS_NOSUID", 4: "MS_NODEV", 8: "MS_NOEXEC", 16: "MS_SYNCHRONOUS",
        32: "MS_REMOUNT", 1024: "MS_NOATIME", 2048: "MS_NODIRATIME", 4096: "MS_BIND",
        8192: "MS_MOVE", 16384: "MS_REC", 32768: "MS_SILENT", 1 << 17: "MS_UNBINDABLE",
        1 << 18: "MS_PRIVATE", 1 << 19: "MS_SLAVE", 1 << 20: "MS_SHARED", 1 << 21: "MS_RELATIME",
    },
    "umount": {1: "MNT_FORCE", 2: "MNT_DETACH", 4: "MNT_EXPIRE", 8: "UMOUNT_NOFOLLOW"},
    "poll": {
        0x1: "POLLIN", 0x2: "POLLPRI", 0x4: "POLLOUT", 0x8: "POLLERR", 0x10: "POLLHUP",
        0x20: "POLLNVAL", 0x40: "POLLRDNORM", 0x80: "POLLRDBAND", 0x100: "POLLWRNORM",
        0x200: "POLLWRBAND", 0x2000: "POLLRDHUP",
    },
    "epoll": {
        0x1: "EPOLLIN", 0x2: "EPOLLPRI", 0x4: "EPOLLOUT", 0x8: "EPOLLERR", 0x10: "EPOLLHUP",
        0x40: "EPOLLRDNORM", 0x100: "EPOLLWRNORM", 0x2000: "EPOLLRDHUP",
        1 << 28: "EPOLLEXCLUSIVE", 1 << 30: "EPOLLONESHOT", 1 << 31: "EPOLLET",
    },
    "random": {1: "GRND_NONBLOCK", 2: "GRND_RANDOM", 4: "GRND_INSECURE"},
    "memfd": {1: "MFD_CLOEXEC", 2: "MFD_ALLOW_SEALING", 4: "MFD_HUGETLB", 8: "MFD_NOEXEC_SEAL",
              16: "MFD_EXEC"},
    "rename": {1: "RENAME_NOREPLACE", 2: "RENAME_EXCHANGE", 4: "RENAME_WHITEOUT"},
    "flock": {1: "LOCK_SH", 2: "LOCK_EX", 4: "LOCK_NB", 8: "LOCK_UN"},
    "timer": {1: "TIMER_ABSTIME"},
    "fdflag": {1: "FD_CLOEXEC"},
    "statx": {0x7FF: "STATX_BASIC_STATS", 0x800: "STATX_BTIME", 0x1000: "STATX_MNT_ID",
              0x2000: "STATX_DIOALIGN"},
}  # fmt: skip

FUTEX_PRIVATE, FUTEX_REALTIME = 128, 256

ENUMS: Final[Mapping[str, Table]] = {
    "whence": _counted("SEEK_", "SET CUR END DATA HOLE"),
    "sigprocmask": _counted("SIG_", "BLOCK UNBLOCK SETMASK"),
    "clock": _counted("CLOCK_", "REALTIME MONOTONIC PROCESS_CPUTIME_ID THREAD_CPUTIME_ID "
                      "MONOTONIC_RAW REALTIME_COARSE MONOTONIC_COARSE BOOTTIME REALTIME_ALARM "
                      "BOOTTIME_ALARM"),
    "futex": _counted("FUTEX_", "WAIT WAKE FD REQUEUE CMP_REQUEUE WAKE_OP LOCK_PI UNLOCK_PI "
                      "TRYLOCK_PI WAIT_BITSET WAKE_BITSET WAIT_REQUEUE_PI CMP_REQUEUE_PI LOCK_PI2"),
    "arch_prctl": {0x1001: "ARCH_SET_GS", 0x1002: "ARCH_SET_FS", 0x1003: "ARCH_GET_FS",
                   0x1004: "ARCH_GET_GS", 0x1011: "ARCH_GET_CPUID", 0x1012: "ARCH_SET_CPUID",
                   0x3001: "0x3001 /* ARCH_??? */"},
    "rlimit": _counted("RLIMIT_", "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS "
                       "SIGPENDING MSGQUEUE NICE RTPRIO RTTIME"),
    "madvise": {**_counted("MADV_", "NORMAL RANDOM SEQUENTIAL WILLNEED DONTNEED"),
                8: "MADV_FREE", 9: "MADV_REMOVE", 10: "MADV_DONTFORK", 11: "MADV_DOFORK",
                12: "MADV_MERGEABLE", 13: "MADV_UNMERGEABLE", 14: "MADV_HUGEPAGE",
                15: "MADV_NOHUGEPAGE", 16: "MADV_DONTDUMP", 17: "MADV_DODUMP"},
    "epoll_ctl": {1: "EPOLL_CTL_ADD", 2: "EPOLL_CTL_DEL", 3: "EPOLL_CTL_MOD"},
    "fcntl": {**_counted("F_", "DUPFD GETFD SETFD GETFL SETFL GETLK SETLK SETLKW SETOWN GETOWN "
                         "SETSIG GETSIG"), 15: "F_SETOWN_EX", 16: "F_GETOWN_EX", 36: "F_OFD_GETLK",
              37: "F_OFD_SETLK", 38: "F_OFD_SETLKW", 1024: "F_SETLEASE", 1025: "F_GETLEASE",
              1026: "F_NOTIFY", 1030: "F_DUPFD_CLOEXEC", 1031: "F_SETPIPE_SZ",
              1032: "F_GETPIPE_SZ", 1033: "F_ADD_SEALS", 1034: "F_GET_SEALS"},
    "ioctl": {0x5401: "TCGETS", 0x5402: "TCSETS", 0x5403: "TCSETSW", 0x5404: "TCSETSF",
              0x540F: "TIOCGPGRP", 0x5410: "TIOCSPGRP", 0x5413: "TIOCGWINSZ", 0x5414: "TIOCSWINSZ",
              0x540E: "TIOCSCTTY", 0x5421: "FIONBIO", 0x541B: "FIONREAD", 0x5450: "FIONCLEX",
              0x5451: "FIOCLEX", 0x5429: "TIOCGSID", 0x5422: "TIOCNOTTY", 0x802C542A: "TCGETS2"},
    "prctl": {1: "PR_SET_PDEATHSIG", 2: "PR_GET_PDEATHSIG", 3: "PR_GET_DUMPABLE",
              4: "PR_SET_DUMPABLE", 15: "PR_SET_NAME", 16: "PR_GET_NAME", 22: "PR_SET_SECCOMP",
              23: "PR_CAPBSET_READ", 24: "PR_CAPBSET_DROP", 36: "PR_SET_CHILD_SUBREAPER",
              38: "PR_SET_NO_NEW_PRIVS", 39: "PR_GET_NO_NEW_PRIVS", 53: "PR_SET_TAGGED_ADDR_CTRL",
              0x53564D41: "PR_SET_VMA"},
    "waitid": _counted("P_", "ALL PID PGID PIDFD"),
    "who": {0: "RUSAGE_SELF", 1: "RUSAGE_THREAD", -1: "RUSAGE_CHILDREN"},
    "itimer": _counted("ITIMER_", "REAL VIRTUAL PROF"),
    "fadvise": _counted("POSIX_FADV_", "NORMAL RANDOM SEQUENTIAL WILLNEED DONTNEED NOREUSE"),
    "policy": {0: "SCHED_OTHER", 1: "SCHED_FIFO", 2: "SCHED_RR", 3: "SCHED_BATCH", 5: "SCHED_IDLE"},
    "priority": _counted("PRIO_", "PROCESS PGRP USER"),
}  # fmt: skip

FILE_TYPES: Final = {
    stat.S_IFREG: "S_IFREG",
    stat.S_IFDIR: "S_IFDIR",
    stat.S_IFLNK: "S_IFLNK",
    stat.S_IFCHR: "S_IFCHR",
    stat.S_IFBLK: "S_IFBLK",
    stat.S_IFIFO: "S_IFIFO",
    stat.S_IFSOCK: "S_IFSOCK",
}


def bits(table: Table, value: int, *, zero: str = "0") -> str:
    """`A|B|0x400`: what has a name, and the rest."""
    value &= 0xFFFFFFFFFFFFFFFF if value >> 32 > 0 else 0xFFFFFFFF
    if not value:
        return zero
    names = []
    for bit, name in table.items():
        if value & bit == bit:
            names.append(name)
            value &= ~bit
    return "|".join([*names, hex(value)] if value or not names else names)


def number(table: Table, value: int) -> str:
    """The name of a number, or the number."""
    return table.get(value, str(value))


def open_flags(value: int) -> str:
    """Those of open(2): an access mode, then bits."""
    rest = value & ~3
    names = [ACCESS_MODES[value & 3]]
    if rest:
        # O_TMPFILE and O_SYNC contain other flags: the larger first.
        by_size = dict(sorted(OPEN.items(), key=lambda item: -item[0].bit_count()))
        names.append(bits(by_size, rest))
    return "|".join(names)


def futex_operation(value: int) -> str:
    """A command and its two options."""
    name = number(ENUMS["futex"], value & ~(FUTEX_PRIVATE | FUTEX_REALTIME))
    if value & FUTEX_PRIVATE:
        name += "_PRIVATE"
    return name + ("|FUTEX_CLOCK_REALTIME" if value & FUTEX_REALTIME else "")


def clone_flags(value: int) -> str:
    """Bits, and the signal of the child's end in the low byte."""
    flags = bits(BITS["clone"], value & ~0xFF, zero="")
    signo = signal_name(value & 0xFF) if value & 0xFF else ""
    return "|".join(filter(None, (flags, signo))) or "0"


def signal_name(signo: int) -> str:
    """SIGINT, SIGRT_3, or the number."""
    if signo == 32:
        return "SIGRTMIN"
    if 33 <= signo <= 64:
        return f"SIGRT_{signo - 32}"
    try:
        return signal.Signals(signo).name
    except ValueError:
        return str(signo)


def signal_set(mask: int) -> str:
    """`[INT QUIT]`; `~[]` for all."""
    mask &= (1 << 64) - 1
    inverted = mask.bit_count() > 32
    shown = ~mask & (1 << 64) - 1 if inverted else mask
    names = [signal_name(n).removeprefix("SIG") for n in range(1, 65) if shown >> (n - 1) & 1]
    return f"{'~' if inverted else ''}[{' '.join(names)}]"


def errno_name(number_: int) -> str:
    """ENOENT, or the number."""
    return errno.errorcode.get(number_, str(number_))


def mode_name(mode: int) -> str:
    """`S_IFREG|0644`."""
    kind = FILE_TYPES.get(stat.S_IFMT(mode))
    return f"{kind + '|' if kind else ''}{mode & 0o7777:#05o}".replace("0o", "0")
