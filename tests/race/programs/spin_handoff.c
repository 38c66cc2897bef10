/* A value handed over by a flag that the other spins on: the flag is raised first.
 *
 * fails: assert
 * threads: 2
 * preemptions: 1
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

static long parcel;
static atomic_bool flag;

static void *gives(void *arg) {
#ifdef FIXED
    parcel = 7;
    atomic_store_explicit(&flag, true, memory_order_release);
#else
    atomic_store_explicit(&flag, true, memory_order_release);
    parcel = 7;
#endif
    return arg;
}

static void *takes(void *arg) {
    while (!atomic_load_explicit(&flag, memory_order_acquire))
        ;
    assert(parcel == 7);
    return arg;
}

int main(void) {
    pthread_t threads[2];
    pthread_create(&threads[0], NULL, takes, NULL);
    pthread_create(&threads[1], NULL, gives, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    printf("handed over\n");
    return 0;
}
