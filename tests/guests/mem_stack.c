/* The stack grows by itself, to its limit; a mapping may grow downwards too.
 * traps: many
 */
#include "guest.h"

__attribute__((noipa)) static long deep(int frames) {
    volatile char block[16 * 1024];
    block[0] = frames;
    block[sizeof block - 1] = 1;
    return frames ? deep(frames - 1) + block[sizeof block - 1] : 0;
}

__attribute__((noipa)) static int big_step(void) {
    volatile char block[4 << 20];
    block[0] = 1;
    return block[0];
}

static void *small(void *arg) {
    return (void *)deep((int)(long)arg);
}

int main(void) {
    struct rlimit limit = {8 << 20, RLIM_INFINITY};
    getrlimit(RLIMIT_STACK, &limit);
    IN_CHILD("7 MiB", printf("%ld\n", deep(7 * 64)));
    IN_CHILD("9 MiB", printf("%ld\n", deep(9 * 64 + 2)));
    IN_CHILD("one big step", printf("%d\n", big_step()));
    IN_CHILD("smaller limit", limit.rlim_cur = 1 << 20; setrlimit(RLIMIT_STACK, &limit);
             printf("%ld\n", deep(2 * 64)));
    IN_CHILD("thread stack overflow", pthread_t t; pthread_attr_t attr; pthread_attr_init(&attr);
             pthread_attr_setstacksize(&attr, 256 * 1024);
             pthread_create(&t, &attr, small, (void *)64L); pthread_join(t, NULL));
    IN_CHILD("thread stack large enough", pthread_t t; pthread_attr_t attr;
             pthread_attr_init(&attr); pthread_attr_setstacksize(&attr, 2 << 20); void *result;
             pthread_create(&t, &attr, small, (void *)64L); pthread_join(t, &result);
             printf("%ld\n", (long)result));

    char *hole = mmap(NULL, 400 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(munmap(hole, 400 * PAGE));
    char *grows = mmap(hole + 390 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0);
    IS(grows == hole + 390 * PAGE);
    grows[PAGE] = 1;
    grows[-PAGE] = 2;
    grows[-10 * PAGE] = 3;
    printf("%d %d %d %d\n", grows[PAGE], grows[-PAGE], grows[-5 * PAGE], grows[-10 * PAGE]);
    IN_CHILD("above it", *(volatile char *)(grows + 2 * PAGE) = 1);
    return 0;
}
