/* Fork while another thread holds a lock: in the child nobody will ever release it.
 *
 * fails: deadlock
 * threads: 2
 * preemptions: 2
 * notes: one thread and one child process
 */
#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long lines;

static void write_line(void) {
    pthread_mutex_lock(&mutex);
    lines++;
    pthread_mutex_unlock(&mutex);
}

#ifdef FIXED
static void take(void) {
    pthread_mutex_lock(&mutex);
}

static void give_back(void) {
    pthread_mutex_unlock(&mutex);
}
#endif

static void *writes(void *arg) {
    write_line();
    return arg;
}

int main(void) {
    pthread_t thread;
    int status = -1;
#ifdef FIXED
    pthread_atfork(take, give_back, give_back);
#endif
    pthread_create(&thread, NULL, writes, NULL);
    pid_t child = fork();
    if (child == 0) {
        write_line();
        _exit(0);
    }
    waitpid(child, &status, 0);
    pthread_join(thread, NULL);
    printf("child's status %d, %ld line\n", status, lines);
    return status != 0;
}
