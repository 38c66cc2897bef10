/* Orphans go to the nearest subreaper, who may wait for them; parents' deaths are signalled.
 */
#include "guest.h"
#include <sys/prctl.h>

static volatile sig_atomic_t told;

static void on_usr1(int sig) {
    told = sig;
}

int main(void) {
    int gate[2], out[2], was = -1;
    pid_t me = getpid();
    MUST(pipe(gate));
    MUST(pipe(out));
    E(prctl(PR_GET_CHILD_SUBREAPER, &was));
    printf("subreaper before: %d\n", was);
    E(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
    E(prctl(PR_GET_CHILD_SUBREAPER, &was));
    printf("subreaper after: %d\n", was);

    pid_t child = MUST(fork());
    if (child == 0) {
        pid_t middle = getpid();
        if (fork() == 0) {
            handle(SIGUSR1, on_usr1, 0);
            sigset_t set = set_of(SIGUSR1), old;
            sigprocmask(SIG_BLOCK, &set, &old);
            MUST(prctl(PR_SET_PDEATHSIG, SIGUSR1));
            int pdeath = 0;
            MUST(prctl(PR_GET_PDEATHSIG, &pdeath));
            printf("grandchild: parent is the middle: %d, pdeathsig %s\n", getppid() == middle,
                   signal_name(pdeath));
            tell(out[1]);
            sigsuspend(&old);
            hear(gate[0]); /* the parent has reaped the middle */
            printf("grandchild: told by %s, parent is the subreaper: %d\n", signal_name(told),
                   getppid() == me);
            _exit(5);
        }
        hear(out[0]);
        _exit(6);
    }
    reap("child", child);
    int status;
    tell(gate[1]);
    pid_t orphan = waitpid(-1, &status, 0);
    IS(orphan > 0 && orphan != child);
    show_status("orphan", status);

    /* A zombie's zombies are inherited too. */
    child = MUST(fork());
    if (child == 0) {
        pid_t grandchild = fork();
        if (grandchild == 0)
            _exit(8);
        siginfo_t info;
        MUST(waitid(P_PID, grandchild, &info, WEXITED | WNOWAIT));
        _exit(9);
    }
    reap("child", child);
    IS(waitpid(-1, &status, 0) > 0);
    show_status("inherited zombie", status);
    E(wait(NULL));
    return 0;
}
