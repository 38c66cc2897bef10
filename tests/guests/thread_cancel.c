/* Cancellation: at a sleep, at a wait, asynchronously, disabled; cleanup handlers in order.
 */
#include "guest.h"
#include <semaphore.h>

static sem_t ready;
static int p[2];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

static void cleanup(void *text) {
    printf("  cleanup %s\n", (char *)text);
}

static void unlock(void *m) {
    printf("  holds the mutex %d\n", pthread_mutex_trylock(m) == EBUSY);
    pthread_mutex_unlock(m);
}

static void *in_sleep(void *arg) {
    pthread_cleanup_push(cleanup, "outer");
    pthread_cleanup_push(cleanup, "inner");
    sem_post(&ready);
    for (;;)
        sleep(1000);
    pthread_cleanup_pop(0);
    pthread_cleanup_pop(0);
    return arg;
}

static void *in_read(void *arg) {
    char byte;
    sem_post(&ready);
    (void)!read(p[0], &byte, 1);
    return arg;
}

static void *in_condition(void *arg) {
    pthread_mutex_lock(&mutex);
    pthread_cleanup_push(unlock, &mutex);
    sem_post(&ready);
    for (;;)
        pthread_cond_wait(&cond, &mutex);
    pthread_cleanup_pop(0);
    return arg;
}

static void *in_loop(void *arg) {
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    sem_post(&ready);
    for (;;)
        ;
    return arg;
}

static void *disabled(void *arg) {
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    sem_post(&ready);
    sem_wait((sem_t *)arg);
    printf("  still there\n");
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    pthread_testcancel();
    return NULL;
}

static void cancel(const char *what, void *(*f)(void *), void *arg) {
    pthread_t t;
    void *result;
    printf("%s\n", what);
    pthread_create(&t, NULL, f, arg);
    sem_wait(&ready);
    pthread_cancel(t);
    if (arg)
        sem_post(arg);
    pthread_join(t, &result);
    printf("  cancelled %d\n", result == PTHREAD_CANCELED);
}

int main(void) {
    sem_t go;
    sem_init(&ready, 0, 0);
    sem_init(&go, 0, 0);
    MUST(pipe(p));
    cancel("in sleep", in_sleep, NULL);
    cancel("in read", in_read, NULL);
    cancel("in a condition", in_condition, NULL);
    cancel("in a loop", in_loop, NULL);
    cancel("disabled", disabled, &go);
    return 0;
}
