/* Leaving handlers by siglongjmp, a thousand times, with and without the mask.
 * traps: many
 */
#include "guest.h"
#include <setjmp.h>

static sigjmp_buf back;
static volatile int caught;
static int *volatile nowhere = (int *)8;

static void handler(int sig) {
    caught++;
    siglongjmp(back, sig);
}

int main(void) {
    handle(SIGSEGV, handler, 0);
    handle(SIGUSR1, handler, 0);
    for (volatile int i = 0; i < 1000; i++)
        if (!sigsetjmp(back, 1))
            *(volatile int *)(uintptr_t)(0x1000 + i * 8) = 1;
    printf("caught %d\n", caught);
    caught = 0;
    for (volatile int i = 0; i < 1000; i++)
        if (!sigsetjmp(back, 1))
            raise(SIGUSR1);
    printf("caught %d\n", caught);

    /* Without the mask the signal stays blocked. */
    sigset_t set;
    if (!sigsetjmp(back, 0))
        raise(SIGUSR1);
    sigprocmask(SIG_SETMASK, NULL, &set);
    printf("blocked %d\n", sigismember(&set, SIGUSR1));
    IN_CHILD("fault while blocked", if (!sigsetjmp(back, 0)) *nowhere = 1; *nowhere = 1);

    /* Out of a sleeping call. */
    sigset_t usr1 = set_of(SIGUSR1);
    sigprocmask(SIG_UNBLOCK, &usr1, NULL);
    int p[2];
    MUST(pipe(p));
    pid_t parent = getpid(), child = MUST(fork());
    if (!child) {
        signal(SIGUSR1, SIG_DFL);
        sleep_ms(20);
        kill(parent, SIGUSR1);
        _exit(0);
    }
    char byte;
    int sig = sigsetjmp(back, 1);
    if (!sig)
        (void)!read(p[0], &byte, 1);
    printf("came back with %s\n", signal_name(sig));
    reap("child", child);
    return 0;
}
