/* timer_create: by signal with a value, to a thread, without a signal; overruns, absolute times.
 */
#include "guest.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static void take(int sig, const char *what) {
    sigset_t set = set_of(sig);
    siginfo_t info = {0};
    int got = sigtimedwait(&set, &info, &(struct timespec){20, 0});
    printf("%s: %d code %d value %d\n", what, got == sig, info.si_code, info.si_value.sival_int);
}

int main(void) {
    sigset_t set = set_of(SIGUSR1);
    sigaddset(&set, SIGALRM);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    event.sigev_value.sival_int = 31;
    timer_t timer, second;
    E(timer_create(CLOCK_MONOTONIC, &event, &timer));
    struct itimerspec spec = {{0, 0}, {0, 10 * MS}}, old;
    E(timer_settime(timer, 0, &spec, NULL));
    take(SIGUSR1, "once");
    E(timer_gettime(timer, &old));
    printf("left %ld %ld\n", old.it_value.tv_sec, old.it_value.tv_nsec);

    long long deadline = now_ns(CLOCK_MONOTONIC) + 10 * MS;
    spec.it_value = (struct timespec){deadline / 1000000000, deadline % 1000000000};
    E(timer_settime(timer, TIMER_ABSTIME, &spec, NULL));
    take(SIGUSR1, "absolute");
    IS(now_ns(CLOCK_MONOTONIC) >= deadline);
    spec.it_value = (struct timespec){0, 1};
    E(timer_settime(timer, TIMER_ABSTIME, &spec, NULL));
    take(SIGUSR1, "in the past");

    spec = (struct itimerspec){{0, 2 * MS}, {0, 2 * MS}};
    E(timer_settime(timer, 0, &spec, NULL));
    sleep_ms(50);
    take(SIGUSR1, "periodic");
    IS(timer_getoverrun(timer) >= 5);
    spec = (struct itimerspec){{0, 0}, {100, 0}};
    E(timer_settime(timer, 0, &spec, &old));
    IS(old.it_interval.tv_nsec == 2 * MS);
    E(timer_gettime(timer, &old));
    IS(old.it_value.tv_sec >= 98 && old.it_value.tv_sec <= 100);
    E(timer_delete(timer));
    sigtimedwait(&set, NULL, &(struct timespec){0, 0});

    event = (struct sigevent){.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN};
    event.sigev_notify_thread_id = gettid();
    E(timer_create(CLOCK_REALTIME, &event, &timer));
    spec = (struct itimerspec){{0, 0}, {0, 5 * MS}};
    E(timer_settime(timer, 0, &spec, NULL));
    take(SIGRTMIN, "to a thread");
    E(timer_delete(timer));

    event = (struct sigevent){.sigev_notify = SIGEV_NONE};
    E(timer_create(CLOCK_MONOTONIC, &event, &timer));
    E(timer_settime(timer, 0, &spec, NULL));
    sleep_ms(10);
    E(timer_gettime(timer, &old));
    printf("left %ld %ld\n", old.it_value.tv_sec, old.it_value.tv_nsec);
    E(timer_create(CLOCK_MONOTONIC, NULL, &second)); /* SIGALRM with its id */
    E(timer_settime(second, 0, &spec, NULL));
    sigset_t alrm = set_of(SIGALRM);
    V(sigtimedwait(&alrm, NULL, &(struct timespec){20, 0}) == SIGALRM);

    spec.it_value.tv_nsec = 1000000000;
    E(timer_settime(second, 0, &spec, NULL));
    E(timer_create(99, NULL, &timer));
    event = (struct sigevent){.sigev_notify = 77};
    E(timer_create(CLOCK_MONOTONIC, &event, &timer));
    event = (struct sigevent){.sigev_notify = SIGEV_SIGNAL, .sigev_signo = 99};
    E(timer_create(CLOCK_MONOTONIC, &event, &timer));
    E(syscall(SYS_timer_delete, 999));
    E(syscall(SYS_timer_gettime, 999, &old));
    return 0;
}
