/* epoll: level and edge, one-shot, data, nesting, closed descriptors, errors.
 */
#include "guest.h"
#include <sys/epoll.h>

static int ep;

static void wait_once(const char *what) {
    struct epoll_event events[8];
    int n = epoll_wait(ep, events, 8, 0);
    printf("%s: %d", what, n);
    uint64_t bits = 0, all = 0;
    for (int i = 0; i < n; i++)
        bits |= events[i].events, all += events[i].data.u64;
    printf(" events %lx data %lu\n", bits, all);
}

static long control(int op, int fd, uint32_t events, uint64_t data) {
    struct epoll_event event = {.events = events, .data.u64 = data};
    return epoll_ctl(ep, op, fd, &event);
}

int main(void) {
    int p[2], q[2];
    char text[64];
    ep = MUST(epoll_create1(EPOLL_CLOEXEC));
    MUST(pipe2(p, O_NONBLOCK));
    MUST(pipe2(q, O_NONBLOCK));
    E(control(EPOLL_CTL_ADD, p[0], EPOLLIN, 10));
    E(control(EPOLL_CTL_ADD, p[0], EPOLLIN, 10));
    E(control(EPOLL_CTL_ADD, p[1], EPOLLOUT, 100));
    wait_once("writable");
    E(control(EPOLL_CTL_DEL, p[1], 0, 0));
    E(control(EPOLL_CTL_DEL, p[1], 0, 0));
    E(control(EPOLL_CTL_MOD, p[1], EPOLLOUT, 0));
    MUST(write(p[1], "abc", 3));
    wait_once("level");
    wait_once("level again");
    E(control(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLET, 11));
    wait_once("edge");
    wait_once("edge again");
    MUST(write(p[1], "d", 1));
    wait_once("edge, new data");
    E(control(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLONESHOT, 12));
    wait_once("one shot");
    wait_once("one shot again");
    E(control(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLONESHOT, 13));
    wait_once("armed again");
    MUST(read(p[0], text, sizeof text));
    E(control(EPOLL_CTL_MOD, p[0], EPOLLIN, 14));
    wait_once("empty");
    int copy = MUST(dup(p[0]));
    MUST(write(p[1], "x", 1));
    close(p[0]);
    wait_once("closed, but a copy lives");
    close(copy);
    wait_once("all closed");

    E(control(EPOLL_CTL_ADD, ep, EPOLLIN, 0));
    int outer = MUST(epoll_create(1));
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 5};
    E(epoll_ctl(outer, EPOLL_CTL_ADD, ep, &event));
    E(control(EPOLL_CTL_ADD, q[0], EPOLLIN, 20));
    V(epoll_wait(outer, &event, 1, 0));
    MUST(write(q[1], "y", 1));
    V(epoll_wait(outer, &event, 1, 0));
    struct pollfd pfd = {ep, POLLIN, 0};
    V(poll(&pfd, 1, 0));
    E(control(EPOLL_CTL_ADD, open("/dev/null", O_RDONLY), EPOLLIN, 0) == 0 ? 0 : -1);
    write_file("file", "", 0, 0644);
    E(control(EPOLL_CTL_ADD, open("file", O_RDONLY), EPOLLIN, 0));
    E(control(EPOLL_CTL_ADD, 999, EPOLLIN, 0));
    E(control(77, q[0], EPOLLIN, 0));
    E(epoll_ctl(1, EPOLL_CTL_ADD, q[0], &event));
    E(epoll_ctl(ep, EPOLL_CTL_MOD, q[0], (struct epoll_event *)1));
    E(epoll_wait(ep, &event, 0, 0));
    E(epoll_wait(ep, (struct epoll_event *)1, 1, 0));
    E(epoll_wait(999, &event, 1, 0));
    E(epoll_create(0));
    E(epoll_create1(1));

    /* A sleeping wait wakes; a hang-up is told without being asked for. */
    MUST(read(q[0], text, 1));
    pid_t child = MUST(fork());
    if (!child) {
        close(q[0]);
        sleep_ms(10);
        _exit(0);
    }
    close(q[1]);
    V(epoll_wait(ep, &event, 1, -1));
    printf("events %x\n", event.events);
    reap("child", child);
    long long before = now_ns(CLOCK_MONOTONIC);
    E(control(EPOLL_CTL_DEL, q[0], 0, 0));
    V(epoll_wait(ep, &event, 1, 30));
    IS(now_ns(CLOCK_MONOTONIC) - before >= 29 * MS);
    return 0;
}
