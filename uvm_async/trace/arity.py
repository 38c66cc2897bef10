"""How many arguments the calls take that are refused, and so declare none themselves."""

from __future__ import annotations

from typing import Final

__all__ = ["ARITY"]

_BY_COUNT: Final = {
    0: "inotify_init restart_syscall vhangup",
    1: "_sysctl acct adjtimex get_kernel_syms get_thread_area inotify_init1 io_destroy iopl "
    "memfd_secret mq_unlink pkey_free set_thread_area shmdt swapoff uselib userfaultfd",
    2: "clock_adjtime create_module delete_module fanotify_init fsopen inotify_rm_watch io_setup "
    "io_uring_setup landlock_restrict_self mq_notify msgget pivot_root pkey_alloc process_mrelease "
    "setns settimeofday swapon ustat",
    3: "bpf finit_module fsmount fspick init_module inotify_add_watch io_cancel io_submit ioperm "
    "landlock_create_ruleset lookup_dcookie lsm_list_modules map_shadow_stack modify_ldt "
    "mq_getsetattr mseal msgctl nfsservctl open_by_handle_at open_tree seccomp semget semop "
    "set_mempolicy shmat shmctl shmget sysfs",
    4: "cachestat epoll_ctl_old epoll_wait_old futex_requeue futex_wake io_uring_register "
    "kexec_load landlock_add_rule listmount lsm_get_self_attr lsm_set_self_attr migrate_pages "
    "mq_open msgsnd ptrace quotactl quotactl_fd request_key rseq semctl semtimedop "
    "set_mempolicy_home_node statmount",
    5: "add_key fanotify_mark fsconfig futex_waitv get_mempolicy io_getevents kcmp "
    "kexec_file_load keyctl mount_setattr move_mount mq_timedreceive mq_timedsend msgrcv "
    "name_to_handle_at perf_event_open process_madvise query_module remap_file_pages",
}
"""The others take six, or it is not known how many."""
ARITY: Final = {name: count for count, names in _BY_COUNT.items() for name in names.split()}
