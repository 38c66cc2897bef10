/* Readers-writer starvation: readers overtake a waiting writer, more often than it was promised.
 *
 * fails: assert
 * threads: 3
 * preemptions: 1
 * notes: the writer counts the readers that came after it and went in before it
 */
#include <assert.h>
#include <pthread.h>
#include <stdio.h>

#define ROUNDS 3
#define PATIENCE 2

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int reading, writers_waiting, overtakers;

static void read_lock(void) {
    pthread_mutex_lock(&mutex);
#ifdef FIXED
    while (writers_waiting)
        pthread_cond_wait(&changed, &mutex);
#endif
    reading++;
    overtakers += writers_waiting;
    pthread_mutex_unlock(&mutex);
}

static void read_unlock(void) {
    pthread_mutex_lock(&mutex);
    if (--reading == 0)
        pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
}

static void *reader(void *arg) {
    for (int i = 0; i < ROUNDS; i++) {
        read_lock();
        read_unlock();
    }
    return arg;
}

static void *writer(void *arg) {
    pthread_mutex_lock(&mutex);
    writers_waiting++;
    while (reading)
        pthread_cond_wait(&changed, &mutex);
    writers_waiting--;
    assert(overtakers <= PATIENCE);
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
    return arg;
}

int main(void) {
    void *(*const bodies[])(void *) = {reader, reader, writer};
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, bodies[i], NULL);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    printf("written\n");
    return 0;
}
