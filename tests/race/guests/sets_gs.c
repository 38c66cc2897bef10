/* Sets its GS base: before it starts a thread, or ("late") in the thread.
 *
 * variants: static
 */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

static long mine[2];

static void *set(void *arg) {
    syscall(SYS_arch_prctl, ARCH_SET_GS, mine);
    return arg;
}

int main(int argc, char **argv) {
    (void)argv;
    pthread_t thread;
    if (argc < 2)
        set(0);
    pthread_create(&thread, 0, set, 0);
    pthread_join(thread, 0);
    return 0;
}
