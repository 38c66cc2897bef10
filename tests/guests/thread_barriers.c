/* Barriers, read-write locks, semaphores, once, spin locks.
 * traps: many
 */
#include "guest.h"
#include <semaphore.h>

static pthread_barrier_t barrier;
static int step[8], serial, disorder;

static void *steps(void *arg) {
    int me = (int)(long)arg;
    for (int i = 1; i <= 50; i++) {
        __atomic_store_n(&step[me], i, __ATOMIC_SEQ_CST);
        if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
            __sync_fetch_and_add(&serial, 1);
        for (int j = 0; j < 8; j++)
            if (__atomic_load_n(&step[j], __ATOMIC_SEQ_CST) < i)
                __sync_fetch_and_add(&disorder, 1);
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static int a, b, torn;

static void *reads(void *arg) {
    for (int i = 0; i < 1000; i++) {
        pthread_rwlock_rdlock(&rwlock);
        if (a != b)
            __sync_fetch_and_add(&torn, 1);
        pthread_rwlock_unlock(&rwlock);
    }
    return arg;
}

static void *writes(void *arg) {
    for (int i = 0; i < 1000; i++) {
        pthread_rwlock_wrlock(&rwlock);
        a++;
        sched_yield();
        b++;
        pthread_rwlock_unlock(&rwlock);
    }
    return arg;
}

static sem_t ping, pong;
static int rallies;

static void *ponger(void *arg) {
    for (int i = 0; i < 1000; i++) {
        sem_wait(&ping);
        rallies++;
        sem_post(&pong);
    }
    return arg;
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int initialised;
static void initialise(void) {
    initialised++;
}
static pthread_spinlock_t spin;
static long spun;

static void *spins(void *arg) {
    pthread_once(&once, initialise);
    for (int i = 0; i < 1000; i++) {
        pthread_spin_lock(&spin);
        spun++;
        pthread_spin_unlock(&spin);
    }
    return arg;
}

int main(void) {
    pthread_t t[8];
    pthread_barrier_init(&barrier, NULL, 8);
    for (long i = 0; i < 8; i++)
        pthread_create(&t[i], NULL, steps, (void *)i);
    for (int i = 0; i < 8; i++)
        pthread_join(t[i], NULL);
    printf("barrier: serial %d disorder %d\n", serial, disorder);
    for (int i = 0; i < 6; i++)
        pthread_create(&t[i], NULL, i < 2 ? writes : reads, NULL);
    for (int i = 0; i < 6; i++)
        pthread_join(t[i], NULL);
    printf("rwlock: %d %d torn %d\n", a, b, torn);
    sem_init(&ping, 0, 0);
    sem_init(&pong, 0, 0);
    pthread_create(&t[0], NULL, ponger, NULL);
    for (int i = 0; i < 1000; i++) {
        sem_post(&ping);
        sem_wait(&pong);
    }
    pthread_join(t[0], NULL);
    E(sem_trywait(&pong));
    struct timespec past = {1, 0};
    E(sem_timedwait(&pong, &past));
    printf("semaphores: rallies %d\n", rallies);
    pthread_spin_init(&spin, 0);
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, spins, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    printf("spin lock: %ld, once: %d\n", spun, initialised);
    return 0;
}
