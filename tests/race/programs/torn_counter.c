/* A 16-byte counter is changed in two halves: between, it is off by 2^64.
 *
 * fails: assert
 * threads: 2
 * preemptions: 1
 * notes: the carry goes from one instruction to the next in the flags (add, adc)
 */
#include <assert.h>
#include <pthread.h>
#include <stdio.h>

static unsigned __int128 bytes_sent = ~0ULL;

#ifdef FIXED
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
#endif

static void enter(void) {
#ifdef FIXED
    pthread_mutex_lock(&mutex);
#endif
}

static void leave(void) {
#ifdef FIXED
    pthread_mutex_unlock(&mutex);
#endif
}

static void *sends(void *arg) {
    enter();
    bytes_sent++;
    leave();
    return arg;
}

static void *looks(void *arg) {
    enter();
    unsigned __int128 seen = bytes_sent;
    leave();
    assert(seen >= ~0ULL && seen - ~0ULL <= 1);
    return arg;
}

int main(void) {
    pthread_t threads[2];
    pthread_create(&threads[0], NULL, sends, NULL);
    pthread_create(&threads[1], NULL, looks, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    printf("high half %d\n", (int)(bytes_sent >> 64));
    return 0;
}
