/* pidfds from clone, waitid(P_PIDFD), pidfd_getfd, epoll on pidfds, threads.
 */
#include "guest.h"
#include <linux/sched.h>
#include <sys/epoll.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

static long clone3(struct clone_args *args) {
    return syscall(SYS_clone3, args, sizeof *args);
}
static long pidfd_open(pid_t pid, unsigned flags) {
    return syscall(SYS_pidfd_open, pid, flags);
}
static long getfd(int pidfd, int fd, unsigned flags) {
    return syscall(SYS_pidfd_getfd, pidfd, fd, flags);
}

int main(void) {
    int pidfd = -1;
    struct clone_args args = {
        .flags = CLONE_PIDFD, .pidfd = (uintptr_t)&pidfd, .exit_signal = SIGCHLD};
    int go[2];
    MUST(pipe(go));
    pid_t child = MUST(clone3(&args));
    if (!child) {
        hear(go[0]);
        _exit(pidfd == -1 ? 7 : 8);
    }
    V(fcntl(pidfd, F_GETFD));
    siginfo_t info;
    E(waitid(P_PIDFD, pidfd, &info, WEXITED | WNOHANG));
    E(waitid(P_PIDFD, 0, &info, WEXITED));
    E(waitid(P_PIDFD, 99, &info, WEXITED));
    E(waitid(P_PIDFD, -1, &info, WEXITED));
    int ep = MUST(epoll_create1(0));
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = 5};
    E(epoll_ctl(ep, EPOLL_CTL_ADD, pidfd, &event));
    V(epoll_wait(ep, &event, 1, 0));
    tell(go[1]);
    V(epoll_wait(ep, &event, 1, -1));
    V(event.events & EPOLLIN);
    E(waitid(P_PIDFD, pidfd, &info, WEXITED | WNOWAIT));
    printf("pid %d status %d code %d\n", info.si_pid == child, info.si_status, info.si_code);
    E(waitid(P_PIDFD, pidfd, &info, WEXITED));
    E(waitid(P_PIDFD, pidfd, &info, WEXITED));
    struct pollfd p = {pidfd, POLLIN, 0};
    V(poll(&p, 1, 0));
    printf("%x\n", p.revents);
    close(pidfd);

    /* By clone, where the parent's tid would go; not both. */
    child = MUST(syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, 0, &pidfd, 0, 0));
    if (!child)
        _exit(3);
    E(waitid(P_PIDFD, pidfd, &info, WEXITED));
    printf("status %d\n", info.si_status);
    close(pidfd);
    E(syscall(SYS_clone, CLONE_PIDFD | CLONE_PARENT_SETTID | SIGCHLD, 0, &pidfd, 0, 0));
    E(syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, 0, 1L, 0, 0));
    E(syscall(SYS_clone, CLONE_PIDFD | 0x400000 | SIGCHLD, 0, &pidfd, 0, 0));
    V(waitpid(-1, NULL, WNOHANG));

    /* Non-blocking. */
    child = MUST(fork());
    if (!child) {
        hear(go[0]);
        _exit(0);
    }
    pidfd = MUST(pidfd_open(child, O_NONBLOCK));
    E(waitid(P_PIDFD, pidfd, &info, WEXITED));

    /* Somebody else's descriptor: the same open file. */
    int mine = MUST(getfd(pidfd, go[0], 0));
    V(fcntl(mine, F_GETFD));
    E(getfd(pidfd, 99, 0));
    E(getfd(pidfd, 0, 1));
    E(getfd(0, 0, 0));
    tell(go[1]);
    p = (struct pollfd){pidfd, POLLIN, 0};
    V(poll(&p, 1, -1));
    E(getfd(pidfd, 0, 0));
    E(waitid(P_PIDFD, pidfd, &info, WEXITED));
    E(getfd(pidfd, 0, 0));
    E(pidfd_open(getpid(), 0));
    E(pidfd_open(1, 4));
    return 0;
}
