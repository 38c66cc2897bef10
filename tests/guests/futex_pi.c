/* Priority-inheritance mutexes: locked, contended, timed, deadlock, owner's death.
 * traps: many
 */
#include "guest.h"

static pthread_mutex_t mutex;
static long counter;

static void *counts(void *arg) {
    for (int i = 0; i < 500; i++) {
        pthread_mutex_lock(&mutex);
        counter++;
        if (i % 50 == 0)
            sched_yield();
        pthread_mutex_unlock(&mutex);
    }
    return arg;
}

static void *dies(void *arg) {
    pthread_mutex_lock(&mutex);
    return arg;
}

int main(void) {
    pthread_t t[4];
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&mutex, &attr);
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, counts, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    printf("counter %ld\n", counter);
    pthread_mutex_lock(&mutex);
    printf("lock again: %s\n", errno_name(pthread_mutex_lock(&mutex)));
    pthread_mutex_unlock(&mutex);
    pthread_create(&t[0], NULL, dies, NULL);
    pthread_join(t[0], NULL);
    printf("owner died: %s\n", errno_name(pthread_mutex_lock(&mutex)));
    pthread_mutex_consistent(&mutex);
    pthread_mutex_unlock(&mutex);
    return 0;
}
