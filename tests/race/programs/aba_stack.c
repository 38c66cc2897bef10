/* ABA: a lock-free stack whose top is the same node again, over another one than before.
 *
 * fails: assert
 * threads: 2
 * preemptions: 1
 * notes: the right one counts the changes in the upper half of the word that is compared
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

#define NODES 3

static _Atomic unsigned long top;             // low half: a node, or 0
static _Atomic unsigned long next[NODES + 1]; // of each node, from 1
static unsigned long held[2];

static unsigned long tag_after(unsigned long old) {
#ifdef FIXED
    return ((old >> 32) + 1) << 32;
#else
    (void)old;
    return 0;
#endif
}

static unsigned long pop(void) {
    unsigned long old = atomic_load(&top), new;
    do
        new = tag_after(old) | atomic_load(&next[(unsigned)old]);
    while (!atomic_compare_exchange_strong(&top, &old, new));
    return (unsigned)old;
}

static void push(unsigned long node) {
    unsigned long old = atomic_load(&top);
    do
        atomic_store(&next[node], (unsigned)old);
    while (!atomic_compare_exchange_strong(&top, &old, tag_after(old) | node));
}

static void *takes_one(void *arg) {
    held[0] = pop();
    return arg;
}

static void *takes_two_and_returns_the_first(void *arg) {
    unsigned long first = pop();
    held[1] = pop();
    push(first);
    return arg;
}

int main(void) {
    pthread_t threads[2];
    bool seen[NODES + 1] = {false};
    for (int i = NODES; i > 0; i--)
        push(i);
    pthread_create(&threads[0], NULL, takes_one, NULL);
    pthread_create(&threads[1], NULL, takes_two_and_returns_the_first, NULL);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        seen[held[i]] = true;
    }
    for (unsigned node = atomic_load(&top); node; node = atomic_load(&next[node])) {
        assert(!seen[node]);
        seen[node] = true;
    }
    assert(seen[1] && seen[2] && seen[3]);
    printf("every node once\n");
    return 0;
}
