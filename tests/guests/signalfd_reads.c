/* signalfd: signals as records, non-blocking, poll, several at once, changed masks.
 */
#include "guest.h"
#include <sys/signalfd.h>

int main(void) {
    sigset_t set = set_of(SIGUSR1);
    sigaddset(&set, SIGRTMIN);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = MUST(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
    V(fcntl(fd, F_GETFD));
    struct signalfd_siginfo info[4];
    E(read(fd, info, sizeof info));
    E(read(fd, info, 10));
    sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 5});
    sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 6});
    kill(getpid(), SIGUSR1);
    struct pollfd p = {fd, POLLIN, 0};
    V(poll(&p, 1, 0));
    ssize_t size = read(fd, info, sizeof info);
    for (unsigned i = 0; i < size / sizeof *info; i++)
        printf("signal %u code %d pid %d value %d\n", info[i].ssi_signo, info[i].ssi_code,
               info[i].ssi_pid == (unsigned)getpid(), info[i].ssi_int);
    V(poll(&p, 1, 0));
    pid_t child = MUST(fork());
    if (!child)
        _exit(9);
    V(poll(&p, 1, -1));
    V(read(fd, info, sizeof info) / sizeof *info);
    printf("signal %u code %d status %d pid %d\n", info[0].ssi_signo, info[0].ssi_code,
           info[0].ssi_status, info[0].ssi_pid == (unsigned)child);
    reap("child", child);
    sigset_t other = set_of(SIGUSR2);
    sigprocmask(SIG_BLOCK, &other, NULL);
    kill(getpid(), SIGUSR1);
    IS(signalfd(fd, &other, 0) == fd);
    V(poll(&p, 1, 0));
    kill(getpid(), SIGUSR2);
    V(poll(&p, 1, 0));
    V(read(fd, info, sizeof *info));
    E(signalfd(0, &set, 0));
    E(signalfd(-1, &set, 1));
    E(signalfd(999, &set, 0));
    E(write(fd, info, sizeof *info));
    return 0;
}
