/* Records copied by memcpy while another thread copies others over them: a mixture is seen.
 *
 * fails: assert
 * threads: 2
 * preemptions: 1
 * notes: the accesses are libc's; volatile keeps the size from the compiler
 */
#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define RECORDS 64

static long table[RECORDS];
static volatile size_t used = RECORDS;

#ifdef FIXED
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
#endif

static void copy(long *to, const long *from) {
#ifdef FIXED
    pthread_mutex_lock(&mutex);
#endif
    memcpy(to, from, used * sizeof *from);
#ifdef FIXED
    pthread_mutex_unlock(&mutex);
#endif
}

static void *replaces(void *arg) {
    long fresh[RECORDS];
    for (int i = 0; i < RECORDS; i++)
        fresh[i] = 1;
    copy(table, fresh);
    return arg;
}

static void *reads(void *arg) {
    long seen[RECORDS];
    copy(seen, table);
    for (int i = 1; i < RECORDS; i++)
        assert(seen[i] == seen[0]);
    return arg;
}

int main(void) {
    pthread_t threads[2];
    pthread_create(&threads[0], NULL, replaces, NULL);
    pthread_create(&threads[1], NULL, reads, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    printf("all alike\n");
    return 0;
}
