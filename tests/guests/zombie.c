/* A zombie keeps its pid, takes signals and does nothing, until it is waited for.
 */
#include "guest.h"

static char state_of(pid_t pid) {
    char path[64], text[512] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY);
    if (fd == -1)
        return '-';
    (void)!read(fd, text, sizeof text - 1);
    close(fd);
    return strrchr(text, ')')[2];
}

int main(void) {
    siginfo_t info;
    pid_t child = MUST(fork());
    if (child == 0)
        _exit(12);
    MUST(waitid(P_PID, child, &info, WEXITED | WNOWAIT));
    printf("state %c\n", state_of(child));
    E(kill(child, 0));
    E(kill(child, SIGKILL));
    E(kill(child, SIGTERM));
    E(setpgid(child, child));
    V(getpgid(child) == getpgrp());
    IS(getsid(child) == getsid(0));
    reap("child", child);
    printf("state %c\n", state_of(child));
    E(kill(child, 0));
    E(getpgid(child));
    return 0;
}
