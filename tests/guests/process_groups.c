/* Process groups and sessions: who may move whom, and signals to a whole group.
 */
#include "guest.h"

int main(int argc, char **argv) {
    if (argc > 1) {
        hear(atoi(argv[1]));
        return 0;
    }
    int gate[2], ready[2];
    MUST(pipe(gate));
    MUST(pipe(ready));
    IN_CHILD("leader", IS(setpgid(0, 0) == 0); IS(getpgrp() == getpid()); E(setpgid(0, 0));
             E(setsid()); /* a group leader may not */
             E(setpgid(0, -5)); E(setpgid(1 << 22, 0)); E(getpgid(1 << 22)); E(getsid(1 << 22));
             E(getpgid(-1)); E(setpgid(0, 1 << 22)));
    IN_CHILD("session", pid_t sid = setsid(); IS(sid == getpid()); IS(getpgrp() == sid);
             IS(getsid(0) == sid); E(setpgid(0, 0)); E(setsid()); E(setpgid(0, getppid()));
             IN_CHILD("member", IS(getsid(0) == sid); IS(getpgrp() == sid); IS(setpgid(0, 0) == 0);
                      IS(getsid(0) == sid); IS(setpgid(0, sid) == 0); IS(getpgrp() == sid);
                      IS(setsid() == getpid());
                      E(setpgid(getppid(), 0)))); /* neither itself nor its child */

    /* A child that has called exec may not be moved. */
    pid_t child = MUST(fork());
    if (child == 0) {
        char fd[16];
        snprintf(fd, sizeof fd, "%d", gate[0]);
        fcntl(ready[1], F_SETFD, FD_CLOEXEC);
        execl("/proc/self/exe", argv[0], fd, NULL);
        _exit(127);
    }
    close(ready[1]);
    char byte;
    IS(read(ready[0], &byte, 1) == 0); /* closed by exec */
    E(setpgid(child, child));
    tell(gate[1]);
    reap("executed child", child);

    /* A child in another session may not be moved either. */
    MUST(pipe(ready));
    child = MUST(fork());
    if (child == 0) {
        setsid();
        tell(ready[1]);
        hear(gate[0]);
        _exit(0);
    }
    hear(ready[0]);
    E(setpgid(child, getpgrp()));
    E(setpgid(child, 0));
    tell(gate[1]);
    reap("child of another session", child);

    /* kill(-pgid) reaches all of the group and nobody else. */
    pid_t pids[4];
    for (int i = 0; i < 4; i++) {
        pids[i] = MUST(fork());
        if (pids[i] == 0) {
            hear(gate[0]);
            _exit(1);
        }
        MUST(setpgid(pids[i], i ? pids[i > 2 ? 3 : 0] : 0));
    }
    IS(getpgid(pids[1]) == pids[0]);
    E(kill(-pids[0], SIGTERM));
    for (int i = 0; i < 3; i++)
        reap("member", pids[i]);
    E(kill(-pids[0], SIGTERM));
    E(killpg(pids[3], SIGUSR1));
    reap("other group", pids[3]);
    return 0;
}
