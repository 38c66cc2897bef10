/* kill, tkill, tgkill, sigqueue, sigprocmask, sigpending: what they refuse.
 */
#include "guest.h"

static long mask(int how, const void *set, void *old, size_t size) {
    return syscall(SYS_rt_sigprocmask, how, set, old, size);
}

int main(void) {
    pid_t nobody = 1 << 22;
    E(kill(getpid(), 0));
    E(kill(nobody, 0));
    E(kill(nobody, SIGTERM));
    E(kill(-nobody, SIGTERM));
    E(kill(getpid(), 65));
    E(kill(getpid(), -1));
    E(kill(nobody, 65));
    E(kill(INT_MIN, 0));
    E(syscall(SYS_tkill, gettid(), 0));
    E(syscall(SYS_tkill, 0, 0));
    E(syscall(SYS_tkill, -1, 0));
    E(syscall(SYS_tkill, nobody, 0));
    E(syscall(SYS_tgkill, getpid(), gettid(), 0));
    E(syscall(SYS_tgkill, getppid(), gettid(), 0));
    E(syscall(SYS_tgkill, 0, gettid(), 0));
    E(syscall(SYS_tgkill, getpid(), 0, 0));
    E(syscall(SYS_tgkill, getpid(), gettid(), 65));
    E(sigqueue(nobody, SIGUSR1, (union sigval){0}));
    E(sigqueue(getpid(), 65, (union sigval){0}));
    E(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, (void *)1));
    unsigned long set = ~0UL, old = 0;
    E(mask(9, &set, NULL, 8));
    E(mask(9, NULL, NULL, 8));
    E(mask(SIG_BLOCK, &set, NULL, 4));
    E(mask(SIG_BLOCK, (void *)1, NULL, 8));
    E(mask(SIG_BLOCK, NULL, (void *)1, 8));
    E(mask(SIG_BLOCK, &set, (void *)1, 8)); /* the mask is changed all the same */
    E(mask(SIG_BLOCK, NULL, &old, 8));
    printf("mask %016lx\n", old); /* without SIGKILL and SIGSTOP */
    set = 0;
    E(mask(SIG_SETMASK, &set, NULL, 8));
    E(syscall(SYS_rt_sigpending, &set, 8));
    E(syscall(SYS_rt_sigpending, &set, 4));
    E(syscall(SYS_rt_sigpending, &set, 16));
    E(syscall(SYS_rt_sigpending, (void *)1, 8));
    return 0;
}
