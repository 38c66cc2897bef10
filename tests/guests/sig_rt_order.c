/* Real-time signals queue in order with their values; standard ones come once and first.
 */
#include "guest.h"

static char text[4096];
static size_t used;

static void handler(int sig, siginfo_t *info, void *context) {
    (void)context;
    if (sig >= SIGRTMIN)
        used += snprintf(text + used, sizeof text - used, " RT%d=%d", sig - SIGRTMIN,
                         info->si_value.sival_int);
    else
        used += snprintf(text + used, sizeof text - used, " %s", signal_name(sig));
}

int main(void) {
    sigset_t all;
    sigfillset(&all);
    for (int sig = SIGRTMIN; sig <= SIGRTMIN + 4; sig++) {
        struct sigaction act = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO, .sa_mask = all};
        MUST(sigaction(sig, &act, NULL));
    }
    int standard[] = {SIGUSR1, SIGTERM, SIGHUP, SIGALRM};
    for (int i = 0; i < 4; i++) {
        struct sigaction act = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO, .sa_mask = all};
        MUST(sigaction(standard[i], &act, NULL));
    }
    sigprocmask(SIG_BLOCK, &all, NULL);
    for (int i = 0; i < 12; i++)
        MUST(sigqueue(getpid(), SIGRTMIN + (i * 3) % 5, (union sigval){.sival_int = i}));
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 4; j++)
            MUST(kill(getpid(), standard[j]));
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    printf("handlers run%s\n", text);

    /* Thread-directed before process-directed; nested when nothing is masked. */
    used = 0;
    for (int sig = SIGRTMIN; sig <= SIGRTMIN + 4; sig++)
        handle_info(sig, handler, 0);
    sigprocmask(SIG_BLOCK, &all, NULL);
    for (int i = 0; i < 3; i++) {
        MUST(sigqueue(getpid(), SIGRTMIN + i, (union sigval){.sival_int = i}));
        MUST(pthread_sigqueue(pthread_self(), SIGRTMIN + i, (union sigval){.sival_int = 10 + i}));
    }
    sigprocmask(SIG_SETMASK, &none, NULL);
    printf("handlers run%s\n", text);

    /* The queue has a limit, and standard signals do not need it. */
    struct rlimit limit = {20, 20};
    sigprocmask(SIG_BLOCK, &all, NULL);
    IN_CHILD("queue limit", setrlimit(RLIMIT_SIGPENDING, &limit); int queued = 0;
             while (queued < 1000 && sigqueue(getpid(), SIGRTMIN, (union sigval){0}) == 0) queued++;
             printf("%s, limit kept %d\n", errno_name(errno), queued <= 20); E(raise(SIGUSR1)));
    return 0;
}
