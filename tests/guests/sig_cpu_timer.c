/* Timers on processor time interrupt a program that never calls the kernel.
 * needs: realtime
 */
#include "guest.h"

static volatile sig_atomic_t virtual_ticks, profile_ticks, real_ticks, xcpu;

static void tick(int sig) {
    if (sig == SIGVTALRM)
        virtual_ticks++;
    else if (sig == SIGPROF)
        profile_ticks++;
    else if (sig == SIGXCPU)
        xcpu++;
    else
        real_ticks++;
}

static void arm(int which, long us) {
    struct itimerval timer = {{0, us}, {0, us}};
    MUST(setitimer(which, &timer, NULL));
}

int main(void) {
    handle(SIGVTALRM, tick, 0);
    handle(SIGPROF, tick, 0);
    handle(SIGALRM, tick, 0);
    arm(ITIMER_VIRTUAL, 10000);
    while (virtual_ticks < 3)
        ;
    arm(ITIMER_VIRTUAL, 0);
    printf("virtual timer ticked\n");
    arm(ITIMER_PROF, 10000);
    while (profile_ticks < 3)
        ;
    arm(ITIMER_PROF, 0);
    printf("profiling timer ticked\n");
    arm(ITIMER_REAL, 10000);
    while (real_ticks < 3)
        ;
    arm(ITIMER_REAL, 0);
    printf("real timer ticked\n");

    /* Asleep, no processor time passes. */
    virtual_ticks = 0;
    arm(ITIMER_VIRTUAL, 30000);
    sleep_ms(60);
    arm(ITIMER_VIRTUAL, 0);
    IS(virtual_ticks == 0);

    struct rlimit limit = {1, 2};
    IN_CHILD("RLIMIT_CPU", setrlimit(RLIMIT_CPU, &limit); for (;;));
    IN_CHILD("RLIMIT_CPU caught", handle(SIGXCPU, tick, 0); setrlimit(RLIMIT_CPU, &limit);
             while (!xcpu); printf("caught\n"); for (;;));
    return 0;
}
