/* A signal's handler changes what only the thread that it interrupts ever touches.
 *
 * fails: assert
 * threads: 1
 * preemptions: 2
 * notes: another thread sends the signal; nothing but the two halves of main share memory
 */
#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>

static volatile int heard;
static pthread_t main_thread;

static void on_signal(int signo) {
    (void)signo;
    heard = heard + 1;
}

static void *sends(void *arg) {
    pthread_kill(main_thread, SIGUSR1);
    return arg;
}

int main(void) {
    struct sigaction action = {.sa_handler = on_signal};
    pthread_t sender;
    sigset_t usr1;
    main_thread = pthread_self();
    sigaction(SIGUSR1, &action, NULL);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
#ifdef FIXED
    pthread_sigmask(SIG_BLOCK, &usr1, NULL);
#endif
    pthread_create(&sender, NULL, sends, NULL);
    int before = heard;
    heard = before + 1;
#ifdef FIXED
    pthread_sigmask(SIG_UNBLOCK, &usr1, NULL);
#endif
    pthread_join(sender, NULL);
    assert(heard == 2);
    printf("heard %d\n", heard);
    return 0;
}
