/* Pages unmapped, remapped and protected under a sibling that writes: no other page is harmed.
 * traps: many
 */
#include "guest.h"
#include <setjmp.h>

static char *volatile target;
static volatile int stop;
static __thread sigjmp_buf back;
static volatile long faults, writes;

static void handler(int sig) {
    (void)sig;
    faults++;
    siglongjmp(back, 1);
}

static void *hammers(void *arg) {
    sigsetjmp(back, 1);
    while (!stop) {
        *(volatile char *)(target + 100) = 'h';
        *(volatile char *)(target + PAGE + 100) = 'h';
        writes++;
    }
    return arg;
}

int main(void) {
    pthread_t t;
    long wrong = 0;
    handle(SIGSEGV, handler, SA_NODEFER);
    /* Walled in, so that nothing but the two pages themselves fits where they were. */
    target = (char *)mmap(NULL, 6 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + 2 * PAGE;
    MUST(mprotect(target, 2 * PAGE, PROT_READ | PROT_WRITE));
    pthread_create(&t, NULL, hammers, NULL);
    while (writes == 0)
        sched_yield();
    for (int i = 0; i < 300; i++) {
        MUST(munmap(target, 2 * PAGE));
        /* Frames just freed come back in these; nobody else may write to them. */
        char *fresh =
            mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memset(fresh, 'f', 8 * PAGE);
        for (volatile int j = 0; j < 2000; j++)
            ;
        for (long j = 0; j < 8 * PAGE; j++)
            wrong += fresh[j] != 'f';
        MUST(munmap(fresh, 8 * PAGE));
        char *back_again = mmap(target, 2 * PAGE, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        MUST(back_again == target ? 0 : -1);
        if (i % 3 == 0) {
            MUST(mprotect(target, PAGE, PROT_READ));
            char before = *(volatile char *)(target + 100);
            for (volatile int j = 0; j < 2000; j++)
                ;
            wrong += before != *(volatile char *)(target + 100);
            MUST(mprotect(target, PAGE, PROT_READ | PROT_WRITE));
        }
        if (i % 5 == 0)
            MUST(madvise(target, 2 * PAGE, MADV_DONTNEED));
    }
    stop = 1;
    pthread_join(t, NULL);
    printf("wrong %ld, wrote %d\n", wrong, writes > 0);
    return 0;
}
