/* Calls that are stopped and continued while they sleep go on sleeping, for as long as was left.
 */
#include "guest.h"
#include <linux/futex.h>
#include <sys/epoll.h>

static int p[2];

static void stop_and_go(pid_t child) {
    int status;
    for (int i = 0; i < 3; i++) {
        sleep_ms(5);
        kill(child, SIGSTOP);
        MUST(waitpid(child, &status, WUNTRACED));
        if (!WIFSTOPPED(status)) {
            show_status("ended too soon", status);
            exit(1);
        }
        kill(child, SIGCONT);
    }
}

/* `ends`: by itself in time; if not, it is killed. */
#define STOPPED(what, ends, ...)                                                                   \
    do {                                                                                           \
        pid_t child_ = MUST(fork());                                                               \
        if (!child_) {                                                                             \
            errno = 0;                                                                             \
            long result_ = (long)(__VA_ARGS__);                                                    \
            printf("%s: %ld %s\n", what, result_, result_ == -1 ? errno_name(errno) : "");         \
            exit(3);                                                                               \
        }                                                                                          \
        stop_and_go(child_);                                                                       \
        if (!(ends)) {                                                                             \
            sleep_ms(20);                                                                          \
            kill(child_, SIGKILL);                                                                 \
        }                                                                                          \
        reap(what, child_);                                                                        \
    } while (0)

int main(void) {
    MUST(pipe(p));
    struct timespec some = {0, 200 * MS}, left = {5, 5};
    struct pollfd pfd = {p[0], POLLIN, 0};
    char byte;
    int word = 0;
    STOPPED("nanosleep", 1, nanosleep(&some, &left));
    STOPPED("poll", 1, poll(&pfd, 1, 200));
    STOPPED("poll for ever", 0, poll(&pfd, 1, -1));
    STOPPED("read", 0, read(p[0], &byte, 1));
    STOPPED("futex", 1, syscall(SYS_futex, &word, FUTEX_WAIT, 0, &some, NULL, 0));
    STOPPED("select", 1, select(0, NULL, NULL, NULL, &(struct timeval){0, 200000}));
    STOPPED("wait", 1, ({
                pid_t c = fork();
                if (!c) {
                    sleep_ms(200);
                    _exit(0);
                }
                waitpid(c, NULL, 0) == c;
            }));
    STOPPED("pause", 0, pause());
    sigset_t none;
    sigemptyset(&none);
    STOPPED("sigsuspend", 0, sigsuspend(&none));

    /* The sleep takes its time in all, not from the stop on. */
    long long before = now_ns(CLOCK_MONOTONIC);
    STOPPED("nanosleep", 1, nanosleep(&some, &left));
    long long took = now_ns(CLOCK_MONOTONIC) - before;
    IS(took >= 200 * MS);
    return 0;
}
