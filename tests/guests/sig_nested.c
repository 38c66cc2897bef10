/* Handlers that are interrupted by handlers, and the masks that forbid it.
 * traps: many
 */
#include "guest.h"

static volatile int depth, deepest;

static int blocked(int sig) {
    sigset_t set;
    sigprocmask(SIG_SETMASK, NULL, &set);
    return sigismember(&set, sig);
}

static void handler(int sig) {
    char text[128];
    depth++;
    if (depth > deepest)
        deepest = depth;
    snprintf(text, sizeof text, "%*senter %s, blocked: USR1 %d USR2 %d HUP %d\n", depth * 2, "",
             signal_name(sig), blocked(SIGUSR1), blocked(SIGUSR2), blocked(SIGHUP));
    note(text);
    if (sig == SIGUSR1)
        raise(SIGUSR2);
    if (sig == SIGUSR2)
        raise(SIGHUP);
    if (sig == SIGHUP)
        raise(SIGUSR1); /* blocked: it comes when USR1's handler ends */
    snprintf(text, sizeof text, "%*sleave %s\n", depth * 2, "", signal_name(sig));
    note(text);
    depth--;
}

static void masked(int sig) {
    char text[64];
    snprintf(text, sizeof text, "masked handler of %s enters\n", signal_name(sig));
    note(text);
    if (sig == SIGUSR1) {
        raise(SIGUSR2);
        raise(SIGHUP);
        sigset_t pending;
        sigpending(&pending);
        snprintf(text, sizeof text, "pending USR2 %d HUP %d\n", sigismember(&pending, SIGUSR2),
                 sigismember(&pending, SIGHUP));
        note(text);
    }
    note("masked handler leaves\n");
}

static int rounds;

static void again(int sig) {
    if (++rounds < 5)
        raise(sig);
}

static void recursive(int sig) {
    if (++rounds < 1000)
        raise(sig);
}

int main(void) {
    struct sigaction act = {.sa_handler = masked};
    handle(SIGUSR2, handler, 0);
    handle(SIGHUP, handler, 0);
    handle(SIGTERM, again, 0);
    act.sa_handler = handler;
    sigaction(SIGUSR1, &act, NULL);
    handle(SIGHUP, SIG_IGN, 0);
    raise(SIGUSR1);
    printf("deepest %d\n", deepest);

    act.sa_handler = masked;
    sigaddset(&act.sa_mask, SIGUSR2);
    sigaddset(&act.sa_mask, SIGHUP);
    sigaction(SIGUSR1, &act, NULL);
    handle(SIGUSR2, masked, 0);
    handle(SIGHUP, masked, 0);
    raise(SIGUSR1);
    printf("blocked afterwards: %d %d %d\n", blocked(SIGUSR1), blocked(SIGUSR2), blocked(SIGHUP));

    raise(SIGTERM);
    printf("rounds %d\n", rounds);
    rounds = 0;
    handle(SIGTERM, recursive, SA_NODEFER);
    raise(SIGTERM);
    printf("nested rounds %d\n", rounds);
    return 0;
}
