/* Double free: two threads see that the buffer is there, and both free it.
 *
 * fails: signal
 * threads: 2
 * preemptions: 1
 * notes: SIGABRT by glibc itself, which looks twice at chunks of this size
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static char *buffer;

#ifdef FIXED
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
#endif

static void discard(void) {
    if (buffer) {
        free(buffer);
        buffer = NULL;
    }
}

static void *cleans(void *arg) {
#ifdef FIXED
    pthread_mutex_lock(&mutex);
    discard();
    pthread_mutex_unlock(&mutex);
#else
    discard();
#endif
    return arg;
}

int main(void) {
    pthread_t threads[2];
    buffer = malloc(4096);
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, cleans, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    printf("freed\n");
    return 0;
}
