/* Clocks and sleeps: they go forward, agree with each other, sleep long enough; what is refused.
 */
#include "guest.h"
#include <sys/times.h>

int main(void) {
    struct timespec t;
    struct timeval tv;
    clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC,       CLOCK_MONOTONIC_RAW,
                          CLOCK_BOOTTIME, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE};
    for (int i = 0; i < 6; i++) {
        long long before = now_ns(clocks[i]), back = 0;
        for (int j = 0; j < 200; j++) {
            long long now = now_ns(clocks[i]);
            back += now < before;
            before = now;
        }
        printf("clock %d went back %lld times\n", i, back);
    }
    E(clock_getres(CLOCK_MONOTONIC, &t));
    printf("resolution %ld %d\n", t.tv_sec, t.tv_nsec > 0);
    E(clock_getres(CLOCK_MONOTONIC, NULL));
    E(clock_gettime(99, &t));
    E(clock_getres(99, &t));
    E(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, (void *)1));
    E(clock_settime(CLOCK_MONOTONIC, &t));
    long long real = now_ns(CLOCK_REALTIME);
    gettimeofday(&tv, NULL);
    IS(tv.tv_sec - real / 1000000000 <= 20 && tv.tv_sec >= real / 1000000000);
    time_t seconds = time(NULL); /* as of the host's last tick */
    IS(seconds - tv.tv_sec <= 20 && seconds >= tv.tv_sec - 1);
    IS(seconds > 1600000000);
    E(syscall(SYS_gettimeofday, (void *)1, NULL));
    E(syscall(SYS_time, (void *)1));

    long long before = now_ns(CLOCK_MONOTONIC);
    t = (struct timespec){0, 20 * MS};
    E(nanosleep(&t, NULL));
    IS(now_ns(CLOCK_MONOTONIC) - before >= 20 * MS);
    IS(now_ns(CLOCK_MONOTONIC) - before < 30000 * MS);
    before = now_ns(CLOCK_MONOTONIC) + 15 * MS;
    t = (struct timespec){before / 1000000000, before % 1000000000};
    V(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL));
    IS(now_ns(CLOCK_MONOTONIC) >= before);
    before = now_ns(CLOCK_MONOTONIC);
    V(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL)); /* already past */
    IS(now_ns(CLOCK_MONOTONIC) - before < 10000 * MS);
    V(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &(struct timespec){5, 0}, NULL));
    t = (struct timespec){0, 1000000000};
    E(nanosleep(&t, NULL));
    t = (struct timespec){-1, 0};
    E(nanosleep(&t, NULL));
    E(syscall(SYS_nanosleep, (void *)1, NULL));
    t = (struct timespec){0, 0};
    E(nanosleep(&t, NULL));
    printf("%s\n", errno_name(clock_nanosleep(99, 0, &t, NULL)));
    printf("%s\n", errno_name(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &t, NULL)));
    IS(now_ns(CLOCK_PROCESS_CPUTIME_ID) > 0);
    IS(now_ns(CLOCK_THREAD_CPUTIME_ID) > 0);
    struct tms tms;
    IS(times(&tms) > 0);
    clockid_t cpu;
    IS(clock_getcpuclockid(0, &cpu) == 0 && now_ns(cpu) > 0);
    IN_CHILD("sleeps in a child", before = now_ns(CLOCK_MONOTONIC); sleep_ms(10);
             IS(now_ns(CLOCK_MONOTONIC) - before >= 10 * MS));
    return 0;
}
