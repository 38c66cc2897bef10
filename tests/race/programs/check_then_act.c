/* Check, then act: a slot is seen to be free and then taken, by two.
 *
 * fails: assert
 * threads: 2
 * preemptions: 1
 */
#include <assert.h>
#include <pthread.h>
#include <stdio.h>

#define SLOTS 4

static long owner[SLOTS]; // 0: free

#ifdef FIXED
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
#endif

static long take(long who) {
    for (long i = 0; i < SLOTS; i++)
        if (owner[i] == 0) {
            owner[i] = who;
            return i;
        }
    return -1;
}

static void *customer(void *arg) {
#ifdef FIXED
    pthread_mutex_lock(&mutex);
    long slot = take((long)arg);
    pthread_mutex_unlock(&mutex);
#else
    long slot = take((long)arg);
#endif
    return (void *)slot;
}

int main(void) {
    pthread_t threads[2];
    void *slot[2];
    for (long i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, customer, (void *)(i + 1));
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], &slot[i]);
    assert(slot[0] != slot[1]);
    printf("two slots\n");
    return 0;
}
