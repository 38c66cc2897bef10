/* A bounded buffer with spare slots for latecomers: one more than they are needs three preemptions.
 *
 * fails: assert
 * threads: 4
 * preemptions: 3
 * notes: the fourth of four that all found it empty has no slot left
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

#define PRODUCERS 4
#define LIMIT 1
#define SPARE 2

static long slots[LIMIT + SPARE];
static atomic_int used;

static bool put(long item) {
    int slot = atomic_load(&used);
#ifdef FIXED
    do
        if (slot >= LIMIT)
            return false;
    while (!atomic_compare_exchange_strong(&used, &slot, slot + 1));
#else
    if (slot >= LIMIT)
        return false;
    slot = atomic_fetch_add(&used, 1);
#endif
    assert(slot < LIMIT + SPARE);
    slots[slot] = item;
    return true;
}

static void *producer(void *arg) {
    return (void *)(long)put((long)arg);
}

int main(void) {
    pthread_t threads[PRODUCERS];
    long accepted = 0, found = 0;
    for (long i = 0; i < PRODUCERS; i++)
        pthread_create(&threads[i], NULL, producer, (void *)(i + 1));
    for (int i = 0; i < PRODUCERS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        accepted += (long)result;
    }
    for (int i = 0; i < LIMIT + SPARE; i++)
        found += slots[i] != 0;
    assert(found == accepted);
    printf("no item is lost\n");
    return 0;
}
