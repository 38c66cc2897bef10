/* Signals and threads: masks inherited, pending not, process-directed ones go where they may.
 */
#include "guest.h"
#include <semaphore.h>

static sem_t ready, go;
static volatile pid_t handled_by;

static void handler(int sig) {
    (void)sig;
    handled_by = gettid();
}

static volatile pid_t open_tid;

static void *open_thread(void *arg) {
    sigset_t set = set_of(SIGUSR1);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    open_tid = gettid();
    sem_post(&ready);
    while (!handled_by)
        sched_yield();
    sem_post(&ready);
    sem_wait(&go);
    return arg;
}

static void *inherits(void *arg) {
    sigset_t mask, pending;
    (void)arg;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    sigpending(&pending);
    printf("thread: USR1 blocked %d, USR2 blocked %d, own pending USR2 %d\n",
           sigismember(&mask, SIGUSR1), sigismember(&mask, SIGUSR2),
           sigismember(&pending, SIGUSR2));
    return NULL;
}

static void *waits(void *arg) {
    sigset_t set = set_of(SIGRTMIN);
    siginfo_t info;
    sem_post(&ready);
    sigwaitinfo(&set, &info);
    *(int *)arg = info.si_value.sival_int;
    return NULL;
}

int main(void) {
    pthread_t t;
    sem_init(&ready, 0, 0);
    sem_init(&go, 0, 0);
    handle(SIGUSR1, handler, 0);
    sigset_t set = set_of(SIGUSR1), pending;
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGRTMIN);
    pthread_sigmask(SIG_BLOCK, &set, NULL);

    pthread_create(&t, NULL, open_thread, NULL);
    sem_wait(&ready);
    kill(getpid(), SIGUSR1);
    sem_wait(&ready);
    printf("process-directed: by the open thread %d\n", handled_by == open_tid);
    sem_post(&go);
    pthread_join(t, NULL);

    pthread_kill(pthread_self(), SIGUSR2);
    pthread_create(&t, NULL, inherits, NULL);
    pthread_join(t, NULL);
    kill(getpid(), SIGUSR1);
    pthread_create(&t, NULL, inherits, NULL);
    pthread_join(t, NULL);
    sigpending(&pending);
    printf("main: pending USR1 %d USR2 %d\n", sigismember(&pending, SIGUSR1),
           sigismember(&pending, SIGUSR2));
    IN_CHILD("fork", sigset_t p; sigpending(&p);
             printf("child: pending USR1 %d USR2 %d\n", sigismember(&p, SIGUSR1),
                    sigismember(&p, SIGUSR2));
             sigset_t m; sigprocmask(SIG_SETMASK, NULL, &m);
             printf("child: blocked USR1 %d\n", sigismember(&m, SIGUSR1)));

    int value = 0;
    pthread_create(&t, NULL, waits, &value);
    sem_wait(&ready);
    sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 123});
    pthread_join(t, NULL);
    printf("sigwaitinfo in a thread: %d\n", value);

    handled_by = 0;
    signal(SIGUSR2, SIG_IGN);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    printf("pending one, once unblocked: by main %d\n", handled_by == gettid());
    return 0;
}
