/* Lost update: interest is paid on a balance that another thread is changing.
 *
 * fails: assert
 * threads: 2
 * preemptions: 1
 */
#include <assert.h>
#include <pthread.h>
#include <stdio.h>

static long balance = 100;

#ifdef FIXED
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
#endif

static void *pay_interest(void *arg) {
#ifdef FIXED
    pthread_mutex_lock(&mutex);
    balance += balance / 10;
    pthread_mutex_unlock(&mutex);
#else
    balance += balance / 10;
#endif
    return arg;
}

int main(void) {
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, pay_interest, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert(balance == 121);
    printf("balance %ld\n", balance);
    return 0;
}
