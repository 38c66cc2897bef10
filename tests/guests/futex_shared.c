/* Futexes between processes: anonymous shared memory, a mapped file at two addresses, private not.
 * traps: many
 */
#include "guest.h"
#include <linux/futex.h>
#include <semaphore.h>

static long futex(void *addr, int op, unsigned value, const void *timeout) {
    return syscall(SYS_futex, addr, op, value, timeout, NULL, 0);
}

struct shared {
    sem_t ping, pong;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    long counter;
    int turn;
};

static void play(struct shared *s) {
    pthread_mutexattr_t ma;
    pthread_condattr_t ca;
    pthread_mutexattr_init(&ma);
    pthread_mutexattr_setpshared(&ma, PTHREAD_PROCESS_SHARED);
    pthread_condattr_init(&ca);
    pthread_condattr_setpshared(&ca, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&s->mutex, &ma);
    pthread_cond_init(&s->cond, &ca);
    sem_init(&s->ping, 1, 0);
    sem_init(&s->pong, 1, 0);
    pid_t pids[3];
    for (int i = 0; i < 3; i++) {
        pids[i] = MUST(fork());
        if (!pids[i]) {
            for (int j = 0; j < 300; j++) {
                pthread_mutex_lock(&s->mutex);
                while (s->turn % 3 != i)
                    pthread_cond_wait(&s->cond, &s->mutex);
                s->turn++;
                s->counter += i + 1;
                pthread_cond_broadcast(&s->cond);
                pthread_mutex_unlock(&s->mutex);
            }
            sem_wait(&s->ping);
            sem_post(&s->pong);
            _exit(0);
        }
    }
    for (int i = 0; i < 3; i++)
        sem_post(&s->ping);
    for (int i = 0; i < 3; i++)
        sem_wait(&s->pong);
    for (int i = 0; i < 3; i++)
        reap("player", pids[i]);
    printf("counter %ld turn %d\n", s->counter, s->turn);
}

int main(void) {
    play(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    int fd = MUST(open("file", O_RDWR | O_CREAT, 0600));
    MUST(ftruncate(fd, 2 * PAGE));
    play(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));

    /* Two mappings of one page are one futex; the private flag makes them two. */
    int *a = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, PAGE);
    int *b = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, PAGE);
    pid_t child = MUST(fork());
    if (!child) {
        a[1] = 1;
        long result = futex(a, FUTEX_WAIT, 0, NULL);
        _exit(result == 0 ? 1 : 2);
    }
    while (b[1] == 0)
        sched_yield();
    V(futex(b, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL));
    long woken = 0;
    while ((woken = futex(b, FUTEX_WAKE, 1, NULL)) == 0)
        sched_yield();
    printf("woken %ld\n", woken);
    reap("sleeper", child);

    /* After fork a private page is another futex. */
    int *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *p = 0;
    child = MUST(fork());
    if (!child) {
        struct timespec soon = {0, 20 * MS};
        _exit(futex(p, FUTEX_WAIT, 0, &soon) == -1 && errno == ETIMEDOUT ? 3 : 4);
    }
    for (int i = 0; i < 10; i++) {
        if (futex(p, FUTEX_WAKE, 1, NULL))
            printf("woke another's\n");
        sleep_ms(1);
    }
    reap("private sleeper", child);
    return 0;
}
