/* A signal's handler takes a lock that the thread it interrupts may hold.
 *
 * fails: deadlock
 * threads: 1
 * preemptions: 2
 * notes: the right one blocks the signal while it holds the lock
 */
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static sem_t handled;
static long lines;

static void write_line(void) {
    pthread_mutex_lock(&mutex);
    lines++;
    pthread_mutex_unlock(&mutex);
}

static void on_signal(int signo) {
    (void)signo;
    write_line();
    sem_post(&handled);
}

static void *work(void *arg) {
#ifdef FIXED
    sigset_t usr1, old;
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &usr1, &old);
    write_line();
    pthread_sigmask(SIG_SETMASK, &old, NULL);
#else
    write_line();
#endif
    while (sem_wait(&handled) != 0)
        ;
    return arg;
}

int main(void) {
    struct sigaction action = {.sa_handler = on_signal};
    pthread_t worker;
    sigaction(SIGUSR1, &action, NULL);
    sem_init(&handled, 0, 0);
    pthread_create(&worker, NULL, work, NULL);
    pthread_kill(worker, SIGUSR1);
    pthread_join(worker, NULL);
    printf("%ld lines\n", lines);
    return 0;
}
