/* fork from a process of many threads: one thread in the child, atfork handlers, locks consistent.
 */
#include "guest.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static volatile int stop;
static volatile long work;

static void *works(void *arg) {
    while (!stop) {
        pthread_mutex_lock(&mutex);
        work++;
        pthread_mutex_unlock(&mutex);
        free(malloc(100));
    }
    return arg;
}

static void prepare(void) {
    pthread_mutex_lock(&mutex);
    printf("prepare\n");
}
static void parent(void) {
    printf("parent\n");
    pthread_mutex_unlock(&mutex);
}
static void child(void) {
    pthread_mutex_unlock(&mutex);
}

static int threads(void) {
    char line[128];
    int count = -1;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        sscanf(line, "Threads: %d", &count);
    fclose(status);
    return count;
}

static void *forks(void *arg) {
    pid_t leader = getpid();
    IN_CHILD("forked by a thread", IS(getpid() == gettid()); IS(getppid() == leader);
             printf("threads %d\n", threads()); pthread_t t; stop = 1;
             pthread_create(&t, NULL, works, NULL); pthread_join(t, NULL));
    return arg;
}

int main(void) {
    pthread_t t[5];
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, works, NULL);
    printf("threads %d\n", threads());
    pthread_create(&t[4], NULL, forks, NULL);
    pthread_join(t[4], NULL);
    for (int i = 0; i < 20; i++) {
        pid_t pid = MUST(fork());
        if (!pid) {
            free(malloc(1000)); /* the allocator's locks are whole */
            _exit(0);
        }
        int status;
        MUST(waitpid(pid, &status, 0));
        if (status)
            show_status("child", status);
    }
    pthread_atfork(prepare, parent, child);
    IN_CHILD("with handlers", pthread_mutex_lock(&mutex); pthread_mutex_unlock(&mutex));
    stop = 1;
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    IS(work > 0);
    return 0;
}
