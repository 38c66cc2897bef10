/* Threads that spin, and threads that hang.
 *
 * args: flag    one waits for a word that the other writes once, touched by nobody before
 *       page    the same, the word being the only one that the other ever touches
 *       pingpong  two wait for one another for ever, and change memory all the while
 *       compute one computes for ever and touches no memory
 *       sleeper one waits for a word that another writes after an hour's sleep
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static volatile int flag __attribute__((aligned(4096)));
static volatile long ping __attribute__((aligned(4096))), pong;
static volatile int *mapped;

static void *waits(void *arg) {
    (void)arg;
    while (!*mapped)
        ;
    return 0;
}

static void *sleeps(void *arg) {
    (void)arg;
    struct timespec hour = {.tv_sec = 3600};
    nanosleep(&hour, 0);
    *mapped = 1;
    return 0;
}

static void *plays(void *arg) {
    volatile long *mine = arg, *theirs = mine == &ping ? &pong : &ping;
    for (;;) {
        ++*mine;
        while (*theirs < *mine)
            ;
    }
    return 0;
}

static void *computes(void *arg) {
    (void)arg;
    for (;;)
        __asm__ volatile("");
    return 0;
}

int main(int argc, char **argv) {
    pthread_t one, other;
    const char *what = argc > 1 ? argv[1] : "flag";
    mapped = &flag;
    if (!strcmp(what, "page"))
        mapped = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!strcmp(what, "pingpong")) {
        pthread_create(&one, 0, plays, (void *)&ping);
        pthread_create(&other, 0, plays, (void *)&pong);
    } else if (!strcmp(what, "compute")) {
        pthread_create(&one, 0, computes, 0);
        pthread_create(&other, 0, computes, 0);
    } else {
        pthread_create(&one, 0, waits, 0);
        if (!strcmp(what, "sleeper"))
            pthread_create(&other, 0, sleeps, 0);
        else
            *mapped = 1;
    }
    pthread_join(one, 0);
    puts("woken");
    return 0;
}
