/* A thread uses what its creator stores only after it has created the thread.
 *
 * fails: signal
 * threads: 1
 * preemptions: 1
 * notes: SIGSEGV, a null pointer is followed
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct worker {
    pthread_t thread;
    long jobs;
};

static struct worker *worker;

static void *work(void *arg) {
    worker->jobs++;
    return arg;
}

int main(void) {
    struct worker *made = calloc(1, sizeof *made);
#ifdef FIXED
    worker = made;
    pthread_create(&made->thread, NULL, work, NULL);
#else
    pthread_create(&made->thread, NULL, work, NULL);
    worker = made;
#endif
    pthread_join(made->thread, NULL);
    printf("%ld job\n", made->jobs);
    free(made);
    return 0;
}
