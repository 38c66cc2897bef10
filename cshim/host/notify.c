/*
 * notify.c - signals between the loop's thread and the stubs.
 *
 * Stubs (and our timer) queue UVM_SIG_NOTIFY to the loop's thread, where it is
 * blocked and read through a signalfd.  The other way, a stub that waits is
 * woken by SIGUSR2 or a futex, one that runs is kicked by SIGUSR1.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "uvm_host.h"

#define DRAIN_MAX 64
#define HWCAP2_FSGSBASE_BIT (1 << 1)

static sigset_t notify_set(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, UVM_SIG_NOTIFY);
    return set;
}

int uvm_notify_open(void) {
    sigset_t set = notify_set();
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

int uvm_notify_block(int block) {
    sigset_t set = notify_set(), old;
    pthread_sigmask(block ? SIG_BLOCK : SIG_UNBLOCK, &set, &old);
    return sigismember(&old, UVM_SIG_NOTIFY);
}

int uvm_notify_drain(int fd, uint64_t *values, int max) {
    struct signalfd_siginfo info[DRAIN_MAX];
    if (max > DRAIN_MAX)
        max = DRAIN_MAX;
    ssize_t n = read(fd, info, max * sizeof info[0]);
    if (n <= 0)
        return 0;
    n /= sizeof info[0];
    for (int i = 0; i < n; i++)
        values[i] = info[i].ssi_ptr;
    return (int)n;
}

int uvm_notify_wait(uint64_t *value) {
    siginfo_t info;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, UVM_SIG_NOTIFY);
    if (sigwaitinfo(&set, &info) < 0)
        return -errno;
    *value = (uint64_t)info.si_value.sival_ptr;
    return 0;
}

int uvm_timer_open(uint32_t epoch) {
    struct sigevent event;
    int timer;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = UVM_SIG_NOTIFY;
    event.sigev_value.sival_ptr =
        (void *)((uint64_t)UVM_NOTIFY_TIMER << 16 | (uint64_t)epoch << 32);
    event._sigev_un._tid = (int)syscall(SYS_gettid);
    if (syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer))
        return -errno;
    return timer;
}

int uvm_timer_set(int timer, uint64_t deadline_ns, uint64_t interval_ns) {
    struct itimerspec spec = {{interval_ns / 1000000000, interval_ns % 1000000000},
                              {deadline_ns / 1000000000, deadline_ns % 1000000000}};
    return syscall(SYS_timer_settime, timer, TIMER_ABSTIME, &spec, NULL) ? -errno : 0;
}

void uvm_timer_close(int timer) {
    syscall(SYS_timer_delete, timer);
}

void uvm_stub_resume(uint8_t *mailbox, int host_pid, uint32_t transport) {
    struct uvm_mailbox *m = (struct uvm_mailbox *)mailbox;
    __atomic_store_n(&m->preempt, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&m->state, UVM_STATE_GUEST, __ATOMIC_SEQ_CST);
    if (transport == UVM_TRANSPORT_SIGNAL)
        syscall(SYS_tgkill, host_pid, host_pid, UVM_SIG_WAKE);
    else
        syscall(SYS_futex, &m->state, FUTEX_WAKE, 1, NULL, NULL, 0);
}

int uvm_stub_kick(uint8_t *mailbox, int host_pid, int preempt, int want_ack) {
    struct uvm_mailbox *m = (struct uvm_mailbox *)mailbox;
    if (preempt)
        __atomic_store_n(&m->preempt, 1, __ATOMIC_SEQ_CST);
    if (want_ack)
        __atomic_store_n(&m->want_ack, 1, __ATOMIC_SEQ_CST);
    return syscall(SYS_tgkill, host_pid, host_pid, UVM_SIG_KICK) ? -errno : 0;
}

int uvm_stub_kill(int host_pid) {
    return syscall(SYS_kill, host_pid, SIGKILL) ? -errno : 0;
}

void uvm_stub_shootdown(uint8_t *mailbox, uint64_t addr, uint64_t len) {
    struct uvm_mailbox *m = (struct uvm_mailbox *)mailbox;
    uint32_t head = m->sd_head;
    if (head - m->sd_tail >= UVM_SHOOTDOWN_RING || len >> 32) {
        m->sd_all = 1;
    } else {
        m->sd[head % UVM_SHOOTDOWN_RING].addr = addr;
        m->sd[head % UVM_SHOOTDOWN_RING].len = len;
    }
    __atomic_store_n(&m->sd_head, head + 1, __ATOMIC_SEQ_CST);
}

void uvm_stub_shootdown_all(uint8_t *mailbox) {
    struct uvm_mailbox *m = (struct uvm_mailbox *)mailbox;
    m->sd_all = 1;
    __atomic_store_n(&m->sd_head, m->sd_head + 1, __ATOMIC_SEQ_CST);
}

int uvm_gettid(void) {
    return (int)syscall(SYS_gettid);
}

int uvm_getcpu(void) {
    return sched_getcpu();
}

int uvm_has_fsgsbase(void) {
    return (getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE_BIT) != 0;
}

int uvm_sud_available(void) {
    return prctl(59 /* PR_SET_SYSCALL_USER_DISPATCH */, 0, 0, 0, 0) == 0;
}
