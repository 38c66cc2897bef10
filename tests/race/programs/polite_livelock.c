/* Two threads that each give the other precedence, again and again, and neither gets through.
 *
 * fails: livelock
 * threads: 2
 * preemptions: 1
 * notes: each spins until the other no longer wants; both want for ever
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

static atomic_bool wants[2];
static long total;

static void *count(void *arg) {
    long me = (long)arg, other = 1 - me;
    atomic_store(&wants[me], true);
#ifdef FIXED
    // Only one of the two gives way.
    while (atomic_load(&wants[other]))
        if (me == 1) {
            atomic_store(&wants[me], false);
            while (atomic_load(&wants[other]))
                ;
            atomic_store(&wants[me], true);
        }
#else
    while (atomic_load(&wants[other]))
        ;
#endif
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
    printf("total %ld\n", total);
    return total != 2;
}
