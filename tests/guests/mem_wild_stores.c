/* Stores all over the address space hurt nobody but the process that makes them.
 * traps: many
 */
#include "guest.h"

static void store(unsigned long address) {
    __asm__ volatile("movq $0x1234567, (%%rdi)" ::"D"(address) : "memory");
}

static int dies_of_segv(unsigned long address) {
    pid_t child = MUST(fork());
    if (!child) {
        store(address);
        _exit(0);
    }
    int status;
    MUST(waitpid(child, &status, 0));
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

int main(void) {
    static long canary[1024];
    long *heap = malloc(8192);
    for (int i = 0; i < 1024; i++)
        canary[i] = heap[i] = i * 7;
    int died = 0, tries = 0;
    /* Between the program and the libraries, which the host puts at 0x7e and above. */
    for (unsigned long a = 0x580000000000; a < 0x7d0000000000; a += 0x10000000000, tries++)
        died += dies_of_segv(a);
    for (unsigned long a = 0x10000000000; a < 0x540000000000; a += 0x50000000000, tries++)
        died += dies_of_segv(a + 0x123450);
    unsigned long special[] = {0,
                               8,
                               0xff8,
                               0x1000,
                               0x10000,
                               0x7ffffffff000,
                               0x7fffffffffff,
                               0x800000000000,
                               0xffff800000000000,
                               0xffff888000000000,
                               0xffffffff81000000,
                               0xffffffffff600000,
                               -8UL};
    for (unsigned i = 0; i < sizeof special / sizeof *special; i++, tries++)
        died += dies_of_segv(special[i]);
    long wrong = 0;
    for (int i = 0; i < 1024; i++)
        wrong += (canary[i] != i * 7) + (heap[i] != i * 7);
    printf("tries %d died %d wrong %ld\n", tries, died, wrong);

    /* One that sweeps: every fault caught, on to the next page. */
    IN_CHILD(
        "random stores", unsigned long x = 12345; handle(SIGSEGV, SIG_DFL, 0);
        for (int i = 0; i < 100; i++) {
            x = x * 6364136223846793005UL + 1;
            store(0x580000000000 + (x >> 20) % 0x250000000000 / 8 * 8);
        });
    return 0;
}
