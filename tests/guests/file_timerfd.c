/* timerfd: once, periodic, absolute, what is left, non-blocking, disarmed.
 */
#include "guest.h"
#include <sys/timerfd.h>

int main(void) {
    uint64_t count = 0;
    int fd = MUST(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
    struct itimerspec spec = {{0, 0}, {0, 10 * MS}}, old;
    E(read(fd, &count, 8));
    E(timerfd_settime(fd, 0, &spec, NULL));
    E(read(fd, &count, 8));
    struct pollfd p = {fd, POLLIN, 0};
    V(poll(&p, 1, -1));
    V(read(fd, &count, 8));
    printf("count %lu\n", count);
    V(poll(&p, 1, 0));
    E(timerfd_gettime(fd, &old));
    printf("left %ld %ld\n", old.it_value.tv_sec, old.it_value.tv_nsec);
    spec = (struct itimerspec){{0, 2 * MS}, {0, 2 * MS}};
    E(timerfd_settime(fd, 0, &spec, NULL));
    sleep_ms(50);
    V(read(fd, &count, 8));
    IS(count >= 10);
    spec = (struct itimerspec){{0, 0}, {100, 0}};
    E(timerfd_settime(fd, 0, &spec, &old));
    printf("interval %ld\n", old.it_interval.tv_nsec);
    E(timerfd_gettime(fd, &old));
    IS(old.it_value.tv_sec >= 98);
    spec = (struct itimerspec){{0, 0}, {0, 0}};
    E(timerfd_settime(fd, 0, &spec, NULL));
    E(read(fd, &count, 8));

    fd = MUST(timerfd_create(CLOCK_REALTIME, 0));
    long long deadline = now_ns(CLOCK_REALTIME) + 10 * MS;
    spec.it_value = (struct timespec){deadline / 1000000000, deadline % 1000000000};
    E(timerfd_settime(fd, TFD_TIMER_ABSTIME, &spec, NULL));
    V(read(fd, &count, 8));
    IS(now_ns(CLOCK_REALTIME) >= deadline);
    spec.it_value = (struct timespec){1, 0};
    E(timerfd_settime(fd, TFD_TIMER_ABSTIME, &spec, NULL));
    V(read(fd, &count, 8));
    E(timerfd_create(99, 0));
    E(timerfd_create(CLOCK_MONOTONIC, 1));
    spec.it_value = (struct timespec){0, 1000000000};
    E(timerfd_settime(fd, 0, &spec, NULL));
    E(timerfd_settime(0, 0, &spec, NULL));
    E(timerfd_settime(fd, 0x100, &spec, NULL));
    E(read(fd, &count, 4));
    return 0;
}
