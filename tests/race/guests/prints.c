/* prints: two threads share nothing but what the C library's streams do. */
#include <pthread.h>
#include <stdio.h>

static void *prints(void *arg) {
    for (int i = 0; i < 20; i++)
        printf("%s %d\n", (const char *)arg, i);
    return arg;
}

int main(void) {
    pthread_t t;
    pthread_create(&t, NULL, prints, "one");
    prints("two");
    pthread_join(t, NULL);
    return 0;
}
