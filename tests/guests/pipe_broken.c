/* Writing where nobody reads: SIGPIPE by default, EPIPE if it is ignored or caught.
 */
#include "guest.h"

static void handler(int sig) {
    (void)sig;
    note("caught SIGPIPE\n");
}

int main(void) {
    int p[2];
    MUST(pipe(p));
    close(p[0]);
    IN_CHILD("default", (void)!write(p[1], "x", 1));
    signal(SIGPIPE, SIG_IGN);
    E(write(p[1], "x", 1));
    V(write(p[1], "x", 0));
    handle(SIGPIPE, handler, 0);
    E(write(p[1], "x", 1));
    sigset_t set = set_of(SIGPIPE), pending;
    sigprocmask(SIG_BLOCK, &set, NULL);
    E(write(p[1], "x", 1));
    sigpending(&pending);
    printf("pending %d\n", sigismember(&pending, SIGPIPE));
    struct iovec iov[2] = {{"a", 1}, {"b", 1}};
    E(writev(p[1], iov, 2));
    sigtimedwait(&set, NULL, &(struct timespec){0, 0});
    sigprocmask(SIG_UNBLOCK, &set, NULL);

    /* A writer asleep on a full pipe wakes when the reader goes; what it wrote counts. */
    static char big[200000];
    int q[2], gate[2];
    MUST(pipe(q));
    MUST(pipe(gate));
    pid_t child = MUST(fork());
    if (!child) {
        close(q[0]);
        signal(SIGPIPE, SIG_IGN);
        tell(gate[1]);
        V(write(q[1], big, sizeof big));
        E(write(q[1], big, 1));
        _exit(0);
    }
    close(q[1]);
    hear(gate[0]);
    sleep_ms(30);
    close(q[0]);
    reap("writer", child);
    return 0;
}
