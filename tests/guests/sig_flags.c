/* SA_NODEFER, SA_RESETHAND, SA_ONSTACK's absence, SA_SIGINFO's absence; what sigaction reports.
 */
#include "guest.h"

static void handler(int sig) {
    sigset_t set;
    struct sigaction act;
    char text[96];
    sigprocmask(SIG_SETMASK, NULL, &set);
    sigaction(sig, NULL, &act);
    snprintf(text, sizeof text, "%s blocked in its handler %d, handler still there %d\n",
             signal_name(sig), sigismember(&set, sig), act.sa_handler == handler);
    note(text);
}

int main(void) {
    handle(SIGUSR1, handler, 0);
    raise(SIGUSR1);
    handle(SIGUSR1, handler, SA_NODEFER);
    raise(SIGUSR1);
    handle(SIGUSR1, handler, SA_RESETHAND);
    raise(SIGUSR1);
    struct sigaction act = {0};
    sigaction(SIGUSR1, NULL, &act);
    IS(act.sa_handler == SIG_DFL);
    IN_CHILD("second signal after SA_RESETHAND", raise(SIGUSR1));
    handle(SIGUSR1, handler, SA_RESETHAND | SA_NODEFER);
    raise(SIGUSR1);

    struct sigaction new = {.sa_handler = handler, .sa_flags = SA_RESTART | SA_NODEFER};
    sigaddset(&new.sa_mask, SIGHUP);
    sigaddset(&new.sa_mask, SIGKILL);
    sigaddset(&new.sa_mask, SIGSTOP);
    MUST(sigaction(SIGUSR2, &new, NULL));
    struct sigaction old;
    MUST(sigaction(SIGUSR2, NULL, &old));
    printf("flags as set %d, HUP %d KILL %d STOP %d\n",
           (old.sa_flags & (SA_RESTART | SA_NODEFER | SA_RESETHAND)) == (SA_RESTART | SA_NODEFER),
           sigismember(&old.sa_mask, SIGHUP), sigismember(&old.sa_mask, SIGKILL),
           sigismember(&old.sa_mask, SIGSTOP));
    void (*previous)(int) = signal(SIGUSR2, SIG_IGN);
    IS(previous == handler);
    IS(signal(SIGUSR2, SIG_DFL) == SIG_IGN);
    E(sigaction(SIGKILL, &new, NULL));
    E(sigaction(SIGSTOP, &new, NULL));
    E(sigaction(SIGKILL, NULL, &old));
    E(sigaction(0, NULL, &old));
    E(sigaction(65, NULL, &old));
    E(syscall(SYS_rt_sigaction, SIGUSR1, NULL, NULL, 4));
    E(syscall(SYS_rt_sigaction, SIGUSR1, (void *)1, NULL, 8));
    E(syscall(SYS_rt_sigaction, SIGUSR1, NULL, (void *)1, 8));

    /* Ignoring a pending signal throws it away. */
    sigset_t set = set_of(SIGUSR2), pending;
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGUSR2);
    sigpending(&pending);
    printf("pending %d\n", sigismember(&pending, SIGUSR2));
    signal(SIGUSR2, SIG_IGN);
    sigpending(&pending);
    printf("pending once ignored %d\n", sigismember(&pending, SIGUSR2));
    raise(SIGUSR2);
    sigpending(&pending);
    printf("raised while ignored and blocked %d\n", sigismember(&pending, SIGUSR2));
    signal(SIGUSR2, handler);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    return 0;
}
