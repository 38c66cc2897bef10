/* setitimer and alarm: real time, what is left, intervals, errors; alarms end with exec's caller.
 */
#include "guest.h"

static volatile sig_atomic_t ticks;

static void tick(int sig) {
    (void)sig;
    ticks++;
}

int main(void) {
    struct itimerval timer = {{0, 0}, {0, 30000}}, old = {{1, 1}, {1, 1}};
    sigset_t alrm = set_of(SIGALRM), none;
    sigemptyset(&none);
    handle(SIGALRM, tick, 0);
    sigprocmask(SIG_BLOCK, &alrm, NULL);
    long long before = now_ns(CLOCK_MONOTONIC);
    E(setitimer(ITIMER_REAL, &timer, &old));
    printf("old %ld %ld %ld %ld\n", old.it_interval.tv_sec, (long)old.it_interval.tv_usec,
           old.it_value.tv_sec, (long)old.it_value.tv_usec);
    sigsuspend(&none);
    IS(now_ns(CLOCK_MONOTONIC) - before >= 30 * MS);
    IS(now_ns(CLOCK_MONOTONIC) - before < 20000 * MS);
    getitimer(ITIMER_REAL, &old);
    printf("afterwards %ld %ld\n", old.it_value.tv_sec, (long)old.it_value.tv_usec);

    timer = (struct itimerval){{0, 5000}, {0, 5000}};
    setitimer(ITIMER_REAL, &timer, NULL);
    while (ticks < 6)
        sigsuspend(&none);
    getitimer(ITIMER_REAL, &old);
    IS(old.it_interval.tv_usec == 5000 && old.it_value.tv_usec <= 5000);
    timer = (struct itimerval){{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &timer, NULL);
    ticks = 0;
    sigtimedwait(&alrm, NULL, &(struct timespec){0, 0});
    sleep_ms(20);
    IS(sigtimedwait(&alrm, NULL, &(struct timespec){0, 0}) == -1);

    V(alarm(100));
    long left = alarm(50);
    IS(left == 100 || left == 99);
    getitimer(ITIMER_REAL, &old);
    IS(old.it_value.tv_sec >= 48 && old.it_value.tv_sec <= 50);
    left = alarm(0);
    IS(left >= 48 && left <= 50);
    V(alarm(0));

    /* A child has no alarm of its parent's. */
    alarm(100);
    IN_CHILD("child", V(alarm(0)));
    alarm(0);
    IN_CHILD("default", signal(SIGALRM, SIG_DFL); sigprocmask(SIG_UNBLOCK, &alrm, NULL);
             struct itimerval soon = {{0, 0}, {0, 1000}}; setitimer(ITIMER_REAL, &soon, NULL);
             for (;;) pause());
    timer.it_value.tv_usec = 1000000;
    E(setitimer(ITIMER_REAL, &timer, NULL));
    timer.it_value.tv_usec = -1;
    E(setitimer(ITIMER_REAL, &timer, NULL));
    E(setitimer(7, &timer, NULL));
    E(getitimer(7, &old));
    E(getitimer(ITIMER_REAL, (struct itimerval *)1));
    E(setitimer(ITIMER_REAL, (struct itimerval *)1, NULL));
    return 0;
}
