/* FS and GS base: set, read, used, kept across calls, signals, fork and threads.
 */
#include "guest.h"
#include <asm/prctl.h>

static long arch_prctl(int code, unsigned long value) {
    return syscall(SYS_arch_prctl, code, value);
}

static long through_gs(void) {
    long value;
    __asm__ volatile("movq %%gs:8, %0" : "=r"(value));
    return value;
}

static long cells[4] = {10, 20, 30, 40};

static void handler(int sig) {
    (void)sig;
    printf("in a handler %ld\n", through_gs());
}

static void *thread(void *arg) {
    unsigned long gs = 1;
    (void)arg;
    arch_prctl(ARCH_GET_GS, (unsigned long)&gs);
    printf("thread inherits gs %d\n", gs == (unsigned long)cells);
    arch_prctl(ARCH_SET_GS, (unsigned long)&cells[2]);
    sched_yield();
    printf("thread %ld\n", through_gs());
    return NULL;
}

int main(void) {
    unsigned long fs = 0, gs = 1;
    E(arch_prctl(ARCH_GET_FS, (unsigned long)&fs));
    IS(fs == (unsigned long)pthread_self());
    E(arch_prctl(ARCH_GET_GS, (unsigned long)&gs));
    printf("gs %lu\n", gs);
    E(arch_prctl(ARCH_SET_GS, (unsigned long)cells));
    printf("%ld\n", through_gs());
    getpid();
    sched_yield();
    printf("after calls %ld\n", through_gs());
    sleep_ms(5);
    printf("after a sleep %ld\n", through_gs());
    handle(SIGUSR1, handler, 0);
    raise(SIGUSR1);
    IN_CHILD("child", printf("child %ld\n", through_gs());
             arch_prctl(ARCH_SET_GS, (unsigned long)&cells[1]);
             printf("child %ld\n", through_gs()));
    pthread_t t;
    pthread_create(&t, NULL, thread, NULL);
    pthread_join(t, NULL);
    printf("parent %ld\n", through_gs());
    E(arch_prctl(ARCH_SET_GS, 1UL << 47));
    E(arch_prctl(ARCH_SET_FS, -1UL));
    E(arch_prctl(ARCH_GET_FS, 1));
    E(arch_prctl(0x9999, 0));
    IN_CHILD("gs to nowhere", arch_prctl(ARCH_SET_GS, 0); through_gs());
    return 0;
}
