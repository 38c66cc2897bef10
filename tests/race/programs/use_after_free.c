/* Use after free: a session is looked up under the lock, used without, and closed meanwhile.
 *
 * fails: assert
 * threads: 2
 * preemptions: 1
 * notes: glibc's free() writes its own link over the mark, so it is noticed every time
 */
#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define MARK 0x5e5510L

struct session {
    long mark;
    int references;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct session *current;

static struct session *look_up(void) {
    pthread_mutex_lock(&mutex);
    struct session *session = current;
#ifdef FIXED
    if (session)
        session->references++;
#endif
    pthread_mutex_unlock(&mutex);
    return session;
}

static void put(struct session *session) {
    pthread_mutex_lock(&mutex);
    int left = --session->references;
    pthread_mutex_unlock(&mutex);
    if (left == 0)
        free(session);
}

static void *uses(void *arg) {
    struct session *session = look_up();
    if (!session)
        return arg;
    assert(session->mark == MARK);
#ifdef FIXED
    put(session);
#endif
    return arg;
}

static void *closes(void *arg) {
    pthread_mutex_lock(&mutex);
    struct session *session = current;
    current = NULL;
    pthread_mutex_unlock(&mutex);
    put(session);
    return arg;
}

int main(void) {
    pthread_t threads[2];
    current = malloc(sizeof *current);
    *current = (struct session){.mark = MARK, .references = 1};
    pthread_create(&threads[0], NULL, uses, NULL);
    pthread_create(&threads[1], NULL, closes, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    printf("closed\n");
    return 0;
}
