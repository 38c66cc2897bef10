/* SIGCHLD: what it says about each change, SA_NOCLDSTOP, SA_NOCLDWAIT, ignoring it.
 */
#include "guest.h"

static volatile pid_t child;
static sigset_t chld;

static void wait_for_it(const char *what) {
    siginfo_t info;
    MUST(sigwaitinfo(&chld, &info));
    printf("%s: code %d status %d pid %d uid %d\n", what, info.si_code, info.si_status,
           info.si_pid == child, info.si_uid == getuid());
}

static void handler(int sig) {
    (void)sig;
}

int main(void) {
    int status, gate[2];
    MUST(pipe(gate));
    chld = set_of(SIGCHLD);
    sigprocmask(SIG_BLOCK, &chld, NULL);
    child = MUST(fork());
    if (!child)
        _exit(44);
    wait_for_it("exit");
    reap("child", child);
    child = MUST(fork());
    if (!child) {
        raise(SIGSTOP);
        hear(gate[0]);
        raise(SIGTERM);
    }
    wait_for_it("stop");
    IS(waitpid(child, &status, WUNTRACED) == child);
    kill(child, SIGCONT);
    wait_for_it("continue");
    tell(gate[1]);
    wait_for_it("kill");
    reap("child", child);

    /* No signal for stops. */
    handle(SIGCHLD, handler, SA_NOCLDSTOP);
    child = MUST(fork());
    if (!child) {
        raise(SIGSTOP);
        _exit(1);
    }
    IS(waitpid(child, &status, WUNTRACED) == child);
    sigset_t pending;
    sigpending(&pending);
    printf("pending after a stop %d\n", sigismember(&pending, SIGCHLD));
    kill(child, SIGCONT);
    wait_for_it("exit");
    reap("child", child);

    /* No zombies: wait blocks until all are gone, then says ECHILD. */
    handle(SIGCHLD, handler, SA_NOCLDWAIT);
    for (int i = 0; i < 3; i++) {
        child = MUST(fork());
        if (!child) {
            hear(gate[0]);
            _exit(1);
        }
    }
    for (int i = 0; i < 3; i++)
        tell(gate[1]);
    E(wait(&status));
    sigpending(&pending);
    printf("pending with SA_NOCLDWAIT %d\n", sigismember(&pending, SIGCHLD));
    struct timespec zero = {0, 0};
    sigtimedwait(&chld, NULL, &zero);

    signal(SIGCHLD, SIG_IGN);
    child = MUST(fork());
    if (!child)
        _exit(1);
    E(waitpid(child, &status, 0));
    sigpending(&pending);
    printf("pending when ignored %d\n", sigismember(&pending, SIGCHLD));

    /* By default it is thrown away, and a zombie stays. */
    signal(SIGCHLD, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, &chld, NULL);
    child = MUST(fork());
    if (!child)
        _exit(2);
    reap("child", child);
    return 0;
}
