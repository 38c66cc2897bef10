/* The alternate stack: used, not changed while in use, too small, a stack overflow survived on it.
 * traps: many
 */
#include "guest.h"
#include <setjmp.h>

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif

static char area[64 * 1024] __attribute__((aligned(16)));
static sigjmp_buf back;

static int inside(const void *p) {
    return (const char *)p >= area && (const char *)p < area + sizeof area;
}

static void report(int sig) {
    stack_t now, new = {.ss_sp = area, .ss_size = sizeof area};
    char text[128];
    sigaltstack(NULL, &now);
    int denied = 0;
    if (now.ss_flags != SS_DISABLE && sigaltstack(&new, NULL) == -1)
        denied = errno;
    snprintf(text, sizeof text, "%s on it %d, flags %d, change: %s\n", signal_name(sig),
             inside(&now), now.ss_flags, denied ? errno_name(denied) : "ok");
    note(text);
    if (sig == SIGUSR1)
        raise(SIGUSR2);
}

static void overflowed(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)context;
    note(inside(&info) ? "overflow caught on it\n" : "overflow caught elsewhere\n");
    siglongjmp(back, 1);
}

static volatile int endless = 1;

__attribute__((noinline)) static int recurse(int depth) {
    volatile char block[4096];
    memset((void *)block, depth, sizeof block);
    return (endless ? recurse(depth + 1) : 0) + block[depth % 4096];
}

int main(void) {
    stack_t stack = {.ss_sp = area, .ss_size = sizeof area}, old;
    E(sigaltstack(NULL, &old));
    printf("at first: %s\n", old.ss_flags == SS_DISABLE ? "disabled" : "enabled");
    stack_t small = {.ss_sp = area, .ss_size = 100};
    E(sigaltstack(&small, NULL));
    stack_t flags = {.ss_sp = area, .ss_size = sizeof area, .ss_flags = 4};
    E(sigaltstack(&flags, NULL));
    E(sigaltstack((stack_t *)1, NULL));
    E(sigaltstack(&stack, NULL));
    E(sigaltstack(NULL, &old));
    IS(old.ss_sp == area && old.ss_size == sizeof area && old.ss_flags == 0);

    handle(SIGUSR1, report, SA_ONSTACK);
    handle(SIGUSR2, report, SA_ONSTACK);
    handle(SIGHUP, report, 0);
    raise(SIGUSR1); /* nested on the same stack */
    raise(SIGHUP);
    stack.ss_flags = SS_AUTODISARM;
    E(sigaltstack(&stack, NULL));
    raise(SIGUSR2);
    E(sigaltstack(NULL, &old));
    IS(old.ss_sp == area && old.ss_flags == (int)SS_AUTODISARM);

    stack.ss_flags = 0;
    MUST(sigaltstack(&stack, NULL));
    handle_info(SIGSEGV, overflowed, SA_ONSTACK);
    for (volatile int i = 0; i < 3; i++)
        if (!sigsetjmp(back, 1))
            recurse(0);
    IN_CHILD("overflow without it", stack.ss_flags = SS_DISABLE; sigaltstack(&stack, NULL);
             recurse(0));
    IN_CHILD("inherited by fork", raise(SIGUSR2));
    return 0;
}
