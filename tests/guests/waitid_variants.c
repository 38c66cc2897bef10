/* waitid: WNOWAIT, every kind of identity, and the siginfo it fills.
 */
#include "guest.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

static pid_t child;

static void show(const char *what, int result, const siginfo_t *info) {
    printf("%s: %s, signo %d code %d status %d pid %s\n", what,
           result == -1 ? errno_name(errno) : "ok", info->si_signo, info->si_code, info->si_status,
           info->si_pid == child ? "the child"
           : info->si_pid        ? "other"
                                 : "0");
}

#define WAIT(type, id, options)                                                                    \
    do {                                                                                           \
        siginfo_t info_ = {0};                                                                     \
        int result_ = waitid(type, id, &info_, options);                                           \
        show(#type " " #options, result_, &info_);                                                 \
    } while (0)

int main(void) {
    int gate[2];
    MUST(pipe(gate));
    child = 1;
    WAIT(P_ALL, 0, WEXITED);
    child = MUST(fork());
    if (child == 0) {
        hear(gate[0]);
        _exit(0x1234);
    }
    WAIT(P_PID, child, WEXITED | WNOHANG);
    WAIT(P_PID, child, 0);
    WAIT(P_PID, child, WNOHANG);
    WAIT(P_PID, child, WEXITED | 0x10000);
    WAIT(99, child, WEXITED);
    WAIT(P_PID, 0, WEXITED | WNOHANG);
    WAIT(P_PID, -1, WEXITED | WNOHANG);
    WAIT(P_PGID, getpgrp(), WEXITED | WNOHANG);
    WAIT(P_PGID, 0, WEXITED | WNOHANG);
    WAIT(P_PGID, -1, WEXITED | WNOHANG);
    kill(child, SIGSTOP);
    WAIT(P_PID, child, WSTOPPED | WNOWAIT);
    WAIT(P_PID, child, WSTOPPED);
    WAIT(P_PID, child, WSTOPPED | WNOHANG);
    kill(child, SIGCONT);
    WAIT(P_PID, child, WCONTINUED | WNOWAIT);
    WAIT(P_PID, child, WCONTINUED);
    tell(gate[1]);
    WAIT(P_PID, child, WEXITED | WNOWAIT);
    WAIT(P_ALL, 0, WEXITED | WNOWAIT);
    WAIT(P_PGID, getpgrp(), WEXITED | WNOWAIT);
    WAIT(P_ALL, 0, WEXITED);
    WAIT(P_ALL, 0, WEXITED);
    child = MUST(fork());
    if (child == 0)
        raise(SIGKILL);
    WAIT(P_PID, child, WEXITED);
    child = MUST(fork());
    if (child == 0)
        _exit(3);
    int pidfd = syscall(SYS_pidfd_open, child, 0);
    WAIT(P_PIDFD, pidfd, WEXITED);
    WAIT(P_PIDFD, pidfd, WEXITED);
    WAIT(P_PIDFD, 999, WEXITED);
    child = MUST(fork());
    if (child == 0)
        _exit(3);
    E(waitid(P_PID, child, NULL, WEXITED));
    return 0;
}
