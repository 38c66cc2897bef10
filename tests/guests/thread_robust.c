/* Robust mutexes: a thread or process that dies with the lock leaves EOWNERDEAD to the next.
 */
#include "guest.h"

static pthread_mutex_t *mutex;

static void make(int shared) {
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    if (shared)
        pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(mutex, &attr);
}

static void *dies(void *arg) {
    pthread_mutex_lock(mutex);
    return arg;
}

static void *waits(void *arg) {
    *(int *)arg = pthread_mutex_lock(mutex);
    pthread_mutex_consistent(mutex);
    pthread_mutex_unlock(mutex);
    return NULL;
}

int main(void) {
    pthread_t t;
    mutex = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    make(0);
    pthread_create(&t, NULL, dies, NULL);
    pthread_join(t, NULL);
    printf("thread died: %s\n", errno_name(pthread_mutex_lock(mutex)));
    printf("consistent: %s\n", errno_name(pthread_mutex_consistent(mutex)));
    pthread_mutex_unlock(mutex);
    printf("locked again: %s\n", errno_name(pthread_mutex_lock(mutex)));
    pthread_mutex_unlock(mutex);

    pthread_create(&t, NULL, dies, NULL);
    pthread_join(t, NULL);
    printf("thread died: %s\n", errno_name(pthread_mutex_lock(mutex)));
    pthread_mutex_unlock(mutex); /* not made consistent */
    printf("given up: %s\n", errno_name(pthread_mutex_lock(mutex)));

    make(1);
    IN_CHILD("killed with the lock", pthread_mutex_lock(mutex); raise(SIGKILL));
    printf("process died: %s\n", errno_name(pthread_mutex_lock(mutex)));
    pthread_mutex_consistent(mutex);
    pthread_mutex_unlock(mutex);
    IN_CHILD("exec with the lock", pthread_mutex_lock(mutex); execl("/bin/true", "true", NULL));
    printf("process executed another: %s\n", errno_name(pthread_mutex_lock(mutex)));
    pthread_mutex_consistent(mutex);
    pthread_mutex_unlock(mutex);

    /* One that sleeps for the lock is woken by the death. */
    int ready[2], error = 0;
    MUST(pipe(ready));
    pid_t child = MUST(fork());
    if (!child) {
        pthread_mutex_lock(mutex);
        tell(ready[1]);
        sleep_ms(30);
        _exit(0);
    }
    hear(ready[0]);
    pthread_create(&t, NULL, waits, &error);
    pthread_join(t, NULL);
    printf("waiter woken: %s\n", errno_name(error));
    reap("owner", child);

    struct robust_list_head *head;
    size_t size;
    E(syscall(SYS_get_robust_list, 0, &head, &size));
    printf("size %zu\n", size);
    E(syscall(SYS_set_robust_list, head, size + 1));
    E(syscall(SYS_get_robust_list, 1 << 22, &head, &size));
    return 0;
}
