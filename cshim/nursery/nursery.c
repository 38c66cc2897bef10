/*
 * nursery.c - the host parent of every stub.
 *
 * Started by the embedding process in a memory file (cshim/host/launch.c), with
 * descriptors 3 (physmem), 4 (socket to the kernel), 5 (pidfd of the embedding
 * process).  It forks blank stubs when told to, reports deaths, reaps when the
 * kernel has taken note (so that no pid is signalled after it was reused), and
 * ends everything when the kernel is gone: its socket at EOF, its process
 * dead, or its loop's thread ended.
 *
 * Everything here lies in nursery text and nursery data, which a stub unmaps
 * before its first guest instruction.
 */
#include <linux/prctl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "hostcall.h"
#include "shim.h"
#include "uvm_race.h"

#define SOCKET_FD 4
#define PARENT_FD 5
#define SIGSET_BYTES 8
#define SA_RESTORER_FLAG 0x04000000
#define SA_NODEFER_FLAG 0x40000000
#define SS_AUTODISARM_FLAG 0x80000000u
#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_ON 1
#endif
#define HOST_ECHILD (-10)
#define HOST_EINTR (-4)
#define HOST_ESRCH (-3)
#define HOST_LIMIT 0x7ffffffff000UL /* end of user addresses */
#define BIT(sig) (1UL << ((sig) - 1))

struct kernel_sigaction {
    void (*handler)(int, void *, void *);
    uint64_t flags;
    void (*restorer)(void);
    uint64_t mask;
};

CONFIG struct uvm_config config;

static char nursery_stack[16384] __attribute__((aligned(4096), used));
static uint32_t stub_pids[UVM_MAX_SLOTS];
static uint32_t stub_count;
#define REPORTED 0x80000000u /* in stub_pids: the kernel knows of this death */
static long nursery_pid;

static void die(int status) {
    for (;;)
        hostcall(__NR_exit_group, status);
}

static void report(uint32_t op, uint32_t a, uint32_t b, uint32_t c) {
    struct uvm_message m = {op, a, b, c};
    hostcall(__NR_sendto, SOCKET_FD, &m, sizeof m, MSG_NOSIGNAL, 0, 0);
}

/* Setting up failed at `step`: say so and end. */
static void give_up(uint32_t step, long error) {
    report(UVM_REPORT_READY, step, (uint32_t)-error, 0);
    die(1);
}

/* All stubs, now; and none is left as a zombie. */
static void end_all(void) {
    int status;
    for (uint32_t i = 0; i < stub_count; i++)
        hostcall(__NR_kill, stub_pids[i] & ~REPORTED, SIGKILL);
    while (hostcall(__NR_wait4, -1, &status, __WALL, 0) != HOST_ECHILD)
        ;
    die(0);
}

static void set_handler(int sig, void (*handler)(int, void *, void *)) {
    /* Blocked in a handler: everything but the exceptions, which there would be
     * the shim's own and must end the process. */
    struct kernel_sigaction action = {
        handler, SA_SIGINFO | SA_ONSTACK | SA_RESTORER_FLAG, shim_restorer,
        ~(BIT(SIGSEGV) | BIT(SIGBUS) | BIT(SIGILL) | BIT(SIGFPE) | BIT(SIGTRAP) | BIT(SIGSYS))};
    if (config.race_size) { /* none: see exit_quick */
        action.flags |= SA_NODEFER_FLAG;
        action.mask = 0;
    }
    hostcall(__NR_rt_sigaction, sig, &action, 0, SIGSET_BYTES);
}

/* The child's side of a fork: become the blank stub of `slot`.  Order matters:
 * dispatch is armed last, since nursery text then no longer passes. */
static void __attribute__((noreturn)) stub_main(uint32_t slot) {
    hostcall(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (hostcall(__NR_getppid, 0) != nursery_pid)
        die(1);
    hostcall(__NR_close, SOCKET_FD);
    hostcall(__NR_close, PARENT_FD);
    long at = hostcall(__NR_mmap, UVM_SLOT_BASE, UVM_SLOT_SIZE, 3, 0x11, PHYSMEM_FD,
                       config.slot_offset + (uint64_t)slot * UVM_SLOT_SIZE);
    if (at != (long)UVM_SLOT_BASE)
        die(2);
    struct uvm_mailbox *m = MAILBOX;
    m->slot = slot;
    m->host_pid = hostcall(__NR_getpid, 0);
    m->frame = 0;
    m->pgd = config.physmem_size; /* out of range: nothing can be filled */
    struct {
        uint64_t sp;
        uint32_t flags;
        uint64_t size;
    } stack = {STACK_BASE, config.race_size ? 0 : SS_AUTODISARM_FLAG, STACK_SIZE};
    uint64_t mask = config.transport == UVM_TRANSPORT_SIGNAL ? BIT(UVM_SIG_WAKE) : 0;
    if (hostcall(__NR_sigaltstack, &stack, 0) ||
        hostcall(__NR_rt_sigprocmask, SIG_SETMASK, &mask, 0, SIGSET_BYTES))
        die(3);
    if (config.no_tsc && hostcall(__NR_prctl, PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0))
        die(4);
    if (config.door == UVM_DOOR_SUD &&
        hostcall(__NR_prctl, PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, shim_text_start,
                 shim_text_end - shim_text_start, 0))
        for (;;) /* a trap would only raise SIGSYS */
            __builtin_trap();
    shim_birth((uint64_t)nursery_text_start, nursery_data_end - nursery_text_start);
}

static void fork_stubs(uint32_t first, uint32_t count) {
    uint32_t made = 0;
    long pid = 0;
    for (; made < count && stub_count < UVM_MAX_SLOTS; made++) {
        pid = hostcall(__NR_clone, SIGCHLD, 0, 0, 0, 0);
        if (pid == 0)
            stub_main(first + made);
        if (pid < 0)
            break;
        stub_pids[stub_count++] = pid;
    }
    report(UVM_REPORT_FORKED, first, made, pid < 0 ? -pid : 0);
}

/* A death is reported once; the process stays a zombie, and its pid taken,
 * until the kernel's UVM_ORDER_REAP. */
static void reap(uint32_t pid) {
    int status;
    if (hostcall(__NR_wait4, pid, &status, __WALL, 0) != (long)pid)
        return;
    for (uint32_t i = 0; i < stub_count; i++)
        if ((stub_pids[i] & ~REPORTED) == pid) {
            stub_pids[i] = stub_pids[--stub_count];
            return;
        }
}

/* Report every stub that is dead and not yet reported.  waitid(WNOWAIT) shows
 * one and the same until it is reaped, hence the look at each. */
static void report_deaths(void) {
    for (uint32_t i = 0; i < stub_count; i++) {
        siginfo_t info;
        info.si_pid = 0;
        if (stub_pids[i] & REPORTED)
            continue;
        if (hostcall(__NR_waitid, P_PID, stub_pids[i], &info, WEXITED | WNOHANG | WNOWAIT, 0) ||
            info.si_pid == 0)
            continue;
        report(UVM_REPORT_DEAD, stub_pids[i], info.si_status, info.si_code);
        stub_pids[i] |= REPORTED;
    }
}

static void on_child(int sig, void *info, void *context) {
    (void)sig, (void)info, (void)context;
}

static void serve(void) {
    uint64_t none = 0;
    /* Threads have no EOF: look now and then whether the loop's still lives. */
    struct timespec period = {0, 200000000};
    for (;;) {
        struct pollfd fds[2] = {{SOCKET_FD, POLLIN, 0}, {PARENT_FD, POLLIN, 0}};
        struct timespec timeout = period;
        long n = hostcall(__NR_ppoll, fds, 2, &timeout, &none, SIGSET_BYTES);
        report_deaths();
        if (n == 0 && hostcall(__NR_tgkill, config.kernel_pid, config.kernel_tid, 0) == HOST_ESRCH)
            end_all();
        if (n <= 0)
            continue;
        if (fds[1].revents)
            end_all();
        struct uvm_message m;
        long got = hostcall(__NR_recvfrom, SOCKET_FD, &m, sizeof m, MSG_DONTWAIT, 0, 0);
        if (got == 0 || (got < 0 && got != -11 && got != HOST_EINTR))
            end_all();
        if (got != sizeof m)
            continue;
        if (m.op == UVM_ORDER_FORK)
            fork_stubs(m.a, m.b);
        else if (m.op == UVM_ORDER_REAP)
            reap(m.a);
        else if (m.op == UVM_ORDER_QUIT)
            end_all();
    }
}

/* A controlled machine's: the race area, its code part executable instead of
 * writable, and the whole data zone once more, writable. */
static void map_race_area(void) {
    const uint64_t code = UVM_RACE_BASE + config.race_code;
    const uint64_t data = config.physmem_size - config.data_offset;
    long r = hostcall(__NR_mmap, UVM_RACE_BASE, config.race_size, 3, 0x11, PHYSMEM_FD,
                      config.race_offset);
    if (r != (long)UVM_RACE_BASE)
        give_up(5, r);
    r = hostcall(__NR_mmap, code, config.race_size - config.race_code, 5, 0x11, PHYSMEM_FD,
                 config.race_offset + config.race_code);
    if (r != (long)code)
        give_up(5, r);
    r = hostcall(__NR_mmap, UVM_RACE_WINDOW, data, 3, 0x11, PHYSMEM_FD, config.data_offset);
    if (r != (long)UVM_RACE_WINDOW)
        give_up(5, r);
}

/* First C code, on the nursery's own stack.  Makes the process what its stubs
 * will be copies of: nothing mapped but this image and physmem, no privilege to
 * gain, no core, handlers set, filter laid. */
HIDDEN void nursery_main(void);
void nursery_main(void) {
    long r;
    uint64_t all = ~0UL;
    hostcall(__NR_rt_sigprocmask, SIG_SETMASK, &all, 0, SIGSET_BYTES);
    hostcall(__NR_setsid, 0);
    r = hostcall(__NR_recvfrom, SOCKET_FD, &config, sizeof config, 0, 0, 0);
    if (r != sizeof config)
        die(1);
    nursery_pid = hostcall(__NR_getpid, 0);
    hostcall(__NR_prctl, PR_SET_NAME, "uvm-nursery", 0, 0, 0);
    struct rlimit no_core = {0, 0};
    hostcall(__NR_prlimit64, 0, RLIMIT_CORE, &no_core, 0);
    hostcall(__NR_setpriority, PRIO_PROCESS, 0, config.nice);
    uint64_t start = (uint64_t)shim_text_start, end = (uint64_t)nursery_data_end;
    hostcall(__NR_munmap, UVM_MMAP_MIN_ADDR, start - UVM_MMAP_MIN_ADDR);
    hostcall(__NR_munmap, end, HOST_LIMIT - end);
    r = hostcall(__NR_mmap, UVM_WINDOW, config.physmem_size, 1, 0x11, PHYSMEM_FD, 0);
    if (r != (long)UVM_WINDOW)
        give_up(1, r);
    if (config.race_size)
        map_race_area();
    set_handler(SIGSYS, trap_entry_sys);
    set_handler(SIGSEGV, trap_entry_fault);
    set_handler(SIGBUS, trap_entry_fault);
    set_handler(SIGILL, trap_entry_fault);
    set_handler(SIGFPE, trap_entry_fault);
    set_handler(SIGTRAP, trap_entry_fault);
    set_handler(UVM_SIG_KICK, trap_entry_kick);
    set_handler(UVM_SIG_WAKE, trap_entry_kick);
    set_handler(SIGCHLD, on_child);
    r = hostcall(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (r)
        give_up(2, r);
    r = hostcall(__NR_mprotect, config_start, config_end - config_start, 1);
    if (r)
        give_up(3, r);
    if (!config.no_filter) {
        r = filter_install();
        if (r)
            give_up(4, r);
    }
    report(UVM_REPORT_READY, 0, 0, 0);
    uint64_t mask = BIT(SIGCHLD);
    hostcall(__NR_rt_sigprocmask, SIG_SETMASK, &mask, 0, SIGSET_BYTES);
    serve();
}

/* The host enters here with its own stack; ours is the one that is kept. */
__asm__(".text\n.globl nursery_start\nnursery_start:\n"
        "    lea nursery_stack+16384(%rip),%rsp\n"
        "    xor %ebp,%ebp\n"
        "    call nursery_main\n"
        "    ud2\n");
