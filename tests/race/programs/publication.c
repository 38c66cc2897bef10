/* Unlocked publication: the count says that an event is there before it is.
 *
 * fails: signal
 * threads: 2
 * preemptions: 1
 * notes: SIGSEGV, the reader follows a null pointer
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define EVENTS 3

struct event {
    long kind;
};

static struct event *events[EVENTS];
static atomic_int count;

static void *record(void *arg) {
    for (int i = 0; i < EVENTS; i++) {
        struct event *event = malloc(sizeof *event);
        event->kind = i + 1;
#ifdef FIXED
        events[i] = event;
        atomic_store_explicit(&count, i + 1, memory_order_release);
#else
        atomic_store_explicit(&count, i + 1, memory_order_release);
        events[i] = event;
#endif
    }
    return arg;
}

static void *sum(void *arg) {
    long *total = arg;
    int n = atomic_load_explicit(&count, memory_order_acquire);
    for (int i = 0; i < n; i++)
        *total += events[i]->kind;
    return NULL;
}

int main(void) {
    pthread_t writer, reader;
    long total = 0;
    pthread_create(&writer, NULL, record, NULL);
    pthread_create(&reader, NULL, sum, &total);
    pthread_join(writer, NULL);
    pthread_join(reader, NULL);
    printf("%d events recorded\n", atomic_load(&count));
    for (int i = 0; i < EVENTS; i++)
        free(events[i]);
    return total > 6;
}
