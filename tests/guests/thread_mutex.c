/* Mutex types: what each answers to a second lock, an unlock by another, trylock and timedlock.
 */
#include "guest.h"

static pthread_mutex_t mutex;

static void *other(void *arg) {
    (void)arg;
    printf("  other: trylock %s", errno_name(pthread_mutex_trylock(&mutex)));
    struct timespec soon;
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_nsec += 5 * MS;
    if (soon.tv_nsec >= 1000000000)
        soon.tv_sec++, soon.tv_nsec -= 1000000000;
    printf(" timedlock %s\n", errno_name(pthread_mutex_timedlock(&mutex, &soon)));
    return NULL;
}

static void *unlocks(void *arg) {
    (void)arg;
    printf("  other: unlock %s\n", errno_name(pthread_mutex_unlock(&mutex)));
    return NULL;
}

static void with(void *(*f)(void *)) {
    pthread_t t;
    pthread_create(&t, NULL, f, NULL);
    pthread_join(t, NULL);
}

static long counter;

static void *counts(void *arg) {
    for (int i = 0; i < 20000; i++) {
        pthread_mutex_lock(&mutex);
        counter++;
        pthread_mutex_unlock(&mutex);
    }
    return arg;
}

int main(void) {
    struct {
        const char *name;
        int type, protocol;
    } kinds[] = {{"normal", PTHREAD_MUTEX_NORMAL, 0},
                 {"recursive", PTHREAD_MUTEX_RECURSIVE, 0},
                 {"errorcheck", PTHREAD_MUTEX_ERRORCHECK, 0},
                 {"adaptive", PTHREAD_MUTEX_ADAPTIVE_NP, 0}};
    for (int i = 0; i < 4; i++) {
        pthread_mutexattr_t attr;
        pthread_mutexattr_init(&attr);
        pthread_mutexattr_settype(&attr, kinds[i].type);
        pthread_mutex_init(&mutex, &attr);
        printf("%s\n", kinds[i].name);
        pthread_mutex_lock(&mutex);
        printf("  trylock %s\n", errno_name(pthread_mutex_trylock(&mutex)));
        if (kinds[i].type == PTHREAD_MUTEX_RECURSIVE)
            pthread_mutex_unlock(&mutex);
        if (kinds[i].type == PTHREAD_MUTEX_ERRORCHECK)
            printf("  lock %s\n", errno_name(pthread_mutex_lock(&mutex)));
        with(other);
        if (kinds[i].type == PTHREAD_MUTEX_ERRORCHECK || kinds[i].type == PTHREAD_MUTEX_RECURSIVE)
            with(unlocks);
        printf("  unlock %s\n", errno_name(pthread_mutex_unlock(&mutex)));
        counter = 0;
        pthread_t t[4];
        for (int j = 0; j < 4; j++)
            pthread_create(&t[j], NULL, counts, NULL);
        for (int j = 0; j < 4; j++)
            pthread_join(t[j], NULL);
        printf("  counter %ld\n", counter);
        pthread_mutex_destroy(&mutex);
    }
    return 0;
}
