/* Threads: results, arguments, thread-local storage, errno, identity, detaching, joining errors.
 * traps: many
 */
#include "guest.h"
#include <semaphore.h>

static __thread int local = 7;
static pthread_key_t key;
static int destroyed;
static sem_t sem;

static void destroy(void *value) {
    __sync_fetch_and_add(&destroyed, (int)(long)value);
}

static void *worker(void *arg) {
    long n = (long)arg;
    local += n;
    errno = n;
    pthread_setspecific(key, (void *)n);
    for (int i = 0; i < 10; i++)
        sched_yield();
    if (local != 7 + n || errno != n || pthread_getspecific(key) != (void *)n)
        return (void *)-1L;
    return (void *)(n * n);
}

static void *identity(void *arg) {
    (void)arg;
    printf("pid same %d, tid other %d, tgkill itself %d\n", getpid() == getppid() ? 0 : 1,
           gettid() != getpid(), (int)syscall(SYS_tgkill, getpid(), gettid(), 0));
    return NULL;
}

static void *leaves(void *arg) {
    pthread_exit(arg);
}

static void *posts(void *arg) {
    sem_post(&sem);
    return arg;
}

int main(void) {
    pthread_t threads[10], t;
    void *result;
    long sum = 0;
    pthread_key_create(&key, destroy);
    for (long i = 0; i < 10; i++)
        pthread_create(&threads[i], NULL, worker, (void *)i);
    for (int i = 0; i < 10; i++) {
        pthread_join(threads[i], &result);
        sum += (long)result;
    }
    printf("sum %ld local %d destroyed %d\n", sum, local, destroyed);
    pthread_create(&t, NULL, identity, NULL);
    pthread_join(t, NULL);
    pthread_create(&t, NULL, leaves, (void *)123L);
    pthread_join(t, &result);
    printf("pthread_exit %ld\n", (long)result);
    printf("join oneself: %s\n", errno_name(pthread_join(pthread_self(), NULL)));

    sem_init(&sem, 0, 0);
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, 64 * 1024);
    for (int i = 0; i < 5; i++)
        pthread_create(&t, &attr, posts, NULL);
    for (int i = 0; i < 5; i++)
        sem_wait(&sem);
    printf("detached ones have run\n");
    for (int i = 0; i < 200; i++) { /* one after the other: stacks are reused */
        pthread_create(&t, NULL, worker, (void *)3L);
        pthread_join(t, &result);
        sum += (long)result;
    }
    printf("sum %ld\n", sum);
    return 0;
}
