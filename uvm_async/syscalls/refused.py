"""Calls that are refused on purpose: their names, the error, and the reason.

A program that meets one of these gets the error it would get from a Linux that was
built without the feature, or that does not grant it, and goes on without.
"""

from __future__ import annotations

from typing import Final

from uvm_async.errors import Errno
from uvm_async.syscalls.table import refused

__all__: list[str] = []

NEVER: Final = "No Linux of today has it."
NO_MODULES: Final = "The kernel is Python: it takes no modules and starts no other kernel."
NO_KEYS: Final = "No key retention service, as without CONFIG_KEYS."
NO_SYSV: Final = "No System V shared memory, semaphores and message queues."
NO_MQ: Final = "No POSIX message queues."
NO_AIO: Final = "No kernel asynchronous I/O; libraries fall back to threads."
NO_RING: Final = "No io_uring; libraries fall back to epoll or threads."
NO_NUMA: Final = "One memory node, as without CONFIG_NUMA."
NO_SEGMENTS: Final = "No local descriptor table and no 32-bit thread areas."
NO_PORTS: Final = "There are no I/O ports."
NO_INOTIFY: Final = "No file notification; programs fall back to looking."
NO_FANOTIFY: Final = "No fanotify, as without CONFIG_FANOTIFY."
NO_LANDLOCK: Final = "No Landlock, as without CONFIG_SECURITY_LANDLOCK."
NO_LSM: Final = "No security modules."
NO_NAMESPACES: Final = "One namespace of each kind."
NO_NEW_MOUNTS: Final = "Only mount(2) and umount2(2), not the mount calls on descriptors."
NO_DEBUG: Final = "No debugger: a task's memory and registers are its own."
NO_HANDLES: Final = "File systems hand out no file handles."
NO_QUOTA: Final = "No quotas, as without CONFIG_QUOTA."
NO_SWAP: Final = "Memory is never swapped."
NO_CLOCK: Final = "The machine's clock is its host's, or virtual; it is not for guests to set."

_REFUSED: Final[tuple[tuple[type[Errno], str, tuple[str, ...]], ...]] = (
    (Errno.ENOSYS, NEVER, ("_sysctl", "create_module", "get_kernel_syms", "query_module",
     "nfsservctl", "getpmsg", "putpmsg", "afs_syscall", "tuxcall", "security", "vserver",
     "epoll_ctl_old", "epoll_wait_old", "lookup_dcookie", "uselib", "set_thread_area",
     "get_thread_area")),
    (Errno.EPERM, NO_MODULES, ("init_module", "finit_module", "delete_module", "kexec_load",
     "kexec_file_load")),
    (Errno.ENOSYS, NO_KEYS, ("add_key", "request_key", "keyctl")),
    (Errno.ENOSYS, NO_SYSV, ("shmget", "shmat", "shmctl", "shmdt", "semget", "semop", "semctl",
     "semtimedop", "msgget", "msgsnd", "msgrcv", "msgctl")),
    (Errno.ENOSYS, NO_MQ, ("mq_open", "mq_unlink", "mq_timedsend", "mq_timedreceive",
     "mq_notify", "mq_getsetattr")),
    (Errno.ENOSYS, NO_AIO, ("io_setup", "io_destroy", "io_getevents", "io_submit", "io_cancel",
     "io_pgetevents")),
    (Errno.ENOSYS, NO_RING, ("io_uring_setup", "io_uring_enter", "io_uring_register")),
    (Errno.ENOSYS, NO_NUMA, ("mbind", "set_mempolicy", "get_mempolicy", "migrate_pages",
     "move_pages", "set_mempolicy_home_node")),
    (Errno.ENOSYS, NO_SEGMENTS, ("modify_ldt",)),
    (Errno.EPERM, NO_PORTS, ("iopl", "ioperm")),
    (Errno.ENOSYS, NO_INOTIFY, ("inotify_init", "inotify_init1", "inotify_add_watch",
     "inotify_rm_watch")),
    (Errno.ENOSYS, NO_FANOTIFY, ("fanotify_init", "fanotify_mark")),
    (Errno.EOPNOTSUPP, NO_LANDLOCK, ("landlock_create_ruleset", "landlock_add_rule",
     "landlock_restrict_self")),
    (Errno.ENOSYS, NO_LSM, ("lsm_get_self_attr", "lsm_set_self_attr", "lsm_list_modules")),
    (Errno.EPERM, NO_NAMESPACES, ("setns",)),
    (Errno.ENOSYS, NO_NEW_MOUNTS, ("open_tree", "move_mount", "fsopen", "fsconfig", "fsmount",
     "fspick", "mount_setattr", "statmount", "listmount")),
    (Errno.EPERM, "The root of the tree stays where it is.", ("pivot_root",)),
    (Errno.EPERM, NO_DEBUG, ("ptrace", "process_vm_readv", "process_vm_writev", "kcmp")),
    (Errno.EOPNOTSUPP, NO_HANDLES, ("name_to_handle_at", "open_by_handle_at")),
    (Errno.ENOSYS, NO_QUOTA, ("quotactl", "quotactl_fd")),
    (Errno.EPERM, NO_SWAP, ("swapon", "swapoff")),
    (Errno.EPERM, NO_CLOCK, ("settimeofday", "adjtimex", "clock_adjtime")),
    (Errno.ENOSYS, "No process accounting, as without CONFIG_BSD_PROCESS_ACCT.", ("acct",)),
    (Errno.ENOSYS, "The kernel's own business: nothing is ever restarted through it.",
     ("restart_syscall",)),
    (Errno.ENOSYS, "No restartable sequences; libc does without.", ("rseq",)),
    (Errno.EPERM, "No programs in the kernel.", ("bpf",)),
    (Errno.EPERM, "There are no performance events.", ("perf_event_open",)),
    (Errno.ENOSYS, "Page faults are the kernel's alone.", ("userfaultfd",)),
    (Errno.EINVAL, "No seccomp modes and no filters.", ("seccomp",)),
    (Errno.ENOSPC, "No protection keys, as on a processor without them.", ("pkey_alloc",)),
    (Errno.EINVAL, "No protection keys, as on a processor without them.", ("pkey_free",)),
    (Errno.ENOSYS, "No secret memory, as without CONFIG_SECRETMEM.", ("memfd_secret",)),
    (Errno.ENOSYS, "No shadow stacks.", ("map_shadow_stack",)),
    (Errno.ENOSYS, "Mappings cannot be sealed.", ("mseal",)),
    (Errno.ENOSYS, "The page cache is not told about.", ("cachestat",)),
    (Errno.ENOSYS, "Only futex(2), not its newer forms.", ("futex_waitv", "futex_wake",
     "futex_wait", "futex_requeue")),
    (Errno.ENOSYS, "The memory of a dying process is given back by itself.",
     ("process_mrelease",)),
    (Errno.ENOSYS, "Only madvise(2), for the calling process itself.", ("process_madvise",)),
    (Errno.ENOSYS, "No nonlinear mappings; mmap(2) each part.", ("remap_file_pages",)),
    (Errno.ENOSYS, "Obsolete: statfs(2) and /proc/filesystems answer it.", ("ustat", "sysfs")),
    (Errno.EPERM, "Terminals are hung up by closing them.", ("vhangup",)),
)  # fmt: skip

for _error, _why, _names in _REFUSED:
    for _name in _names:
        refused(_name, _error, _why)
