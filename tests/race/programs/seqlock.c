/* A seqlock whose reader compares the two numbers but does not mind that they are odd.
 *
 * fails: assert
 * threads: 2
 * preemptions: 1
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

static atomic_uint sequence; // odd: a write is under way
static atomic_long low, high;

static void *writer(void *arg) {
    for (long value = 1; value <= 2; value++) {
        unsigned old = atomic_load_explicit(&sequence, memory_order_relaxed);
        atomic_store_explicit(&sequence, old + 1, memory_order_relaxed);
        atomic_thread_fence(memory_order_release);
        atomic_store_explicit(&low, value, memory_order_relaxed);
        atomic_store_explicit(&high, value, memory_order_relaxed);
        atomic_store_explicit(&sequence, old + 2, memory_order_release);
    }
    return arg;
}

static unsigned begin(void) {
    unsigned now = atomic_load_explicit(&sequence, memory_order_acquire);
#ifdef FIXED
    while (now & 1)
        now = atomic_load_explicit(&sequence, memory_order_acquire);
#endif
    return now;
}

static void *reader(void *arg) {
    unsigned before, after;
    long a, b;
    do {
        before = begin();
        a = atomic_load_explicit(&low, memory_order_relaxed);
        b = atomic_load_explicit(&high, memory_order_relaxed);
        atomic_thread_fence(memory_order_acquire);
        after = atomic_load_explicit(&sequence, memory_order_relaxed);
    } while (before != after);
    assert(a == b);
    return arg;
}

int main(void) {
    pthread_t threads[2];
    pthread_create(&threads[0], NULL, writer, NULL);
    pthread_create(&threads[1], NULL, reader, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    printf("consistent\n");
    return 0;
}
