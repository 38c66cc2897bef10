/* A ring buffer whose consumer gives the slot back before it has read it.
 *
 * fails: assert
 * threads: 2
 * preemptions: 1
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#define SLOTS 2
#define ITEMS 4

static long slots[SLOTS];
static atomic_uint head, tail; // items taken, items put

static void *producer(void *arg) {
    for (unsigned i = 0; i < ITEMS; i++) {
        while (i - atomic_load_explicit(&head, memory_order_acquire) == SLOTS)
            ;
        slots[i % SLOTS] = 10 + i;
        atomic_store_explicit(&tail, i + 1, memory_order_release);
    }
    return arg;
}

static void *consumer(void *arg) {
    for (unsigned i = 0; i < ITEMS; i++) {
        while (atomic_load_explicit(&tail, memory_order_acquire) == i)
            ;
#ifdef FIXED
        long item = slots[i % SLOTS];
        atomic_store_explicit(&head, i + 1, memory_order_release);
#else
        atomic_store_explicit(&head, i + 1, memory_order_release);
        long item = slots[i % SLOTS];
#endif
        assert(item == 10 + i);
    }
    return arg;
}

int main(void) {
    pthread_t threads[2];
    pthread_create(&threads[0], NULL, producer, NULL);
    pthread_create(&threads[1], NULL, consumer, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    printf("%d items\n", ITEMS);
    return 0;
}
