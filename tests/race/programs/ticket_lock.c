/* A ticket lock whose tickets are taken by a load and a store: two may hold the same.
 *
 * fails: livelock assert
 * threads: 2
 * preemptions: 1
 * notes: livelock if the other is through before the second number is written; two preemptions
 *        let both in at once
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

static atomic_uint next_ticket, now_serving;
static long total;

static void lock(void) {
#ifdef FIXED
    unsigned mine = atomic_fetch_add(&next_ticket, 1);
#else
    unsigned mine = atomic_load(&next_ticket);
    atomic_store(&next_ticket, mine + 1);
#endif
    while (atomic_load_explicit(&now_serving, memory_order_acquire) != mine)
        __builtin_ia32_pause();
}

static void unlock(void) {
    unsigned mine = atomic_load_explicit(&now_serving, memory_order_relaxed);
    atomic_store_explicit(&now_serving, mine + 1, memory_order_release);
}

static void *count(void *arg) {
    lock();
    total++;
    unlock();
    return arg;
}

int main(void) {
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, count, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert(total == 2);
    printf("total %ld\n", total);
    return 0;
}
