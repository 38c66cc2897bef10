/* The futex call itself: wait, wake, requeue, bitsets, timeouts, and what it refuses.
 */
#include "guest.h"
#include <linux/futex.h>

static int word, second;
static volatile int woken;

static long futex(void *addr, int op, unsigned value, const void *timeout, void *addr2,
                  unsigned value3) {
    return syscall(SYS_futex, addr, op, value, timeout, addr2, value3);
}

struct sleeper {
    int bits;
    volatile pid_t tid;
};

static void *sleeps(void *arg) {
    struct sleeper *s = arg;
    s->tid = gettid();
    futex(&word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, s->bits);
    __sync_fetch_and_add(&woken, 1);
    return NULL;
}

static char state_of(pid_t tid) {
    char path[64], text[256] = "";
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    int fd = open(path, O_RDONLY);
    if (fd == -1)
        return '-';
    (void)!read(fd, text, sizeof text - 1);
    close(fd);
    return strrchr(text, ')')[2];
}

static pthread_t threads[6];
static struct sleeper sleepers[6];

static void put_to_sleep(int n, const int *bits) {
    woken = 0;
    for (int i = 0; i < n; i++) {
        sleepers[i] = (struct sleeper){.bits = bits ? bits[i] : -1};
        pthread_create(&threads[i], NULL, sleeps, &sleepers[i]);
        while (sleepers[i].tid == 0 || state_of(sleepers[i].tid) != 'S')
            sleep_ms(1);
    }
}

static void all_awake(int n) {
    for (int i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    printf("woken %d\n", woken);
}

int main(void) {
    struct timespec soon = {0, 5 * MS}, bad = {0, 1000000000};
    word = 1;
    E(futex(&word, FUTEX_WAIT, 0, NULL, NULL, 0));
    word = 0;
    E(futex(&word, FUTEX_WAIT, 0, &soon, NULL, 0));
    E(futex(&word, FUTEX_WAIT, 0, &bad, NULL, 0));
    E(futex((char *)&word + 1, FUTEX_WAIT, 0, NULL, NULL, 0));
    E(futex((void *)4, FUTEX_WAIT, 0, NULL, NULL, 0));
    E(futex(NULL, FUTEX_WAKE, 1, NULL, NULL, 0));
    E(futex(&word, 99, 0, NULL, NULL, 0));
    E(futex(&word, FUTEX_WAIT_BITSET, 0, NULL, NULL, 0));
    E(futex(&word, FUTEX_WAKE_BITSET, 1, NULL, NULL, 0));
    E(futex(&word, FUTEX_WAIT, 0, (void *)1, NULL, 0));
    V(futex(&word, FUTEX_WAKE, 10, NULL, NULL, 0));
    long long deadline = now_ns(CLOCK_MONOTONIC) + 5 * MS;
    struct timespec absolute = {deadline / 1000000000, deadline % 1000000000};
    E(futex(&word, FUTEX_WAIT_BITSET, 0, &absolute, NULL, ~0u));
    IS(now_ns(CLOCK_MONOTONIC) >= deadline);
    deadline = now_ns(CLOCK_REALTIME) + 5 * MS;
    absolute = (struct timespec){deadline / 1000000000, deadline % 1000000000};
    E(futex(&word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &absolute, NULL, ~0u));
    IS(now_ns(CLOCK_REALTIME) >= deadline);

    put_to_sleep(4, NULL);
    V(futex(&word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0));
    V(futex(&word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 10, NULL, NULL, 0));
    all_awake(4);
    int bits[] = {1, 2, 1, 4};
    put_to_sleep(4, bits);
    V(futex(&word, FUTEX_WAKE_BITSET | FUTEX_PRIVATE_FLAG, 10, NULL, NULL, 1));
    V(futex(&word, FUTEX_WAKE_BITSET | FUTEX_PRIVATE_FLAG, 10, NULL, NULL, 8));
    V(futex(&word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 10, NULL, NULL, 0));
    all_awake(4);
    put_to_sleep(5, NULL);
    V(futex(&word, FUTEX_REQUEUE | FUTEX_PRIVATE_FLAG, 1, (void *)2, &second, 0));
    V(futex(&second, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 10, NULL, NULL, 0));
    E(futex(&word, FUTEX_CMP_REQUEUE | FUTEX_PRIVATE_FLAG, 1, (void *)1, &second, 5));
    V(futex(&word, FUTEX_CMP_REQUEUE | FUTEX_PRIVATE_FLAG, 1, (void *)1, &second, 0));
    V(futex(&second, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 10, NULL, NULL, 0));
    all_awake(5);
    put_to_sleep(2, NULL);
    second = 5;
    V(futex(&second, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 1, (void *)10, &word,
            FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 0)));
    printf("word %d\n", word);
    all_awake(2);
    return 0;
}
