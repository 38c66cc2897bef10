/* poll, ppoll, select, pselect: sets, timeouts, signals let in only while waiting.
 */
#include "guest.h"
#include <sys/select.h>

static volatile sig_atomic_t caught;
static void handler(int sig) {
    (void)sig;
    caught++;
}

int main(void) {
    int p[2], q[2];
    MUST(pipe(p));
    MUST(pipe(q));
    MUST(dup2(p[0], 100));
    MUST(write(q[1], "x", 1));
    fd_set in, out, except;
    FD_ZERO(&in);
    FD_ZERO(&out);
    FD_ZERO(&except);
    FD_SET(100, &in);
    FD_SET(q[0], &in);
    FD_SET(p[1], &out);
    FD_SET(q[0], &except);
    V(select(101, &in, &out, &except, NULL));
    printf("%d %d %d %d\n", FD_ISSET(100, &in) != 0, FD_ISSET(q[0], &in) != 0,
           FD_ISSET(p[1], &out) != 0, FD_ISSET(q[0], &except) != 0);
    FD_ZERO(&in);
    FD_SET(100, &in);
    struct timeval soon = {0, 10000};
    long long before = now_ns(CLOCK_MONOTONIC);
    V(select(101, &in, NULL, NULL, &soon));
    IS(now_ns(CLOCK_MONOTONIC) - before >= 10 * MS);
    printf("left %ld %ld, set %d\n", soon.tv_sec, (long)soon.tv_usec, FD_ISSET(100, &in) != 0);
    FD_SET(99, &in);
    E(select(100, &in, NULL, NULL, NULL));
    E(select(-1, NULL, NULL, NULL, NULL));
    struct timeval bad = {-1, 0};
    E(select(0, NULL, NULL, NULL, &bad));
    E(select(10, (fd_set *)1, NULL, NULL, NULL));
    V(select(0, NULL, NULL, NULL, &(struct timeval){0, 0}));

    struct pollfd pfd[3] = {{q[0], POLLIN, 0}, {-5, POLLIN, 0}, {p[1], POLLOUT | POLLIN, 0}};
    V(poll(pfd, 3, -1));
    printf("%d %d %d\n", pfd[0].revents, pfd[1].revents, pfd[2].revents);
    E(poll((struct pollfd *)1, 1, 0));
    V(poll(NULL, 0, 5));
    struct timespec bad_ts = {0, 1000000000};
    E(ppoll(pfd, 1, &bad_ts, NULL));

    /* The mask of pselect and ppoll is in force only while they wait. */
    sigset_t block = set_of(SIGUSR1), none;
    sigemptyset(&none);
    handle(SIGUSR1, handler, 0);
    sigprocmask(SIG_BLOCK, &block, NULL);
    raise(SIGUSR1);
    printf("caught %d\n", caught);
    struct timespec long_time = {100, 0};
    E(ppoll(NULL, 0, &long_time, &none));
    printf("caught %d\n", caught);
    raise(SIGUSR1);
    E(pselect(0, NULL, NULL, NULL, &long_time, &none));
    printf("caught %d\n", caught);
    raise(SIGUSR1);
    V(ppoll(pfd, 1, &long_time, &block));
    printf("caught %d\n", caught);
    sigprocmask(SIG_UNBLOCK, &block, NULL);
    printf("caught %d\n", caught);
    return 0;
}
