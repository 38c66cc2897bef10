/* pidfd: poll for a process's end, send signals, wait; what is refused.
 */
#include "guest.h"

static long pidfd_open(pid_t pid, unsigned flags) {
    return syscall(SYS_pidfd_open, pid, flags);
}
static long send(int fd, int sig) {
    return syscall(SYS_pidfd_send_signal, fd, sig, NULL, 0);
}

int main(void) {
    E(pidfd_open(0, 0));
    E(pidfd_open(-1, 0));
    E(pidfd_open(1 << 22, 0));
    E(pidfd_open(getpid(), 0x4));
    E(send(0, 0));
    E(send(999, 0));
    pid_t child = MUST(fork());
    if (child == 0)
        for (;;)
            pause();
    int fd = MUST(pidfd_open(child, 0));
    V(fcntl(fd, F_GETFD));
    struct pollfd p = {fd, POLLIN, 0};
    V(poll(&p, 1, 0));
    E(send(fd, 0));
    E(send(fd, 99));
    E(send(fd, SIGTERM));
    V(poll(&p, 1, -1));
    V(p.revents & POLLIN);
    E(send(fd, 0)); /* a zombie */
    reap("child", child);
    E(send(fd, 0));
    V(poll(&p, 1, 0));
    char byte;
    E(read(fd, &byte, 1));
    E(lseek(fd, 0, SEEK_SET));
    close(fd);
    return 0;
}
