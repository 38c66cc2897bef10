/* Twenty threads, each with a counter of its own, but for two that were given the same.
 *
 * fails: assert
 * threads: 20
 * preemptions: 1
 */
#include <assert.h>
#include <pthread.h>
#include <stdio.h>

#define THREADS 20

#ifdef FIXED
#define COUNTERS 20
#else
#define COUNTERS 19
#endif

static long counters[COUNTERS];

static void *count(void *arg) {
    counters[(long)arg % COUNTERS]++;
    return NULL;
}

int main(void) {
    pthread_t threads[THREADS];
    long total = 0;
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, count, (void *)i);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < COUNTERS; i++)
        total += counters[i];
    assert(total == THREADS);
    printf("total %ld\n", total);
    return 0;
}
