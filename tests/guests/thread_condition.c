/* Condition variables: producers and consumers, broadcast, timeouts by both clocks.
 * traps: many
 */
#include "guest.h"

#define ITEMS 2000
#define SLOTS 8

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t not_empty = PTHREAD_COND_INITIALIZER, not_full = PTHREAD_COND_INITIALIZER;
static int slots[SLOTS], head, count, produced;
static long consumed_sum, consumed;

static void *producer(void *arg) {
    (void)arg;
    for (;;) {
        pthread_mutex_lock(&mutex);
        while (count == SLOTS && produced < ITEMS)
            pthread_cond_wait(&not_full, &mutex);
        if (produced == ITEMS) {
            pthread_cond_broadcast(&not_full);
            pthread_cond_broadcast(&not_empty);
            pthread_mutex_unlock(&mutex);
            return NULL;
        }
        slots[(head + count++) % SLOTS] = ++produced;
        pthread_cond_signal(&not_empty);
        pthread_mutex_unlock(&mutex);
    }
}

static void *consumer(void *arg) {
    (void)arg;
    for (;;) {
        pthread_mutex_lock(&mutex);
        while (count == 0 && consumed + count < ITEMS)
            pthread_cond_wait(&not_empty, &mutex);
        if (count == 0) {
            pthread_mutex_unlock(&mutex);
            return NULL;
        }
        consumed_sum += slots[head];
        head = (head + 1) % SLOTS;
        count--;
        if (++consumed == ITEMS)
            pthread_cond_broadcast(&not_empty);
        pthread_cond_signal(&not_full);
        pthread_mutex_unlock(&mutex);
    }
}

static pthread_cond_t gate = PTHREAD_COND_INITIALIZER;
static int waiting, open_gate, passed;

static void *waits(void *arg) {
    pthread_mutex_lock(&mutex);
    waiting++;
    while (!open_gate)
        pthread_cond_wait(&gate, &mutex);
    passed++;
    pthread_mutex_unlock(&mutex);
    return arg;
}

int main(void) {
    pthread_t t[12];
    for (int i = 0; i < 6; i++)
        pthread_create(&t[i], NULL, i % 2 ? producer : consumer, NULL);
    for (int i = 0; i < 6; i++)
        pthread_join(t[i], NULL);
    printf("consumed %ld sum %ld\n", consumed, consumed_sum);

    for (int i = 0; i < 12; i++)
        pthread_create(&t[i], NULL, waits, NULL);
    for (int all = 0; !all;) {
        pthread_mutex_lock(&mutex);
        all = waiting == 12;
        pthread_mutex_unlock(&mutex);
        sched_yield();
    }
    pthread_mutex_lock(&mutex);
    open_gate = 1;
    pthread_cond_broadcast(&gate);
    pthread_mutex_unlock(&mutex);
    for (int i = 0; i < 12; i++)
        pthread_join(t[i], NULL);
    printf("passed %d\n", passed);

    for (int i = 0; i < 2; i++) {
        clockid_t clock = i ? CLOCK_MONOTONIC : CLOCK_REALTIME;
        pthread_condattr_t attr;
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, clock);
        pthread_cond_t cond;
        pthread_cond_init(&cond, &attr);
        long long deadline = now_ns(clock) + 10 * MS;
        struct timespec t = {deadline / 1000000000, deadline % 1000000000};
        pthread_mutex_lock(&mutex);
        int error;
        do
            error = pthread_cond_timedwait(&cond, &mutex, &t);
        while (error == 0);
        pthread_mutex_unlock(&mutex);
        printf("timedwait %s, not before its time %d\n", errno_name(error),
               now_ns(clock) >= deadline);
    }
    return 0;
}
