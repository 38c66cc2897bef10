/* Says that it runs, then computes (or, with an argument, sleeps) for ever with a child and a thread.
 */
#include "guest.h"

static void *spins(void *arg) {
    for (;;)
        if (arg)
            pause();
    return arg;
}

int main(int argc, char **argv) {
    pthread_t t;
    (void)argv;
    pthread_create(&t, NULL, spins, argc > 1 ? "" : NULL);
    if (!fork())
        spins(argc > 1 ? "" : NULL);
    printf("running\n");
    spins(argc > 1 ? "" : NULL);
}
