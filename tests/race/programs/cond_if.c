/* A consumer that waits with `if`: what it was woken for is gone when it gets the mutex back.
 *
 * fails: assert
 * threads: 3
 * preemptions: 1
 */
#include <assert.h>
#include <pthread.h>
#include <stdio.h>

#define ITEMS 2

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t filled = PTHREAD_COND_INITIALIZER;
static int count;

static void *producer(void *arg) {
    for (int i = 0; i < ITEMS; i++) {
        pthread_mutex_lock(&mutex);
        count++;
        pthread_cond_signal(&filled);
        pthread_mutex_unlock(&mutex);
    }
    return arg;
}

static void *consumer(void *arg) {
    pthread_mutex_lock(&mutex);
#ifdef FIXED
    while (count == 0)
#else
    if (count == 0)
#endif
        pthread_cond_wait(&filled, &mutex);
    assert(count > 0);
    count--;
    pthread_mutex_unlock(&mutex);
    return arg;
}

int main(void) {
    void *(*const bodies[])(void *) = {consumer, producer, consumer};
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, bodies[i], NULL);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    printf("%d left\n", count);
    return 0;
}
