/* timerfd as a wake-up: blocking reads, poll, epoll, periodic counts, a shared timer in a child.
 */
#include "guest.h"
#include <sys/epoll.h>
#include <sys/timerfd.h>

static void set(int fd, long ms, long every_ms) {
    struct itimerspec spec = {{every_ms / 1000, every_ms % 1000 * MS}, {ms / 1000, ms % 1000 * MS}};
    MUST(timerfd_settime(fd, 0, &spec, NULL));
}

int main(void) {
    uint64_t count;
    int fd = MUST(timerfd_create(CLOCK_BOOTTIME, 0));
    set(fd, 10, 0);
    V(read(fd, &count, 8));
    V(count);
    set(fd, 5, 5);
    for (int i = 0; i < 3; i++)
        MUST(read(fd, &count, 8));
    int ep = MUST(epoll_create1(0));
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    MUST(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event));
    V(epoll_wait(ep, &event, 1, -1));
    MUST(read(fd, &count, 8));
    V(epoll_wait(ep, &event, 1, -1));
    set(fd, 1000000, 0);
    V(epoll_wait(ep, &event, 1, 0));
    /* A child and its parent share the timer. */
    pid_t child = MUST(fork());
    if (!child) {
        set(fd, 10, 0);
        _exit(0);
    }
    V(read(fd, &count, 8));
    reap("child", child);
    struct itimerspec left;
    V(timerfd_gettime(fd, &left));
    IS(left.it_value.tv_sec == 0 && left.it_value.tv_nsec == 0);
    /* The time is over before anybody looks. */
    set(fd, 3, 4);
    sleep_ms(50);
    MUST(timerfd_gettime(fd, &left));
    IS(left.it_value.tv_nsec > 0 && left.it_value.tv_nsec <= 4 * MS);
    IS(left.it_interval.tv_nsec == 4 * MS);
    MUST(read(fd, &count, 8));
    IS(count >= 10);
    V(read(fd, (void *)8, 8));
    E(write(fd, &count, 8));
    E(pread(fd, &count, 8, 0));
    E(timerfd_gettime(fd, (void *)1));
    E(timerfd_gettime(ep, &left));
    E(timerfd_gettime(99, &left));
    E(timerfd_settime(fd, 0, (void *)1, NULL));
    E(timerfd_settime(99, 0, &left, NULL));
    E(timerfd_create(CLOCK_PROCESS_CPUTIME_ID, 0));
    return 0;
}
