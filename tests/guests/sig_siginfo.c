/* What a handler is told: kill, raise, tgkill, sigqueue, thread-directed, and the context.
 */
#include "guest.h"

static void handler(int sig, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    char text[128];
    snprintf(text, sizeof text, "%s: code %d pid %d uid %d value %d errno %d mask %d\n",
             signal_name(sig), info->si_code, info->si_pid == getpid(), info->si_uid == getuid(),
             info->si_code == SI_QUEUE ? info->si_value.sival_int : 0, info->si_errno,
             sigismember(&uc->uc_sigmask, SIGUSR2));
    note(text);
}

int main(void) {
    handle_info(SIGUSR1, handler, 0);
    handle_info(SIGRTMIN + 3, handler, 0);
    E(kill(getpid(), SIGUSR1));
    E(raise(SIGUSR1));
    E(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1));
    E(syscall(SYS_tkill, gettid(), SIGUSR1));
    E(sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 77}));
    E(sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = -1}));
    E(pthread_sigqueue(pthread_self(), SIGRTMIN + 3, (union sigval){.sival_int = 5}));
    sigset_t set = set_of(SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    E(raise(SIGUSR1));

    /* One's own siginfo, as far as it is allowed. */
    siginfo_t info = {.si_code = SI_QUEUE};
    info.si_pid = getpid(), info.si_uid = getuid(), info.si_value.sival_int = 9;
    E(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, &info));
    info.si_code = -60; /* SI_ASYNCNL, as good as any */
    E(syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), SIGUSR1, &info));
    info.si_code = SI_USER;
    E(syscall(SYS_rt_sigqueueinfo, getppid(), 0, &info));
    info.si_code = SI_TKILL;
    E(syscall(SYS_rt_sigqueueinfo, getppid(), 0, &info));
    return 0;
}
