/* SIGBUS beyond the end of a file, SIGFPE, SIGILL, SIGTRAP: codes, and what runs on afterwards.
 */
#include "guest.h"
#include <setjmp.h>

static sigjmp_buf back;
static char *base;
static volatile int skipped;

static void handler(int sig, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    char text[128];
    int here = info->si_addr == (void *)uc->uc_mcontext.gregs[REG_RIP];
    long offset = base && (char *)info->si_addr >= base && (char *)info->si_addr < base + 4 * PAGE
                      ? (char *)info->si_addr - base
                      : -1;
    snprintf(text, sizeof text, "%s code %d at rip %d offset %ld\n", signal_name(sig),
             info->si_code, here, offset);
    note(text);
    if (sig == SIGTRAP)
        skipped++; /* int3 has been passed */
    else
        siglongjmp(back, 1);
}

#define TRY(what, statement)                                                                       \
    do {                                                                                           \
        printf("%s: ", what);                                                                      \
        fflush(stdout);                                                                            \
        if (!sigsetjmp(back, 1)) {                                                                 \
            statement;                                                                             \
            printf("no fault\n");                                                                  \
        }                                                                                          \
    } while (0)

static volatile int zero, minimum = INT_MIN, minus_one = -1;

static void divide(int a, int b) {
    int high;
    __asm__ volatile("cltd; idivl %2" : "+a"(a), "=&d"(high) : "r"(b));
}

int main(void) {
    int signals[] = {SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSEGV};
    for (int i = 0; i < 5; i++)
        handle_info(signals[i], handler, 0);
    write_file("file", "hello", 5, 0644);
    int fd = MUST(open("file", O_RDWR));
    base = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    TRY("last byte of the page", printf("%d ", base[PAGE - 1]));
    TRY("beyond the end, read", (void)*(volatile char *)(base + PAGE + 3));
    TRY("beyond the end, write", *(volatile char *)(base + 2 * PAGE) = 1);
    MUST(ftruncate(fd, PAGE + 1));
    TRY("once longer", *(volatile char *)(base + PAGE + 3) = 1);
    MUST(ftruncate(fd, 3));
    TRY("once shorter", (void)*(volatile char *)(base + PAGE + 3));
    E(read(fd, base + PAGE, 3)); /* the kernel gets EFAULT */
    E(write(1, base + 2 * PAGE, 1));
    TRY("divide by zero", divide(1, zero));
    TRY("divide overflow", divide(minimum, minus_one));
    TRY("invalid opcode", __asm__ volatile("ud2"));
    TRY("int3", __asm__ volatile("int3"));
    TRY("privileged instruction", __asm__ volatile("hlt"));
    TRY("port input", __asm__ volatile("inb %%dx" ::"a"(0), "d"(0x80)));
    TRY("int 0x42", __asm__ volatile("int $0x42"));
    printf("skipped %d\n", skipped);
    unsigned mxcsr = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(mxcsr & ~0x200u);
    TRY("SSE divide by zero", volatile double d = 1.0; d /= (double)zero);
    __builtin_ia32_ldmxcsr(mxcsr);
    IN_CHILD("default SIGBUS", signal(SIGBUS, SIG_DFL); *(volatile char *)(base + 2 * PAGE) = 1);
    IN_CHILD("default SIGFPE", signal(SIGFPE, SIG_DFL); divide(1, zero));
    IN_CHILD("default SIGILL", signal(SIGILL, SIG_DFL); __asm__ volatile("ud2"));
    IN_CHILD("default SIGTRAP", signal(SIGTRAP, SIG_DFL); __asm__ volatile("int3"));
    return 0;
}
