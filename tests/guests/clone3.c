/* clone3: sizes, flags, pidfd and exit signal.
 */
#include "guest.h"
#include <linux/sched.h>

static long clone3(struct clone_args *args, size_t size) {
    return syscall(SYS_clone3, args, size);
}

int main(void) {
    char big[sizeof(struct clone_args) + 16] = {0};
    struct clone_args args = {.exit_signal = SIGCHLD};
    int status, pidfd = -1;
    pid_t pid;
    E(clone3(&args, 8));
    E(clone3(&args, PAGE + 1));
    E(clone3((void *)1, sizeof args));
    args.exit_signal = 300;
    E(clone3(&args, sizeof args));
    args = (struct clone_args){.exit_signal = SIGCHLD, .stack = 0x1000};
    E(clone3(&args, sizeof args));
    args = (struct clone_args){.flags = 0x40, .exit_signal = SIGCHLD};
    E(clone3(&args, sizeof args));
    args = (struct clone_args){.exit_signal = SIGCHLD};
    memcpy(big, &args, sizeof args);
    big[sizeof args + 3] = 1;
    E(clone3((void *)big, sizeof big));

    pid = clone3(&args, sizeof args);
    if (pid == 0)
        _exit(11);
    reap("plain", pid);
    args.flags = CLONE_PIDFD;
    args.pidfd = (uintptr_t)&pidfd;
    pid = clone3(&args, sizeof args);
    if (pid == 0)
        _exit(12);
    IS(pidfd > 2);
    V(fcntl(pidfd, F_GETFD));
    struct pollfd p = {pidfd, POLLIN, 0};
    V(poll(&p, 1, -1));
    V(p.revents == POLLIN);
    siginfo_t info;
    E(waitid(3, pidfd, &info, WEXITED));
    printf("status %d\n", info.si_status);
    args = (struct clone_args){.exit_signal = 0};
    pid = clone3(&args, sizeof args);
    if (pid == 0)
        _exit(13);
    MUST(waitpid(pid, &status, __WALL));
    show_status("no signal", status);
    return 0;
}
