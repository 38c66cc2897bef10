/* A process is forked while another thread holds a lock; the child waits for its copy for ever.
 *
 * fails: deadlock
 * threads: 1
 * preemptions: 2
 * notes: only one thread of the parent ever touches the lock, and the child only its copy
 */
#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int logged;

static void logs(void) {
    pthread_mutex_lock(&mutex);
    logged++;
    pthread_mutex_unlock(&mutex);
}

static void *work(void *arg) {
    logs();
    return arg;
}

int main(void) {
    pthread_t worker;
    int status;
    pthread_create(&worker, NULL, work, NULL);
#ifdef FIXED
    pthread_mutex_lock(&mutex); /* nobody else holds it when it is copied */
#endif
    pid_t child = fork();
#ifdef FIXED
    pthread_mutex_unlock(&mutex);
#endif
    if (child == 0) {
        logs();
        _exit(0);
    }
    waitpid(child, &status, 0);
    pthread_join(worker, NULL);
    printf("status %d\n", status);
    return status != 0;
}
