/* What guests share: results printed by name, so that no number that may differ is printed. */
#ifndef GUEST_H
#define GUEST_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096L
#define MS 1000000L /* nanoseconds */

/* Lines leave whole, so that a fork never prints one twice. */
__attribute__((constructor)) static void guest_setup(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
}

static inline const char *errno_name(int error) {
    const char *name = strerrorname_np(error);
    return name ? name : "(no such error)";
}

static inline long guest_show(const char *text, long result, int with_value) {
    if (result == -1)
        printf("%s: %s\n", text, errno_name(errno));
    else if (with_value)
        printf("%s: %ld\n", text, result);
    else
        printf("%s: ok\n", text);
    return result;
}

/* A call and its result: E prints "ok" or the error, V the value or the error. */
#define E(call) guest_show(#call, (errno = 0, (long)(call)), 0)
#define V(call) guest_show(#call, (errno = 0, (long)(call)), 1)
/* A truth that must hold. */
#define IS(condition) printf("%s: %s\n", #condition, (condition) ? "yes" : "NO")
/* What must work for the guest to make sense. */
#define MUST(call)                                                                                 \
    ({                                                                                             \
        errno = 0;                                                                                 \
        long must_ = (long)(call);                                                                 \
        if (must_ == -1) {                                                                         \
            printf("line %d: %s: %s\n", __LINE__, #call, errno_name(errno));                       \
            exit(99);                                                                              \
        }                                                                                          \
        must_;                                                                                     \
    })

/* For signal handlers, where stdio may not be used. */
__attribute__((unused)) static void note(const char *text) {
    int saved = errno;
    (void)!write(1, text, strlen(text));
    errno = saved;
}

__attribute__((unused)) static const char *signal_name(int sig) {
    static char text[24];
    const char *name = sigabbrev_np(sig);
    if (name)
        snprintf(text, sizeof text, "SIG%s", name);
    else
        snprintf(text, sizeof text, "signal %d", sig);
    return text;
}

__attribute__((unused)) static void show_status(const char *who, int status) {
    if (WIFEXITED(status))
        printf("%s: exited with %d\n", who, WEXITSTATUS(status));
    else if (WIFSIGNALED(status))
        printf("%s: killed by %s\n", who, signal_name(WTERMSIG(status)));
    else if (WIFSTOPPED(status))
        printf("%s: stopped by %s\n", who, signal_name(WSTOPSIG(status)));
    else if (WIFCONTINUED(status))
        printf("%s: continued\n", who);
    else
        printf("%s: strange status %x\n", who, status);
}

/* Wait for one child and print how it ended. */
__attribute__((unused)) static void reap(const char *who, pid_t pid) {
    int status;
    MUST(waitpid(pid, &status, 0));
    show_status(who, status);
}

/* Run a statement in a child; print how it ended. */
#define IN_CHILD(who, ...)                                                                         \
    do {                                                                                           \
        pid_t child_ = MUST(fork());                                                               \
        if (child_ == 0) {                                                                         \
            __VA_ARGS__;                                                                           \
            exit(0);                                                                               \
        }                                                                                          \
        reap(who, child_);                                                                         \
    } while (0)

static inline void sleep_ms(long ms) {
    struct timespec left = {ms / 1000, ms % 1000 * MS};
    while (nanosleep(&left, &left) == -1 && errno == EINTR)
        ;
}

static inline long long now_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Install a handler. */
__attribute__((unused)) static void handle(int sig, void (*handler)(int), int flags) {
    struct sigaction act = {.sa_handler = handler, .sa_flags = flags};
    MUST(sigaction(sig, &act, NULL));
}

__attribute__((unused)) static void handle_info(int sig, void (*handler)(int, siginfo_t *, void *),
                                                int flags) {
    struct sigaction act = {.sa_sigaction = handler, .sa_flags = flags | SA_SIGINFO};
    MUST(sigaction(sig, &act, NULL));
}

__attribute__((unused)) static sigset_t set_of(int sig) {
    sigset_t set;
    sigemptyset(&set);
    if (sig)
        sigaddset(&set, sig);
    return set;
}

/* One byte through a pipe: "I am there". */
__attribute__((unused)) static void tell(int fd) {
    MUST(write(fd, "!", 1));
}

__attribute__((unused)) static void hear(int fd) {
    char byte;
    if (MUST(read(fd, &byte, 1)) != 1) {
        printf("the other side is gone\n");
        exit(98);
    }
}

__attribute__((unused)) static void write_file(const char *path, const void *data, size_t size,
                                               int mode) {
    int fd = MUST(open(path, O_WRONLY | O_CREAT | O_TRUNC, mode));
    if (size)
        MUST(write(fd, data, size));
    MUST(fchmod(fd, mode));
    MUST(close(fd));
}

#endif
