/* Double-checked locking that publishes the object before it is filled.
 *
 * fails: assert
 * threads: 2
 * preemptions: 1
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define LIMIT 42

struct config {
    long limit;
};

static struct config *_Atomic instance;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static struct config *get(void) {
    struct config *config = atomic_load_explicit(&instance, memory_order_acquire);
    if (config)
        return config;
    pthread_mutex_lock(&mutex);
    config = atomic_load_explicit(&instance, memory_order_relaxed);
    if (!config) {
        config = calloc(1, sizeof *config);
#ifdef FIXED
        config->limit = LIMIT;
        atomic_store_explicit(&instance, config, memory_order_release);
#else
        atomic_store_explicit(&instance, config, memory_order_release);
        config->limit = LIMIT;
#endif
    }
    pthread_mutex_unlock(&mutex);
    return config;
}

static void *use(void *arg) {
    assert(get()->limit == LIMIT);
    return arg;
}

int main(void) {
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, use, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    printf("limit %ld\n", get()->limit);
    free(get());
    return 0;
}
