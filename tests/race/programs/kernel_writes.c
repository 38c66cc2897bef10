/* A thread checks a number and then uses it; between, read() puts another one there.
 *
 * fails: assert
 * threads: 2
 * preemptions: 1
 * notes: the only writes after the first thread's birth are the kernel's
 */
#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static volatile int limit = 3;
static int ends[2];
static int table[3] = {1, 2, 3};

#ifdef FIXED
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
#endif

static void *obeys(void *arg) {
#ifdef FIXED
    pthread_mutex_lock(&mutex);
#endif
    assert(read(ends[0], (void *)&limit, sizeof limit) == sizeof limit);
#ifdef FIXED
    pthread_mutex_unlock(&mutex);
#endif
    return arg;
}

static void *looks(void *arg) {
    int last = 0;
#ifdef FIXED
    pthread_mutex_lock(&mutex);
#endif
    if (limit > 0) {
        int at = limit - 1;
        assert(at >= 0 && at < 3);
        last = table[at];
    }
#ifdef FIXED
    pthread_mutex_unlock(&mutex);
#endif
    printf("%s\n", last >= 0 ? "looked" : "");
    return arg;
}

int main(void) {
    const int order = 0;
    pthread_t threads[2];
    assert(pipe(ends) == 0);
    assert(write(ends[1], &order, sizeof order) == sizeof order);
    pthread_create(&threads[0], NULL, obeys, NULL);
    pthread_create(&threads[1], NULL, looks, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
