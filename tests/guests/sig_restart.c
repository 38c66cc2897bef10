/* SA_RESTART: read, write, wait, futex and locks go on; sleeps and polls do not.
 */
#include "guest.h"
#include <linux/futex.h>
#include <sys/epoll.h>
#include <sys/file.h>

static int wake[2];
static volatile sig_atomic_t ticks, limit, victim;
static volatile int word;

/* After three interruptions the call is given what it waits for. */
static void tick(int sig) {
    (void)sig;
    if (++ticks != limit)
        return;
    if (victim)
        kill(victim, SIGKILL);
    else if (word == 0) {
        word = 1;
        syscall(SYS_futex, &word, FUTEX_WAKE, 1, NULL, NULL, 0);
    } else
        (void)!write(wake[1], "x", 1);
}

static void clock_on(int on) {
    struct itimerval timer = {{0, on ? 5000 : 0}, {0, on ? 5000 : 0}};
    ticks = 0;
    limit = 3;
    setitimer(ITIMER_REAL, &timer, NULL);
}

#define UNDER_SIGNALS(call)                                                                        \
    do {                                                                                           \
        clock_on(1);                                                                               \
        errno = 0;                                                                                 \
        long result_ = (long)(call);                                                               \
        int error_ = errno, ticks_ = ticks;                                                        \
        clock_on(0);                                                                               \
        printf("%s: %s after %s interruptions\n", #call,                                           \
               result_ == -1 ? errno_name(error_) : "ok", ticks_ >= 3 ? "three" : "few");          \
    } while (0)

int main(void) {
    char buffer[65536] = {0};
    word = 5;
    handle(SIGALRM, tick, SA_RESTART);
    MUST(pipe(wake));
    UNDER_SIGNALS(read(wake[0], buffer, 1));

    /* A partial read is not restarted: what came is returned. */
    int p[2];
    MUST(pipe(p));
    MUST(write(p[1], "abc", 3));
    V(read(p[0], buffer, 100));

    /* A big write sleeps, is interrupted, and goes on where it was, until a reader empties. */
    int full[2];
    MUST(pipe(full));
    pid_t child = MUST(fork());
    if (!child) {
        close(full[1]);
        sleep_ms(60);
        long total = 0, size;
        while ((size = read(full[0], buffer, sizeof buffer)) > 0)
            total += size;
        printf("reader got %ld\n", total);
        _exit(0);
    }
    char *big = calloc(1, 200000);
    clock_on(1);
    long done = write(full[1], big, 200000);
    clock_on(0);
    IS(done >= 65536); /* cut short by a signal once something was written */
    while (done < 200000)
        done += MUST(write(full[1], big, 200000 - done));
    close(full[1]);
    reap("reader", child);

    child = MUST(fork());
    if (!child)
        for (;;)
            pause();
    victim = child;
    UNDER_SIGNALS(waitpid(child, NULL, 0));
    child = MUST(fork());
    if (!child)
        for (;;)
            pause();
    victim = child;
    siginfo_t info;
    UNDER_SIGNALS(waitid(P_ALL, 0, &info, WEXITED));
    victim = 0;
    word = 0;
    UNDER_SIGNALS(syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0));
    word = 5;

    struct timespec ask = {1000, 0};
    struct pollfd pfd = {p[0], POLLIN, 0};
    int ep = MUST(epoll_create1(0));
    struct epoll_event event;
    UNDER_SIGNALS(nanosleep(&ask, NULL));
    UNDER_SIGNALS(poll(&pfd, 1, -1));
    UNDER_SIGNALS(poll(&pfd, 1, 1000000));
    UNDER_SIGNALS(select(0, NULL, NULL, NULL, NULL));
    UNDER_SIGNALS(epoll_wait(ep, &event, 1, -1));
    UNDER_SIGNALS(pause());
    sigset_t set = set_of(SIGUSR1);
    UNDER_SIGNALS(sigtimedwait(&set, NULL, NULL));
    word = 6;
    UNDER_SIGNALS(syscall(SYS_futex, &word, FUTEX_WAIT, 6, &ask, NULL, 0));
    return 0;
}
