/* A handler changes the interrupted registers, and the program goes on with them.
 */
#include "guest.h"

static volatile int traps;

static void on_ill(int sig, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    (void)sig, (void)info;
    traps++;
    uc->uc_mcontext.gregs[REG_RIP] += 2; /* over the ud2 */
    uc->uc_mcontext.gregs[REG_RAX] = 0x1234567890abcdef;
    uc->uc_mcontext.gregs[REG_R12] ^= 0xff;
    uc->uc_mcontext.gregs[REG_EFL] |= 1; /* carry */
}

static void on_segv(int sig, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    (void)sig, (void)info;
    traps++;
    uc->uc_mcontext.gregs[REG_RDI] = uc->uc_mcontext.gregs[REG_RSI];
}

static void on_usr1(int sig, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    (void)sig, (void)info;
    sigaddset(&uc->uc_sigmask, SIGUSR2); /* takes effect at the return */
}

int main(void) {
    unsigned long rax, r12 = 0;
    unsigned char carry;
    handle_info(SIGILL, on_ill, 0);
    handle_info(SIGSEGV, on_segv, 0);
    handle_info(SIGUSR1, on_usr1, 0);
    __asm__ volatile("xor %%r12d, %%r12d; clc; mov $7, %%rbx; ud2; setc %2; mov %%r12, %1"
                     : "=a"(rax), "=r"(r12), "=r"(carry)::"r12", "rbx", "cc");
    printf("rax %lx r12 %lx carry %d traps %d\n", rax, r12, carry, traps);

    long cell = 0;
    __asm__ volatile("movq $42, (%%rdi)" ::"D"(16L), "S"(&cell) : "memory");
    printf("cell %ld traps %d\n", cell, traps);

    /* All general registers and flags survive a handler that came by itself. */
    unsigned long out[14];
    __asm__ volatile(
        "mov $0x11, %%rbx; mov $0x22, %%rcx; mov $0x33, %%rdx; mov $0x44, %%rsi;"
        "mov $0x66, %%r8; mov $0x77, %%r9; mov $0x88, %%r10; mov $0x99, %%r11;"
        "mov $0xaa, %%r12; mov $0xbb, %%r13; mov $0xcc, %%r14; mov $0xdd, %%r15;"
        "ud2;"
        "mov %%rbx, (%%rdi); mov %%rcx, 8(%%rdi); mov %%rdx, 16(%%rdi); mov %%rsi, 24(%%rdi);"
        "mov %%r8, 32(%%rdi); mov %%r9, 40(%%rdi); mov %%r10, 48(%%rdi); mov %%r11, 56(%%rdi);"
        "mov %%r12, 64(%%rdi); mov %%r13, 72(%%rdi); mov %%r14, 80(%%rdi); mov %%r15, 88(%%rdi)" ::
            "D"(out)
        : "rax", "rbx", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
          "memory", "cc");
    for (int i = 0; i < 12; i++)
        printf("%lx%c", out[i], i == 11 ? '\n' : ' ');

    /* A system call keeps all registers but rax, rcx and r11. */
    unsigned long kept;
    __asm__ volatile("mov $0x5555, %%r10; mov $0x6666, %%r8; mov $0x7777, %%r9; mov $39, %%eax;"
                     "syscall; lea (%%r10, %%r8), %0; add %%r9, %0"
                     : "=&r"(kept)::"rax", "rcx", "r11", "r10", "r8", "r9", "memory");
    printf("kept %lx\n", kept);

    sigset_t set;
    raise(SIGUSR1);
    sigprocmask(SIG_SETMASK, NULL, &set);
    printf("USR2 blocked %d\n", sigismember(&set, SIGUSR2));
    return 0;
}
