/* A record is sent by write() while another thread changes it: half of the change is sent.
 *
 * fails: assert
 * threads: 2
 * preemptions: 1
 * notes: main touches the record by the kernel's hand only
 */
#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static struct {
    volatile long debit, credit;
} record;

#ifdef FIXED
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
#endif

static void *books(void *arg) {
#ifdef FIXED
    pthread_mutex_lock(&mutex);
#endif
    record.debit = 7;
    record.credit = 7;
#ifdef FIXED
    pthread_mutex_unlock(&mutex);
#endif
    return arg;
}

int main(void) {
    int ends[2];
    long sent[2];
    pthread_t thread;
    assert(pipe(ends) == 0);
    pthread_create(&thread, NULL, books, NULL);
#ifdef FIXED
    pthread_mutex_lock(&mutex);
#endif
    assert(write(ends[1], (void *)&record, sizeof record) == sizeof record);
#ifdef FIXED
    pthread_mutex_unlock(&mutex);
#endif
    assert(read(ends[0], sent, sizeof sent) == sizeof sent);
    assert(sent[0] == sent[1]);
    pthread_join(thread, NULL);
    printf("balanced\n");
    return 0;
}
