/* Calls that a handler without SA_RESTART interrupts: EINTR from each.
 */
#include "guest.h"
#include <linux/futex.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/select.h>

static volatile sig_atomic_t ticks;

static void tick(int sig) {
    (void)sig;
    ticks++;
}

/* A signal every 5 ms, so that none can be lost before the call sleeps. */
static void clock_on(int on) {
    struct itimerval timer = {{0, on ? 5000 : 0}, {0, on ? 5000 : 0}};
    setitimer(ITIMER_REAL, &timer, NULL);
}

#define EINTR_FROM(call)                                                                           \
    do {                                                                                           \
        clock_on(1);                                                                               \
        errno = 0;                                                                                 \
        long result_ = (long)(call);                                                               \
        int error_ = errno;                                                                        \
        clock_on(0);                                                                               \
        printf("%s: %s\n", #call, result_ == -1 ? errno_name(error_) : "ok");                      \
    } while (0)

int main(void) {
    int p[2], full[2];
    char buffer[70000];
    handle(SIGALRM, tick, 0);
    MUST(pipe(p));
    MUST(pipe(full));
    memset(buffer, 0, sizeof buffer);
    MUST(write(full[1], buffer, 65536));
    EINTR_FROM(read(p[0], buffer, 1));
    EINTR_FROM(write(full[1], buffer, 1));
    EINTR_FROM(write(full[1], buffer, 10000));

    struct timespec ask = {1000, 0}, left = {0, 0};
    EINTR_FROM(nanosleep(&ask, &left));
    IS(left.tv_sec >= 990 && left.tv_sec < 1000);
    clock_on(1);
    left.tv_sec = 0;
    printf("clock_nanosleep: %s\n", errno_name(clock_nanosleep(CLOCK_MONOTONIC, 0, &ask, &left)));
    IS(left.tv_sec >= 990 && left.tv_sec < 1000);
    ask.tv_sec = now_ns(CLOCK_MONOTONIC) / 1000000000 + 1000;
    left.tv_sec = 5;
    printf("absolute: %s\n",
           errno_name(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ask, &left)));
    clock_on(0);
    IS(left.tv_sec == 5); /* untouched */

    struct pollfd pfd = {p[0], POLLIN, 0};
    EINTR_FROM(poll(&pfd, 1, -1));
    EINTR_FROM(poll(NULL, 0, 1000000));
    struct timespec long_time = {1000, 0};
    EINTR_FROM(ppoll(&pfd, 1, &long_time, NULL));
    fd_set fds;
    FD_ZERO(&fds);
    FD_SET(p[0], &fds);
    EINTR_FROM(select(p[0] + 1, &fds, NULL, NULL, NULL));
    struct timeval tv = {1000, 0};
    FD_SET(p[0], &fds);
    EINTR_FROM(select(p[0] + 1, &fds, NULL, NULL, &tv));
    IS(tv.tv_sec >= 990 && tv.tv_sec < 1000); /* what was left */
    int ep = MUST(epoll_create1(0));
    struct epoll_event event = {.events = EPOLLIN};
    MUST(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &event));
    EINTR_FROM(epoll_wait(ep, &event, 1, -1));

    pid_t child = MUST(fork());
    if (!child) {
        char byte;
        close(p[1]);
        (void)!read(p[0], &byte, 1);
        _exit(0);
    }
    int status;
    siginfo_t info;
    EINTR_FROM(waitpid(child, &status, 0));
    EINTR_FROM(waitid(P_ALL, 0, &info, WEXITED));
    int word = 0;
    EINTR_FROM(syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0));
    EINTR_FROM(syscall(SYS_futex, &word, FUTEX_WAIT, 0, &long_time, NULL, 0));
    sem_t sem;
    sem_init(&sem, 0, 0);
    EINTR_FROM(sem_wait(&sem));
    EINTR_FROM(pause());

    write_file("lock", "", 0, 0644);
    int fd1 = MUST(open("lock", O_RDWR)), fd2 = MUST(open("lock", O_RDWR));
    MUST(flock(fd1, LOCK_EX));
    EINTR_FROM(flock(fd2, LOCK_EX));
    MUST(mkfifo("fifo", 0600));
    EINTR_FROM(open("fifo", O_RDONLY));
    IS(ticks > 0);
    kill(child, SIGKILL);
    reap("child", child);
    return 0;
}
