/* An MCS lock that says "I wait" only after its predecessor can see it: the hand-over is lost.
 *
 * fails: livelock
 * threads: 2
 * preemptions: 2
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

struct waiter {
    struct waiter *_Atomic next;
    atomic_bool waits;
};

static struct waiter *_Atomic tail;
static long total;

static void lock(struct waiter *me) {
    atomic_store_explicit(&me->next, NULL, memory_order_relaxed);
#ifdef FIXED
    atomic_store_explicit(&me->waits, true, memory_order_relaxed);
#endif
    struct waiter *before = atomic_exchange(&tail, me);
    if (!before)
        return;
    atomic_store_explicit(&before->next, me, memory_order_release);
#ifndef FIXED
    atomic_store_explicit(&me->waits, true, memory_order_relaxed);
#endif
    while (atomic_load_explicit(&me->waits, memory_order_acquire))
        __builtin_ia32_pause();
}

static void unlock(struct waiter *me) {
    struct waiter *last = me, *after = atomic_load_explicit(&me->next, memory_order_acquire);
    if (!after && atomic_compare_exchange_strong(&tail, &last, NULL))
        return;
    while (!after)
        after = atomic_load_explicit(&me->next, memory_order_acquire);
    atomic_store_explicit(&after->waits, false, memory_order_release);
}

static void *count(void *arg) {
    lock(arg);
    total++;
    unlock(arg);
    return NULL;
}

int main(void) {
    static struct waiter waiters[2];
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, count, &waiters[i]);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert(total == 2);
    printf("total %ld\n", total);
    return 0;
}
