/* Lost update within one instruction: counter++ is one `add` to memory from -O1 on.
 *
 * fails: assert
 * threads: 2
 * preemptions: 1
 * notes: at -O0 it is a load, an addition and a store
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#ifdef FIXED
static atomic_long counter;
#else
static long counter;
#endif

static void *count(void *arg) {
    counter++;
    return arg;
}

int main(void) {
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, count, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert(counter == 2);
    printf("counter %ld\n", counter);
    return 0;
}
