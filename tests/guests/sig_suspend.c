/* sigsuspend and pause: the mask while waiting, the mask restored, EINTR, no lost wake-ups.
 * traps: many
 */
#include "guest.h"

static volatile sig_atomic_t count, other;

static void handler(int sig) {
    if (sig == SIGUSR1)
        count++;
    else
        other++;
}

int main(void) {
    sigset_t both = set_of(SIGUSR1), old, pending;
    sigaddset(&both, SIGUSR2);
    handle(SIGUSR1, handler, 0);
    handle(SIGUSR2, handler, 0);
    sigprocmask(SIG_BLOCK, &both, &old);

    raise(SIGUSR1);
    raise(SIGUSR2);
    sigset_t only = both;
    sigdelset(&only, SIGUSR1);
    E(sigsuspend(&only));
    printf("USR1 %d USR2 %d\n", count, other);
    sigprocmask(SIG_SETMASK, NULL, &only);
    printf("blocked again: %d %d\n", sigismember(&only, SIGUSR1), sigismember(&only, SIGUSR2));
    sigpending(&pending);
    printf("pending: %d %d\n", sigismember(&pending, SIGUSR1), sigismember(&pending, SIGUSR2));
    E(sigsuspend(&old));
    printf("USR1 %d USR2 %d\n", count, other);
    E(sigsuspend((sigset_t *)1));
    E(syscall(SYS_rt_sigsuspend, &old, 4));

    /* A thousand hand-overs between two processes, each by a signal. */
    count = 0;
    pid_t parent = getpid(), child = MUST(fork());
    for (int i = 0; i < 1000; i++) {
        if (child)
            kill(child, SIGUSR1);
        while (count <= i)
            sigsuspend(&old);
        if (!child)
            kill(parent, SIGUSR1);
    }
    if (!child)
        _exit(count == 1000 ? 10 : 11);
    reap("partner", child);
    printf("hand-overs %d\n", count);

    /* pause ends with any handler, and with none that is ignored. */
    sigprocmask(SIG_SETMASK, &old, NULL);
    child = MUST(fork());
    if (!child) {
        for (;;) {
            kill(parent, SIGCONT);
            kill(parent, SIGUSR2);
            sleep_ms(5);
        }
    }
    E(pause());
    kill(child, SIGKILL);
    reap("sender", child);
    return 0;
}
