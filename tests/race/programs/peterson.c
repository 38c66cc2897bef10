/* Peterson's algorithm with its first two steps exchanged.
 *
 * fails: assert
 * threads: 2
 * preemptions: 2
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

static atomic_bool wants[2];
static atomic_long turn;
static long total;

static void *count(void *arg) {
    long me = (long)arg, other = 1 - me;
#ifdef FIXED
    atomic_store(&wants[me], true);
    atomic_store(&turn, other);
#else
    atomic_store(&turn, other);
    atomic_store(&wants[me], true);
#endif
    while (atomic_load(&wants[other]) && atomic_load(&turn) == other)
        ;
    total++;
    atomic_store(&wants[me], false);
    return NULL;
}

int main(void) {
    pthread_t threads[2];
    for (long i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, count, (void *)i);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert(total == 2);
    printf("total %ld\n", total);
    return 0;
}
