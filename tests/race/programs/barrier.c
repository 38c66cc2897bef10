/* A barrier used twice that has no generations: who is quick is counted before who is slow leaves.
 *
 * fails: deadlock
 * threads: 2
 * preemptions: 0
 */
#include <pthread.h>
#include <stdio.h>

#define THREADS 2
#define PHASES 2

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t all_here = PTHREAD_COND_INITIALIZER;
static int arrived;

#ifdef FIXED
static unsigned generation;
#endif

static void barrier(void) {
    pthread_mutex_lock(&mutex);
#ifdef FIXED
    unsigned mine = generation;
#endif
    if (++arrived == THREADS) {
        arrived = 0;
#ifdef FIXED
        generation++;
#endif
        pthread_cond_broadcast(&all_here);
    } else {
#ifdef FIXED
        while (generation == mine)
#else
        while (arrived != 0)
#endif
            pthread_cond_wait(&all_here, &mutex);
    }
    pthread_mutex_unlock(&mutex);
}

static void *phases(void *arg) {
    for (int i = 0; i < PHASES; i++)
        barrier();
    return arg;
}

int main(void) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, phases, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    printf("%d phases\n", PHASES);
    return 0;
}
