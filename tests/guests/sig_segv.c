/* SIGSEGV: si_code and address for reads, writes, execution, in each kind of place.
 */
#include "guest.h"
#include <setjmp.h>

static sigjmp_buf back;
static char *base;

static void handler(int sig, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    char text[128], where[48];
    char *addr = info->si_addr;
    if (base && addr >= base - PAGE && addr < base + 16 * PAGE)
        snprintf(where, sizeof where, "base%+ld", (long)(addr - base));
    else
        snprintf(where, sizeof where, "%p", (void *)addr);
    snprintf(text, sizeof text, "%s code %d at %s, trap %lld error %lld\n", signal_name(sig),
             info->si_code, where, (long long)uc->uc_mcontext.gregs[REG_TRAPNO],
             (long long)uc->uc_mcontext.gregs[REG_ERR] & 0x16);
    note(text);
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
#define READ(p) ((void)*(volatile char *)(p))
#define WRITE(p) (*(volatile char *)(p) = 1)
#define CALL(p) (((void (*)(void))(p))())

int main(void) {
    handle_info(SIGSEGV, handler, 0);
    handle_info(SIGBUS, handler, 0);
    base = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(base, 0xc3, 8 * PAGE); /* ret */
    MUST(mprotect(base, PAGE, PROT_READ));
    MUST(mprotect(base + PAGE, PAGE, PROT_NONE));
    MUST(mprotect(base + 2 * PAGE, PAGE, PROT_READ | PROT_EXEC));
    MUST(munmap(base + 4 * PAGE, PAGE));

    TRY("read null", READ(NULL));
    TRY("write null", WRITE(NULL));
    TRY("read 0x1234", READ((char *)0x1234));
    TRY("read read-only", READ(base + 5));
    TRY("write read-only", WRITE(base + 5));
    TRY("execute read-only", CALL(base));
    TRY("read PROT_NONE", READ(base + PAGE + 7));
    TRY("write PROT_NONE", WRITE(base + PAGE + 7));
    TRY("execute PROT_NONE", CALL(base + PAGE));
    TRY("execute executable", CALL(base + 2 * PAGE));
    TRY("write executable", WRITE(base + 2 * PAGE));
    TRY("execute writable", CALL(base + 3 * PAGE));
    TRY("read unmapped", READ(base + 4 * PAGE));
    TRY("write unmapped", WRITE(base + 5 * PAGE - 1));
    TRY("execute unmapped", CALL(base + 4 * PAGE));
    TRY("8 bytes across the hole's edge", *(volatile long *)(base + 4 * PAGE - 4) = 1);
    TRY("8 bytes out of the hole", *(volatile long *)(base + 5 * PAGE - 4) = 1);
    TRY("read not canonical", READ((char *)0x800000000000));
    TRY("write not canonical", WRITE((char *)0xdeadbeefdeadbeef));
    TRY("execute not canonical", CALL((char *)0x900000000000));
    TRY("read kernel's half", READ((char *)0xffff888000000000));
    TRY("write kernel's half", WRITE((char *)0xffffffff80000000));
    TRY("execute kernel's half", CALL((char *)0xffffffff80000000));
    TRY("read top page of user's half", READ((char *)0x7ffffffff000));
    MUST(munmap(base + 6 * PAGE, PAGE));
    TRY("read once unmapped", READ(base + 6 * PAGE));
    IN_CHILD("blocked SIGSEGV", sigset_t set = set_of(SIGSEGV); sigprocmask(SIG_BLOCK, &set, NULL);
             WRITE(NULL));
    IN_CHILD("ignored SIGSEGV", signal(SIGSEGV, SIG_IGN); WRITE(NULL));
    IN_CHILD("sent SIGSEGV, ignored", signal(SIGSEGV, SIG_IGN); raise(SIGSEGV));
    return 0;
}
