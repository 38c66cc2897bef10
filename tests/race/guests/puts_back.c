/* Changes everything that a program can change, and fails if it finds it changed already.
 *
 * args: without any, the whole; "child", the end of a fork and exec; "touch", a small program
 *       that writes one word of everything.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHECK(what) ((what) ? (void)0 : fail(__LINE__, #what))

static void fail(int line, const char *what) {
    dprintf(2, "line %d: %s\n", line, what);
    _exit(1);
}

static volatile int counter, alarms;
static int pipe_ends[2];
static char *page;
static char *heap;
static char *program;
static unsigned char random_byte[2];

static void on_alarm(int sig) {
    (void)sig;
    alarms++;
}

static void *files(void *arg) {
    (void)arg;
    char text[32] = "";
    struct stat status;
    int fd = open("kept", O_RDWR | O_APPEND);
    CHECK(fd >= 0 && read(fd, text, sizeof text - 1) == 7 && !strcmp(text, "before\n"));
    CHECK(fstat(fd, &status) == 0 && status.st_size == 7 && status.st_nlink == 1);
    CHECK(write(fd, "after\n", 6) == 6);
    CHECK(link("kept", "second") == 0 && ftruncate(fd, 3) == 0 && close(fd) == 0);
    CHECK(access("made", F_OK) != 0 && mkdir("made", 0700) == 0);
    CHECK(symlink("kept", "made/link") == 0);
    CHECK(unlink("given") == 0 && rename("second", "given") == 0);
    CHECK(chmod("given", 0400) == 0 && chdir("made") == 0);
    counter++;
    return 0;
}

static void *memory(void *arg) {
    (void)arg;
    CHECK(!strcmp(page, "page") && !strcmp(heap, "heap"));
    counter++;
    strcpy(heap, "spoilt");
    for (int i = 0; i < 3; i++) {
        char *more = mmap(0, 3 << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(more != MAP_FAILED && !more[0] && !more[2 << 12]);
        more[0] = more[2 << 12] = 1;
        if (i)
            CHECK(munmap(more, 2 << 12) == 0);
    }
    CHECK(mprotect(page, 1 << 12, PROT_READ) == 0 && munmap(page, 1 << 12) == 0);
    free(malloc(1 << 20));
    CHECK(sbrk(1 << 16) != (void *)-1);
    CHECK(getrandom(random_byte, 1, 0) == 1);
    return 0;
}

static void *processes(void *arg) {
    (void)arg;
    int status;
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        execl(program, program, "child", (char *)0);
        _exit(9);
    }
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 5);
    counter++;
    pid = fork();
    if (pid == 0)
        pause();
    CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
    dprintf(1, "pid %d\n", pid);
    return 0;
}

static void *times(void *arg) {
    (void)arg;
    char byte;
    struct timespec second = {.tv_sec = 1}, now;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    CHECK(signal(SIGALRM, on_alarm) == SIG_DFL && alarms == 0);
    pthread_sigmask(SIG_UNBLOCK, &set, 0);
    struct itimerval soon = {.it_value = {.tv_usec = 1000}},
                     long_after = {.it_value = {.tv_sec = 9}};
    CHECK(setitimer(ITIMER_REAL, &soon, 0) == 0);
    nanosleep(&second, 0);
    nanosleep(&second, 0);
    CHECK(alarms == 1 && setitimer(ITIMER_REAL, &long_after, 0) == 0);
    CHECK(fcntl(pipe_ends[0], F_SETFL, O_NONBLOCK) == 0);
    CHECK(read(pipe_ends[0], &byte, 1) == 1 && byte == 'p' && read(pipe_ends[0], &byte, 1) < 0);
    CHECK(write(pipe_ends[1], "left over", 9) == 9);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, 0);
    raise(SIGUSR1);
    clock_gettime(CLOCK_MONOTONIC, &now);
    dprintf(1, "time %ld.%09ld\n", (long)now.tv_sec, now.tv_nsec);
    counter++;
    return 0;
}

static void *touch(void *arg) {
    (void)arg;
    counter++;
    return 0;
}

int main(int argc, char **argv) {
    static void *(*const all[])(void *) = {files, memory, processes, times};
    pthread_t threads[4];
    program = argv[0];
    if (argc > 1 && !strcmp(argv[1], "child"))
        return 5;
    int fd = open("kept", O_CREAT | O_TRUNC | O_WRONLY, 0600);
    CHECK(write(fd, "before\n", 7) == 7 && close(fd) == 0);
    CHECK(close(open("given", O_CREAT | O_TRUNC | O_WRONLY, 0600)) == 0);
    CHECK(pipe(pipe_ends) == 0 && write(pipe_ends[1], "p", 1) == 1);
    page = mmap(0, 1 << 12, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    strcpy(page, "page");
    heap = strdup("heap");
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &set, 0);
    int n = argc > 1 ? 1 : 4;
    for (int i = 0; i < n; i++)
        pthread_create(&threads[i], 0, argc > 1 ? touch : all[i], 0);
    for (int i = 0; i < n; i++)
        pthread_join(threads[i], 0);
    int total = counter;
    CHECK(getrandom(random_byte + 1, 1, 0) == 1);
    printf("%d done, random %d %d\n", total, random_byte[0], random_byte[1]);
    return 0;
}
