/* sigwaitinfo and sigtimedwait: what is taken, timeouts, interruption, order.
 */
#include "guest.h"

static void handler(int sig) {
    (void)sig;
}

static void take(const sigset_t *set, long ms) {
    siginfo_t info = {0};
    struct timespec timeout = {ms / 1000, ms % 1000 * MS};
    int sig = sigtimedwait(set, &info, ms < 0 ? NULL : &timeout);
    if (sig == -1)
        printf("sigtimedwait: %s\n", errno_name(errno));
    else
        printf("took %s%s code %d value %d\n", sig >= SIGRTMIN ? "RT " : "",
               sig >= SIGRTMIN ? "" : signal_name(sig), info.si_code,
               info.si_code == SI_QUEUE ? info.si_value.sival_int : 0);
}

int main(void) {
    sigset_t set = set_of(SIGUSR1);
    sigaddset(&set, SIGRTMIN);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    take(&set, 0);
    take(&set, 20);
    for (int i = 0; i < 3; i++)
        sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i});
    raise(SIGUSR1);
    raise(SIGUSR1);
    for (int i = 0; i < 5; i++)
        take(&set, 0);

    pid_t parent = getpid(), child = MUST(fork());
    if (!child) {
        sleep_ms(20);
        sigqueue(parent, SIGRTMIN, (union sigval){.sival_int = 99});
        _exit(0);
    }
    sigset_t one = set_of(SIGRTMIN);
    take(&one, -1);
    reap("sender", child);
    take(&set, 0); /* SIGCHLD, though its default is to be ignored */

    int sig = 0;
    raise(SIGUSR1);
    printf("sigwait %d", sigwait(&set, &sig));
    printf(" %s\n", signal_name(sig));

    /* A handler for another signal interrupts it. */
    handle(SIGUSR2, handler, SA_RESTART);
    child = MUST(fork());
    if (!child)
        for (;;) {
            kill(parent, SIGUSR2);
            sleep_ms(5);
        }
    take(&set, -1);
    kill(child, SIGKILL);
    reap("sender", child);
    struct timespec bad = {0, 1000000000};
    E(sigtimedwait(&set, NULL, &bad));
    bad = (struct timespec){-1, 0};
    E(sigtimedwait(&set, NULL, &bad));
    E(sigtimedwait((sigset_t *)1, NULL, NULL));
    E(syscall(SYS_rt_sigtimedwait, &set, NULL, (void *)1, 8));
    E(syscall(SYS_rt_sigtimedwait, &set, NULL, NULL, 16));
    return 0;
}
