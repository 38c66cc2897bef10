/* A signal comes between two instructions, never within one: `add` to memory and a handler of
 * the same thread that does the same lose nothing.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>

static volatile long ours, handlers;
static volatile long seen;

static void handler(int sig) {
    (void)sig;
    __asm__ volatile("addq $1,%0" : "+m"(ours));
    __asm__ volatile("addq $100,%0" : "+m"(handlers));
}

static void *signaller(void *main_thread) {
    for (int i = 0; i < 2; i++) {
        seen += ours + handlers;
        pthread_kill(*(pthread_t *)main_thread, SIGUSR1);
    }
    return 0;
}

int main(void) {
    static pthread_t self, other;
    self = pthread_self();
    signal(SIGUSR1, handler);
    pthread_create(&other, 0, signaller, &self);
    for (int i = 0; i < 3; i++)
        __asm__ volatile("addq $1,%0" : "+m"(ours));
    pthread_join(other, 0);
    __asm__ volatile("addq $1000,%0" : "+m"(handlers));
    printf("%ld %ld\n", ours, handlers);
    return (ours - 3) * 100 != handlers - 1000; /* two signals may become one */
}
