/* Four threads append letters to one string without a lock: what comes out depends on their order.
 */
#include "guest.h"

static volatile int length;
static char text[400];

static void *appends(void *arg) {
    for (int i = 0; i < 12; i++) {
        int at = length;
        if (i % 3 == 0)
            sched_yield();
        text[at] = 'a' + (int)(long)arg;
        length = at + 1;
        getppid();
    }
    return NULL;
}

int main(void) {
    pthread_t t[4];
    for (long i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, appends, (void *)i);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    printf("%d %.*s\n", length, length, text);
    return 0;
}
