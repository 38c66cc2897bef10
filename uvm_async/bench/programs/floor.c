/*
 * floor.c - the same mechanism, driven by C: what a Python kernel cannot beat.
 *
 *     floor call    futex|signal COUNT        null call: trap, epoll, signalfd, answer
 *     floor hop     futex|signal COUNT        two tasks that trap in turn
 *     floor ring    futex|signal COUNT TASKS BYTES
 *                                             a raw ring: no trap, no kernel between
 *     floor clock                             the counter and CLOCK_MONOTONIC (ns),
 *                                             read together: two numbers
 *
 * Samples as micro.c writes them.  `call` and `hop` are a stub and a kernel as
 * small as they can be: Syscall User Dispatch raises SIGSYS, the handler saves FS
 * and GS base, queues a real-time signal to the kernel's thread and waits; the
 * kernel sits in epoll on a signalfd, reads which stub it was, writes the result
 * and wakes a stub.  As in a machine, stubs have a session of their own (which the
 * host may schedule as a group) and run below the kernel's priority; unlike there,
 * no seccomp filter is laid.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define PAGE 4096
#define SIG_NOTIFY 36
#define SIG_WAKE SIGUSR2
#define GUEST 0
#define TRAPPED 1
#define STUB_NICE 5
#define SUD 59
#define SUD_ON 1
#define SS_AUTODISARM_ (1u << 31)
#define SHIM __attribute__((section("shim"), noinline, optimize("no-stack-protector")))

struct mailbox {
    uint32_t state;
    uint32_t slot;
    uint64_t fs_base, gs_base;
    uint64_t rax;
    int pid;
} __attribute__((aligned(PAGE)));

extern char __start_shim[], __stop_shim[];

static struct mailbox *boxes, *own;
static uint64_t *samples;
static int by_signal, fsgsbase, kernel_pid;

static inline uint64_t now(void) {
    uint32_t low, high;
    __asm__ volatile("lfence\n\trdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}

static inline __attribute__((always_inline)) long raw(long nr, long a, long b, long c, long d) {
    long result;
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
}

static void check(int good, const char *what) {
    if (!good) {
        perror(what);
        exit(1);
    }
}

static void *shared(size_t bytes) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check(at != MAP_FAILED, "mmap");
    return at;
}

/* ---- waiting and waking, both ways of it */

static inline __attribute__((always_inline)) void wait_while(uint32_t *word, uint32_t value) {
    uint64_t set = 1UL << (SIG_WAKE - 1);
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == value) {
        if (by_signal)
            raw(SYS_rt_sigtimedwait, (long)&set, 0, 0, sizeof set);
        else
            raw(SYS_futex, (long)word, FUTEX_WAIT, value, 0);
    }
}

static void wake(uint32_t *word, uint32_t value, int pid) {
    __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
    if (by_signal)
        raw(SYS_tgkill, pid, pid, SIG_WAKE, 0);
    else
        raw(SYS_futex, (long)word, FUTEX_WAKE, 1, 0);
}

static void block_wake(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIG_WAKE);
    check(!sigprocmask(SIG_BLOCK, &set, NULL), "sigprocmask");
}

/* ---- the stub */

SHIM static void on_call(int sig, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    struct {
        int32_t signo, error, code, pad, pid, uid;
        uint64_t value;
        char room[96];
    } note;
    (void)sig, (void)info;
    if (fsgsbase) {
        __asm__ volatile("rdfsbase %0" : "=r"(own->fs_base));
        __asm__ volatile("rdgsbase %0" : "=r"(own->gs_base));
    }
    note.signo = SIG_NOTIFY;
    note.error = 0;
    note.code = -1; /* SI_QUEUE */
    note.pid = note.uid = 0;
    note.value = own->slot;
    __atomic_store_n(&own->state, TRAPPED, __ATOMIC_SEQ_CST);
    raw(SYS_rt_tgsigqueueinfo, kernel_pid, kernel_pid, SIG_NOTIFY, (long)&note);
    wait_while(&own->state, TRAPPED);
    uc->uc_mcontext.gregs[REG_RAX] = own->rax;
    if (fsgsbase) {
        __asm__ volatile("wrfsbase %0" : : "r"(own->fs_base));
        __asm__ volatile("wrgsbase %0" : : "r"(own->gs_base));
    }
}

__asm__(".section shim,\"ax\",@progbits\n"
        "shim_return:\n"
        "    mov $15,%eax\n" /* rt_sigreturn */
        "    syscall\n"
        ".text\n");
extern char shim_return[];

static void become_stub(int slot) {
    struct {
        void *handler;
        uint64_t flags;
        void *restorer;
        uint64_t mask;
    } action = {on_call, SA_SIGINFO | SA_ONSTACK | 0x04000000, shim_return, ~0UL};
    stack_t stack = {.ss_sp = shared(8 * PAGE), .ss_size = 8 * PAGE, .ss_flags = SS_AUTODISARM_};
    own = &boxes[slot];
    own->slot = slot;
    own->pid = getpid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    check(!sigaltstack(&stack, NULL), "sigaltstack");
    check(!syscall(SYS_rt_sigaction, SIGSYS, &action, NULL, 8), "rt_sigaction");
    check(!prctl(SUD, SUD_ON, __start_shim, __stop_shim - __start_shim, 0),
          "Syscall User Dispatch");
}

/* Make count + warm calls, timing those of slot 0. */
static void __attribute__((noreturn)) guest(int slot, long count, long warm) {
    become_stub(slot);
    for (long i = -warm; i < count; i++) {
        uint64_t start = now();
        __asm__ volatile("syscall" : : "a"(SYS_getppid) : "rcx", "r11", "memory");
        if (slot == 0 && i >= 0)
            samples[i] = now() - start;
    }
    for (;;) /* the kernel ends us */
        __asm__ volatile("syscall" : : "a"(SYS_getppid) : "rcx", "r11", "memory");
}

/* The stubs' parent: returns when all are dead. */
static void __attribute__((noreturn)) nurse(int stubs, long count, long warm) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setsid();
    setpriority(PRIO_PROCESS, 0, STUB_NICE);
    for (int i = 0; i < stubs; i++) {
        pid_t child = fork();
        check(child >= 0, "fork");
        if (child == 0)
            guest(i, count, warm);
    }
    while (wait(NULL) > 0)
        ;
    _exit(0);
}

/* ---- the kernel: `stubs` tasks; each trap is answered, and the next one woken */

static void kernel(int stubs, long count) {
    long warm = count / 10 + 1;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIG_NOTIFY);
    check(!sigprocmask(SIG_BLOCK, &set, NULL), "sigprocmask");
    block_wake();
    int fd = signalfd(-1, &set, SFD_NONBLOCK), poll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN}, got[16];
    check(fd >= 0 && poll >= 0 && !epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event), "epoll");
    boxes = shared(stubs * sizeof *boxes);
    kernel_pid = getpid();
    fsgsbase = (getauxval(AT_HWCAP2) & 2) != 0;
    pid_t nursery = fork();
    check(nursery >= 0, "fork");
    if (nursery == 0)
        nurse(stubs, count, warm);
    struct signalfd_siginfo info[16];
    int held = -1; /* with two tasks one stands in its trap while the other runs */
    for (long left = stubs * (count + warm) - (stubs - 1); left > 0;) {
        check(epoll_wait(poll, got, 16, -1) > 0 || errno == EINTR, "epoll_wait");
        ssize_t n = read(fd, info, sizeof info);
        for (int i = 0; i < n / (ssize_t)sizeof info[0]; i++) {
            int slot = (int)info[i].ssi_ptr;
            boxes[slot].rax = -38;
            left--;
            if (stubs == 2 && held < 0) {
                held = slot;
                continue;
            }
            int next = stubs == 2 ? held : slot;
            held = slot;
            wake(&boxes[next].state, GUEST, boxes[next].pid);
        }
    }
    for (int i = 0; i < stubs; i++)
        kill(boxes[i].pid, SIGKILL);
    waitpid(nursery, NULL, 0);
    for (long i = 0; i < count; i++)
        samples[i] /= stubs;
}

/* ---- the raw ring */

static void ring(long tasks, long bytes, long count) {
    long warm = count / 10 + 1;
    size_t touched = (bytes + PAGE - 1) / PAGE;
    struct {
        uint32_t turn;
        int pid;
    } __attribute__((aligned(64))) *node = shared(tasks * 64);
    volatile uint32_t *ready = shared(PAGE);
    block_wake();
    for (long i = 0; i < tasks; i++) {
        pid_t child = i ? fork() : 0;
        check(child >= 0, "fork");
        if (child || !i)
            node[i].pid = i ? child : getpid();
        if (!i || child)
            continue;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        volatile char *mine = NULL;
        if (touched)
            mine = mmap(NULL, touched * PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        __atomic_add_fetch(ready, 1, __ATOMIC_SEQ_CST);
        for (;;) {
            wait_while(&node[i].turn, 0);
            node[i].turn = 0;
            for (size_t p = 0; p < touched; p++)
                mine[p * PAGE] = 1;
            long next = (i + 1) % tasks;
            wake(&node[next].turn, 1, node[next].pid);
        }
    }
    while (*ready < tasks - 1)
        usleep(1000);
    volatile char *mine = NULL;
    if (touched)
        mine = mmap(NULL, touched * PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (long i = -warm; i < count; i++) {
        uint64_t start = now();
        for (size_t p = 0; p < touched; p++)
            mine[p * PAGE] = 1;
        wake(&node[1 % tasks].turn, 1, node[1 % tasks].pid);
        wait_while(&node[0].turn, 0);
        node[0].turn = 0;
        if (i >= 0)
            samples[i] = (now() - start) / tasks;
    }
    for (long i = 1; i < tasks; i++)
        kill(node[i].pid, SIGKILL);
    for (long i = 1; i < tasks; i++)
        waitpid(node[i].pid, NULL, 0);
}

/* ---- */

/* The counter, and the clock in the middle of the tightest of some tries. */
static void read_together(uint64_t pair[2]) {
    uint64_t tightest = UINT64_MAX;
    for (int i = 0; i < 1000; i++) {
        struct timespec t;
        uint64_t before = now();
        clock_gettime(CLOCK_MONOTONIC, &t);
        uint64_t after = now();
        if (after - before < tightest) {
            tightest = after - before;
            pair[0] = before + (after - before) / 2;
            pair[1] = t.tv_sec * 1000000000ull + t.tv_nsec;
        }
    }
}

static void put(const void *data, size_t bytes) {
    while (bytes) {
        ssize_t n = write(1, data, bytes);
        check(n > 0, "write");
        data = (const char *)data + n;
        bytes -= n;
    }
}

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "clock")) {
        uint64_t pair[2];
        read_together(pair);
        put(pair, sizeof pair);
        return 0;
    }
    long count = argc > 3 ? atol(argv[3]) : 0;
    if (count <= 0 || count > 10000000)
        return 2;
    by_signal = !strcmp(argv[2], "signal");
    samples = shared(count * sizeof *samples);
    memset(samples, 0, count * sizeof *samples);
    if (!strcmp(argv[1], "call"))
        kernel(1, count);
    else if (!strcmp(argv[1], "hop"))
        kernel(2, count);
    else if (!strcmp(argv[1], "ring") && argc == 6 && atol(argv[4]) > 1)
        ring(atol(argv[4]), atol(argv[5]), count);
    else
        return 2;
    put(samples, count * sizeof *samples);
    return 0;
}
