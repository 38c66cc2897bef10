/* AB-BA deadlock: two transfers between the same accounts, in opposite directions.
 *
 * fails: deadlock
 * threads: 2
 * preemptions: 1
 */
#include <assert.h>
#include <pthread.h>
#include <stdio.h>

struct account {
    pthread_mutex_t mutex;
    long balance;
};

static struct account accounts[2] = {
    {PTHREAD_MUTEX_INITIALIZER, 100},
    {PTHREAD_MUTEX_INITIALIZER, 100},
};

static void transfer(struct account *from, struct account *to, long amount) {
#ifdef FIXED
    struct account *first = from < to ? from : to, *second = from < to ? to : from;
#else
    struct account *first = from, *second = to;
#endif
    pthread_mutex_lock(&first->mutex);
    pthread_mutex_lock(&second->mutex);
    from->balance -= amount;
    to->balance += amount;
    pthread_mutex_unlock(&second->mutex);
    pthread_mutex_unlock(&first->mutex);
}

static void *forth(void *arg) {
    transfer(&accounts[0], &accounts[1], 30);
    return arg;
}

static void *back(void *arg) {
    transfer(&accounts[1], &accounts[0], 10);
    return arg;
}

int main(void) {
    pthread_t threads[2];
    pthread_create(&threads[0], NULL, forth, NULL);
    pthread_create(&threads[1], NULL, back, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert(accounts[0].balance == 80 && accounts[1].balance == 120);
    printf("transferred\n");
    return 0;
}
