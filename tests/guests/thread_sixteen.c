/* Sixteen threads, mutexes and condition variables: a ring that passes tokens around.
 * traps: many
 */
#include "guest.h"

#define THREADS 16
#define ROUNDS 100

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    int tokens;
} place[THREADS];
static long passed[THREADS];
static pthread_mutex_t total_mutex = PTHREAD_MUTEX_INITIALIZER;
static long total;

static void *passes(void *arg) {
    int me = (int)(long)arg, next = (me + 1) % THREADS;
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&place[me].mutex);
        while (!place[me].tokens)
            pthread_cond_wait(&place[me].cond, &place[me].mutex);
        place[me].tokens--;
        pthread_mutex_unlock(&place[me].mutex);
        passed[me]++;
        pthread_mutex_lock(&total_mutex);
        total += me;
        pthread_mutex_unlock(&total_mutex);
        pthread_mutex_lock(&place[next].mutex);
        place[next].tokens++;
        pthread_cond_signal(&place[next].cond);
        pthread_mutex_unlock(&place[next].mutex);
    }
    return NULL;
}

int main(void) {
    pthread_t t[THREADS];
    for (long i = 0; i < THREADS; i++) {
        pthread_mutex_init(&place[i].mutex, NULL);
        pthread_cond_init(&place[i].cond, NULL);
        place[i].tokens = i % 4 == 0;
    }
    for (long i = 0; i < THREADS; i++)
        pthread_create(&t[i], NULL, passes, (void *)i);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    long sum = 0;
    int tokens = 0;
    for (int i = 0; i < THREADS; i++)
        sum += passed[i], tokens += place[i].tokens;
    printf("passed %ld total %ld tokens %d\n", sum, total, tokens);
    return 0;
}
