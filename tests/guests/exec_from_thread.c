/* exec from a thread: the others end, the pid is the leader's, memory and locks are gone.
 */
#include "guest.h"

static char program[PATH_MAX]; /* /proc/self/exe is gone once the leader has ended */

static void *spin(void *arg) {
    for (;;)
        sched_yield();
    return arg;
}

static void *blocked(void *arg) {
    for (;;)
        pause();
    return arg;
}

static void *executes(void *arg) {
    char pid[16];
    snprintf(pid, sizeof pid, "%d", getpid());
    if (arg)
        pthread_join(*(pthread_t *)arg, NULL);
    execl(program, program, pid, NULL);
    _exit(127);
}

static int threads(void) {
    char line[128];
    int count = -1;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        sscanf(line, "Threads: %d", &count);
    return count;
}

int main(int argc, char **argv) {
    MUST(readlink("/proc/self/exe", program, sizeof program - 1));
    if (argc > 1) {
        printf("pid kept %d, tid is pid %d, threads %d\n", atoi(argv[1]) == getpid(),
               gettid() == getpid(), threads());
        return 6;
    }
    IN_CHILD(
        "exec with company", pthread_t t; for (int i = 0; i < 3; i++) {
            pthread_create(&t, NULL, spin, NULL);
            pthread_create(&t, NULL, blocked, NULL);
        } pthread_create(&t, NULL, executes, NULL);
        pthread_join(t, NULL));
    IN_CHILD("exec after the leader ended", pthread_t leader = pthread_self(); pthread_t t;
             pthread_create(&t, NULL, executes, &leader); pthread_exit(NULL));
    IN_CHILD("exec from the leader", pthread_t t;
             for (int i = 0; i < 3; i++) pthread_create(&t, NULL, spin, NULL); executes(NULL));
    return 0;
}
