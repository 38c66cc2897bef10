/* returns_nowhere: a return on a stack that two threads touch, to an address that no processor
 * takes: SIGSEGV. */
#include <pthread.h>
#include <stdint.h>

static volatile uint64_t stack[1024] __attribute__((aligned(4096)));

static void *touches(void *arg) {
    for (int i = 0; i < 1024; i++)
        stack[i]++;
    return arg;
}

int main(void) {
    pthread_t t;
    pthread_create(&t, NULL, touches, NULL);
    touches(NULL);
    pthread_join(t, NULL);
    __asm__ volatile("mov %0,%%rsp\n"
                     "push %1\n"
                     "ret\n"
                     :
                     : "r"(&stack[512]), "r"(0x8000000000000000)
                     : "memory");
    return 0;
}
