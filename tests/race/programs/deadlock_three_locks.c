/* A cycle of three locks, each two of which are taken in one order only.
 *
 * fails: deadlock
 * threads: 3
 * preemptions: 2
 */
#include <assert.h>
#include <pthread.h>
#include <stdio.h>

enum { DISK, CACHE, LOG, LOCKS };

static pthread_mutex_t locks[LOCKS] = {
    PTHREAD_MUTEX_INITIALIZER,
    PTHREAD_MUTEX_INITIALIZER,
    PTHREAD_MUTEX_INITIALIZER,
};
static int uses[LOCKS];

static void both(int first, int second) {
    pthread_mutex_lock(&locks[first]);
    uses[first]++;
    pthread_mutex_lock(&locks[second]);
    uses[second]++;
    pthread_mutex_unlock(&locks[second]);
    pthread_mutex_unlock(&locks[first]);
}

static void *reads(void *arg) {
    both(DISK, CACHE);
    return arg;
}

static void *evicts(void *arg) {
    both(CACHE, LOG);
    return arg;
}

static void *rotates(void *arg) {
#ifdef FIXED
    both(DISK, LOG);
#else
    both(LOG, DISK);
#endif
    return arg;
}

int main(void) {
    void *(*const bodies[])(void *) = {reads, evicts, rotates};
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, bodies[i], NULL);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < LOCKS; i++)
        assert(uses[i] == 2);
    printf("each lock used twice\n");
    return 0;
}
