/* Lost wake-up: the condition changes, without the mutex, after the look and before the wait.
 *
 * fails: deadlock
 * threads: 2
 * preemptions: 1
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

static atomic_bool ready;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static void *waits(void *arg) {
    pthread_mutex_lock(&mutex);
    while (!atomic_load(&ready))
        pthread_cond_wait(&changed, &mutex);
    pthread_mutex_unlock(&mutex);
    return arg;
}

static void *wakes(void *arg) {
#ifdef FIXED
    pthread_mutex_lock(&mutex);
    atomic_store(&ready, true);
    pthread_mutex_unlock(&mutex);
#else
    atomic_store(&ready, true);
#endif
    pthread_cond_signal(&changed);
    return arg;
}

int main(void) {
    pthread_t waiter, waker;
    pthread_create(&waiter, NULL, waits, NULL);
    pthread_create(&waker, NULL, wakes, NULL);
    pthread_join(waiter, NULL);
    pthread_join(waker, NULL);
    printf("woken\n");
    return 0;
}
