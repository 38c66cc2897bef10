/* A signal's handler changes what the thread that it interrupts is just changing.
 *
 * fails: assert
 * threads: 1
 * preemptions: 2
 * notes: the main thread sends the signal; which instruction it interrupts is the race
 */
#include <assert.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>

static volatile long events; // volatile, as for every object that a handler shares
static sem_t handled;

static void on_signal(int signo) {
    (void)signo;
    events = events + 1;
    sem_post(&handled);
}

static void *work(void *arg) {
#ifdef FIXED
    sigset_t usr1, old;
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &usr1, &old);
    events = events + 1;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
#else
    events = events + 1;
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
    assert(events == 2);
    printf("%ld events\n", events);
    return 0;
}
