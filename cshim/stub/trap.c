/*
 * trap.c - guest to kernel and back.
 *
 * Whatever brings the shim in, the host kernel has already put the guest's
 * registers into a signal frame at the top of this stack, which lies in
 * physmem.  The handler adds what the frame lacks (FS and GS base), hands the
 * mailbox to the kernel, tells it, and waits.  What the kernel left in frame
 * and mailbox is what continues, by rt_sigreturn or what does the same (exit_quick).
 *
 * There is no other way in or out: a task starts because its stub, standing in
 * a trap, is given a frame.  A blank stub's first trap is its birth's `int3`.
 */
#include "hostcall.h"
#include "race.h"
#include "shim.h"

#define SI_QUEUE (-1)
#define FUTEX_WAIT 0
#define TRAPNO_PAGE_FAULT 14
#define HOST_EAGAIN (-11)
#define FP_MAGIC_AT 464 /* in a frame's fpstate: it is in the format of xsave */
#define FP_MAGIC 0x46505853
#define ARCH_SET_GS 0x1001
#define ARCH_SET_FS 0x1002
#define ARCH_GET_FS 0x1003
#define ARCH_GET_GS 0x1004

/*
 * Entries.  A guest's EFLAGS.AC and NT survive into a handler, where an unaligned
 * access would then raise SIGBUS, and iretq a fault: cleared before any compiled
 * code runs.
 */
#define ENTRY(name, target)                                                                        \
    __asm__(".text\n.globl " #name "\n.hidden " #name "\n.type " #name ",@function\n" #name ":\n"  \
            "    pushfq\n"                                                                         \
            "    andq $~0x44000,(%rsp)\n"                                                          \
            "    popfq\n"                                                                          \
            "    cld\n"                                                                            \
            "    jmp " #target "\n")
ENTRY(trap_entry_sys, on_syscall);
ENTRY(trap_entry_fault, on_fault);
ENTRY(trap_entry_kick, on_kick);

/* Where a handler that returns goes: back to the guest. */
__asm__(".text\n.globl shim_restorer\n.hidden shim_restorer\nshim_restorer:\n"
        "    mov $15,%eax\n" /* rt_sigreturn */
        "    syscall\n");

/*
 * A controlled machine's handlers leave signals unblocked, so that they can end
 * without a call of the host: what the frame holds is loaded by hand, and `iretq`
 * takes up the rest at once.  A kick may then come while we stand in here.  on_kick
 * notes it in the slot (`kicked`), and whoever leaves looks there; between that look
 * and the guest lie the windows of the two exits, where on_kick takes the frame that
 * is being left as its own.
 */

/* exit_quick(context, &kicked).  Post: 40(%rsp) is context, all through the window. */
__asm__(".text\n.globl exit_quick\n.hidden exit_quick\nexit_quick:\n"
        "    lea 40(%rdi),%rax\n" /* UC_REG(context, 0) */
        "    sub $48,%rsp\n"
        "    mov %rdi,40(%rsp)\n"
        "    mov 128(%rax),%rcx\n" /* rip */
        "    mov %rcx,(%rsp)\n"
        "    mov %cs,%ecx\n"
        "    mov %rcx,8(%rsp)\n"
        "    mov 136(%rax),%rcx\n" /* eflags */
        "    mov %rcx,16(%rsp)\n"
        "    mov 120(%rax),%rcx\n" /* rsp */
        "    mov %rcx,24(%rsp)\n"
        "    mov %ss,%ecx\n"
        "    mov %rcx,32(%rsp)\n"
        "    mov %rax,%rdi\n"
        "    mov 184(%rax),%rcx\n" /* the host has given the handler fresh vector registers */
        "    mov $-1,%eax\n"
        "    mov $-1,%edx\n"
        "    xrstor64 (%rcx)\n"
        "    mov %rdi,%rax\n"
        ".globl exit_quick_window\n.hidden exit_quick_window\nexit_quick_window:\n"
        "    cmpl $0,(%rsi)\n"
        "    jne 1f\n"
        "    mov (%rax),%r8\n"
        "    mov 8(%rax),%r9\n"
        "    mov 16(%rax),%r10\n"
        "    mov 24(%rax),%r11\n"
        "    mov 32(%rax),%r12\n"
        "    mov 40(%rax),%r13\n"
        "    mov 48(%rax),%r14\n"
        "    mov 56(%rax),%r15\n"
        "    mov 64(%rax),%rdi\n"
        "    mov 72(%rax),%rsi\n"
        "    mov 80(%rax),%rbp\n"
        "    mov 88(%rax),%rbx\n"
        "    mov 96(%rax),%rdx\n"
        "    mov 112(%rax),%rcx\n"
        "    mov 104(%rax),%rax\n"
        "    iretq\n"
        ".globl exit_quick_end\n.hidden exit_quick_end\nexit_quick_end:\n"
        "1:  mov 40(%rsp),%rdi\n"
        "exit_late:\n"
        "    lea -264(%rdi),%rsp\n" /* nothing below the frame is needed any more */
        "    jmp late_kick\n");

/* exit_full(context, &kicked): by rt_sigreturn, which takes all that the frame at rsp holds,
 * blocked signals too.  kicked may be 0. */
__asm__(".text\n.globl exit_full\n.hidden exit_full\nexit_full:\n"
        "    mov %rdi,%rsp\n"
        ".globl exit_full_window\n.hidden exit_full_window\nexit_full_window:\n"
        "    test %rsi,%rsi\n"
        "    jz 1f\n"
        "    cmpl $0,(%rsi)\n"
        "    jne exit_late\n"
        "1:  mov $15,%eax\n"
        "    syscall\n"
        ".globl exit_full_end\n.hidden exit_full_end\nexit_full_end:\n");

/* A stub's last act before it is blank: unmap the nursery (addr, len), then
 * trap.  No stack is left to stand on; the signal frame goes to the alternate
 * one. */
__asm__(".text\n.globl shim_birth\n.hidden shim_birth\nshim_birth:\n"
        "    mov $11,%eax\n" /* munmap */
        "    syscall\n"
        "    xor %esp,%esp\n"
        "    int3\n"
        "    ud2\n");

uint64_t read_fs(void) {
    uint64_t value;
    if (config.fsgsbase)
        __asm__ volatile("rdfsbase %0" : "=r"(value));
    else
        hostcall(__NR_arch_prctl, ARCH_GET_FS, &value);
    return value;
}

static uint64_t read_gs(void) {
    uint64_t value;
    if (config.fsgsbase)
        __asm__ volatile("rdgsbase %0" : "=r"(value));
    else
        hostcall(__NR_arch_prctl, ARCH_GET_GS, &value);
    return value;
}

static void set_fs(uint64_t fs) {
    if (config.fsgsbase)
        __asm__ volatile("wrfsbase %0" : : "r"(fs));
    else
        hostcall(__NR_arch_prctl, ARCH_SET_FS, fs);
}

void set_gs(uint64_t gs) {
    if (config.fsgsbase)
        __asm__ volatile("wrgsbase %0" : : "r"(gs));
    else
        hostcall(__NR_arch_prctl, ARCH_SET_GS, gs);
}

/* Tell the kernel's thread.  The queue of pending signals may be full for a
 * moment (RLIMIT_SIGPENDING): try again. */
static void notify(uint64_t kind) {
    struct host_siginfo info = {.signo = UVM_SIG_NOTIFY, .code = SI_QUEUE};
    info.queue.value = MAILBOX->slot | kind << 16 | (uint64_t)config.epoch << 32;
    while (hostcall(__NR_rt_tgsigqueueinfo, config.kernel_pid, config.kernel_tid, UVM_SIG_NOTIFY,
                    &info) == HOST_EAGAIN)
        __builtin_ia32_pause();
}

/* Wait until the kernel gives the mailbox back. */
static void await_kernel(void) {
    struct uvm_mailbox *m = MAILBOX;
    for (uint32_t i = m->spin; i > 0; i--) {
        if (__atomic_load_n(&m->state, __ATOMIC_ACQUIRE) != UVM_STATE_TRAPPED)
            return;
        __builtin_ia32_pause();
    }
    if (config.transport == UVM_TRANSPORT_SIGNAL) {
        uint64_t set = 1UL << (UVM_SIG_WAKE - 1);
        while (__atomic_load_n(&m->state, __ATOMIC_ACQUIRE) == UVM_STATE_TRAPPED)
            hostcall(__NR_rt_sigtimedwait, &set, 0, 0, sizeof set);
    } else {
        while (__atomic_load_n(&m->state, __ATOMIC_ACQUIRE) == UVM_STATE_TRAPPED)
            hostcall(__NR_futex, &m->state, FUTEX_WAIT, UVM_STATE_TRAPPED, 0);
    }
}

/* Back to the guest: quickly, where signals are not blocked and nothing else forbids it: iretq does
 * not take every rip, and the frame of an old processor is another. */
static void __attribute__((noreturn)) leave(void *context) {
    const uint8_t *fpstate = (const uint8_t *)UC_REG(context, REG_FPSTATE);
    uint32_t *kicked = race_on() ? &RACE_SLOT->kicked : 0;
    if (!kicked || UC_REG(context, REG_RIP) >> 47 || !fpstate ||
        *(const uint32_t *)(fpstate + FP_MAGIC_AT) != FP_MAGIC)
        exit_full(context, kicked);
    exit_quick(context, kicked);
}

/* Pre: on the alternate stack, all fields of the mailbox that describe the trap
 * are written.  Does not return: continues whatever frame stands there. */
void trap(uint32_t kind, void *context) {
    struct uvm_mailbox *m = MAILBOX;
    if (race_on() && (uint64_t)context != m->frame) /* the guest's stack is in this one */
        hostcall(__NR_exit_group, 128 + 11);
    m->trap = kind;
    m->fs_base = read_fs();
    m->gs_base = race_on() ? RACE_SLOT->gs : read_gs(); /* there the register is ours */
    m->traps++;
    if (race_on())
        race_settle();
    __atomic_store_n(&m->state, UVM_STATE_TRAPPED, __ATOMIC_SEQ_CST);
    notify(UVM_NOTIFY_TRAP);
    await_kernel();
    if (m->state == UVM_STATE_EXIT)
        hostcall(__NR_exit_group, 0);
    tlb_shootdown();
    tlb_prefill();
    if (race_on()) {
        race_check_tlb();
        race_drops();
        RACE_SLOT->gs = m->gs_base;
    }
    set_fs(m->fs_base);
    set_gs(m->gs_base);
    leave(context);
}

/* The kernel wants shootdowns done now, or the task, which stands at `context`, off
 * its vCPU, or both.  A kick may come late, when the task has trapped by itself in
 * the meantime: then there is nothing left to do, and this returns. */
static void kick(void *context) {
    struct uvm_mailbox *m = MAILBOX;
    tlb_shootdown();
    if (__atomic_exchange_n(&m->want_ack, 0, __ATOMIC_SEQ_CST))
        notify(UVM_NOTIFY_ACK);
    if (!__atomic_exchange_n(&m->preempt, 0, __ATOMIC_SEQ_CST)) {
        m->stale++;
        return;
    }
    m->sig = UVM_SIG_KICK;
    if (race_on())
        race_restore_ip(context);
    trap(UVM_TRAP_PREEMPT, context);
}

/* A kick has come while we were about to leave for the guest. */
void late_kick(void *context) {
    RACE_SLOT->kicked = 0;
    kick(context);
    leave(context);
}

static int within(uint64_t ip, const char *start, const char *end) {
    return ip >= (uint64_t)start && ip < (uint64_t)end;
}

/* The frame that the task will go on from, of a signal that has come at `context`; 0 if it has
 * come in the middle of the shim. */
static void *guest_frame(void *context) {
    const uint64_t ip = UC_REG(context, REG_RIP), sp = UC_REG(context, REG_RSP);
    if (!within(ip, shim_text_start, shim_text_end) || sp - STACK_BASE >= STACK_SIZE)
        return context;
    if (within(ip, exit_quick_window, exit_quick_end))
        return *(void **)(sp + 40);
    return within(ip, exit_full_window, exit_full_end) ? (void *)sp : 0;
}

HIDDEN void on_syscall(int sig, struct host_siginfo *info, void *context);
HIDDEN void on_fault(int sig, struct host_siginfo *info, void *context);
HIDDEN void on_kick(int sig, struct host_siginfo *info, void *context);

void on_syscall(int sig, struct host_siginfo *info, void *context) {
    MAILBOX->sig = sig;
    MAILBOX->arch = info->sys.arch;
    trap(UVM_TRAP_SYSCALL, context);
}

void on_fault(int sig, struct host_siginfo *info, void *context) {
    struct uvm_mailbox *m = MAILBOX;
    uint64_t error = UC_REG(context, REG_ERR);
    int page_fault = UC_REG(context, REG_TRAPNO) == TRAPNO_PAGE_FAULT;
    if (m->frame != 0 && race_on()) {
        if (guest_frame(context) != context) /* our own fault: the process ends */
            hostcall(__NR_exit_group, 128 + sig);
        if (page_fault ? info->code > 0 && race_fault(info->addr, error, context)
                       : race_step(context))
            leave(context);
    } else if (page_fault && info->code > 0 && tlb_fill(info->addr, error)) {
        return;
    }
    m->sig = sig;
    m->code = info->code;
    m->fault_addr = info->addr;
    m->fault_error = error;
    if (m->frame == 0) { /* first trap of this stub's life */
        m->frame = (uint64_t)context;
        trap(UVM_TRAP_BIRTH, context);
    }
    trap(page_fault && info->code > 0 ? UVM_TRAP_FAULT : UVM_TRAP_EXCEPTION, context);
}

void on_kick(int sig, struct host_siginfo *info, void *context) {
    (void)sig, (void)info;
    void *frame = race_on() ? guest_frame(context) : context;
    if (frame)
        kick(frame);
    else
        RACE_SLOT->kicked = 1;
}
