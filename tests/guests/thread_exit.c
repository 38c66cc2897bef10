/* A process lives until its last thread ends, or one calls exit or dies of a signal.
 */
#include "guest.h"

static char state_of_leader(void) {
    char text[256] = "";
    int fd = open("/proc/self/stat", O_RDONLY);
    (void)!read(fd, text, sizeof text - 1);
    close(fd);
    return strrchr(text, ')')[2];
}

static void *outlives(void *arg) {
    pthread_join(*(pthread_t *)arg, NULL);
    while (state_of_leader() != 'Z')
        sleep_ms(1);
    printf("leader is a zombie, pid %d\n", getpid() != gettid());
    return NULL;
}

static void *exits(void *arg) {
    exit((int)(long)arg);
}
static void *segfaults(void *arg) {
    *(volatile int *)arg = 1;
    return NULL;
}
static void *raises(void *arg) {
    raise((int)(long)arg);
    return NULL;
}
static void *bare_exit(void *arg) {
    syscall(SYS_exit, (int)(long)arg);
    return NULL;
}
static void *spins(void *arg) {
    for (;;)
        ;
    return arg;
}

static void start(void *(*f)(void *), void *arg) {
    pthread_t t;
    pthread_create(&t, NULL, f, arg);
}

int main(void) {
    IN_CHILD("leader leaves", pthread_t me = pthread_self(); start(outlives, &me);
             pthread_exit(NULL));
    IN_CHILD("exit while others spin", start(spins, NULL); start(spins, NULL);
             start(exits, (void *)12L); pthread_exit(NULL));
    IN_CHILD("fault in a thread", start(spins, NULL); start(segfaults, (void *)8);
             pthread_exit(NULL));
    IN_CHILD("SIGTERM in a thread", start(raises, (void *)(long)SIGTERM); for (;;) pause());
    IN_CHILD("SYS_exit of a thread only", start(bare_exit, (void *)5L); sleep_ms(10); exit(6));
    IN_CHILD("last SYS_exit gives the status of the leader", start(bare_exit, (void *)5L);
             sleep_ms(10); syscall(SYS_exit, 7));
    IN_CHILD(
        "kill from outside", start(spins, NULL); pid_t pid = getpid(); if (!fork()) {
            kill(pid, SIGKILL);
            _exit(0);
        } for (;;) pause());
    return 0;
}
