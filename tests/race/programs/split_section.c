/* Every access is under the lock, but what belongs together is under it twice.
 *
 * fails: status
 * threads: 2
 * preemptions: 1
 * notes: no data race: only the order of the critical sections shows it
 */
#include <pthread.h>
#include <stdio.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long stock = 10;

static void *sells(void *arg) {
    long amount = (long)arg;
    pthread_mutex_lock(&mutex);
    long left = stock - amount;
#ifndef FIXED
    pthread_mutex_unlock(&mutex);
    pthread_mutex_lock(&mutex);
#endif
    stock = left;
    pthread_mutex_unlock(&mutex);
    return NULL;
}

int main(void) {
    pthread_t threads[2];
    for (long i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, sells, (void *)(i + 2));
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    printf("%ld in stock\n", stock);
    return stock != 5;
}
