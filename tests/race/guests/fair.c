/* Right programs that an unfair scheduler could keep from ending.
 *
 * args: spinlock   three threads pass a spin lock of the C library's around
 *       computes   one computes for ever in memory of its own; main ends the process
 *       cancelled  the same, and main cancels it
 *       long       two take a lock many times
 *       bounded    two count how often each has looked for the other, and give up
 */
#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define ROUNDS 400

static pthread_spinlock_t spin;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static volatile int go, sum;
static volatile int here[2];

static void *passes(void *arg) {
    for (int i = 0; i < 3; i++) {
        pthread_spin_lock(&spin);
        sum = sum + 1;
        pthread_spin_unlock(&spin);
    }
    return arg;
}

static void *computes(void *arg) {
    volatile long n = 0;
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, 0);
    go = 1;
    for (;;)
        n++;
    return arg;
}

static void *locks(void *arg) {
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&mutex);
        sum = sum + 1;
        pthread_mutex_unlock(&mutex);
    }
    return arg;
}

static void *looks(void *arg) {
    volatile int tries = 0;
    int me = arg != 0;
    while (!here[!me] && ++tries < 2000)
        ;
    here[me] = 1;
    return 0;
}

int main(int argc, char **argv) {
    pthread_t threads[3];
    void *result = 0;
    assert(argc == 2);
    pthread_spin_init(&spin, 0);
    if (!strcmp(argv[1], "computes") || !strcmp(argv[1], "cancelled")) {
        pthread_create(&threads[0], 0, computes, 0);
        while (!go)
            ;
        if (!strcmp(argv[1], "cancelled")) {
            pthread_cancel(threads[0]);
            pthread_join(threads[0], &result);
            assert(result == PTHREAD_CANCELED);
        }
    } else if (!strcmp(argv[1], "bounded")) {
        pthread_create(&threads[0], 0, looks, 0);
        pthread_create(&threads[1], 0, looks, argv);
        for (int i = 0; i < 2; i++)
            pthread_join(threads[i], 0);
    } else {
        void *(*work)(void *) = !strcmp(argv[1], "long") ? locks : passes;
        const int n = !strcmp(argv[1], "long") ? 2 : 3;
        for (int i = 0; i < n; i++)
            pthread_create(&threads[i], 0, work, 0);
        for (int i = 0; i < n; i++)
            pthread_join(threads[i], 0);
        assert(sum == (n == 2 ? 2 * ROUNDS : 9));
    }
    printf("ended\n");
    return 0;
}
