/* watched.c THREADS ACCESSES: each thread adds ACCESSES times to one shared counter, which is read
 * and written by plain moves: two watched accesses each.  All begin one after the other. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static volatile long counter;
static long accesses;

static void *adds(void *arg) {
    for (long i = 0; i < accesses; i++) {
        long value = counter;
        counter = value + 1;
    }
    return arg;
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 3;
    accesses = argc > 2 ? atol(argv[2]) : 3;
    pthread_t t[16];
    for (int i = 0; i < threads && i < 16; i++)
        pthread_create(&t[i], NULL, adds, NULL);
    for (int i = 0; i < threads && i < 16; i++)
        pthread_join(t[i], NULL);
    printf("%ld\n", counter);
    return 0;
}
