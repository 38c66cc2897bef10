/*
 * micro.c - one small operation, many times, each timed with the processor's
 * own counter.
 *
 *     micro WHAT COUNT [PARAMETER]
 *
 * writes COUNT samples (64-bit ticks of `rdtsc`, one operation each) to standard
 * output.  The same static binary runs in a machine and on the host, so that
 * the two can stand beside each other.  Warming up (a tenth of COUNT) is not
 * among the samples.  Exit status 2: wrong use, 1: something failed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096
#define ANONYMOUS (MAP_PRIVATE | MAP_ANONYMOUS)

static const char *self;

static inline uint64_t now(void) {
    uint32_t low, high;
    __asm__ volatile("lfence\n\trdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}

static void check(int good, const char *what) {
    if (!good) {
        perror(what);
        exit(1);
    }
}

static void *pages(size_t count, int flags) {
    void *at = mmap(NULL, count * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);
    check(at != MAP_FAILED, "mmap");
    return at;
}

static void touch(volatile char *at, size_t count) {
    for (size_t i = 0; i < count; i++)
        at[i * PAGE] = 1;
}

/* Run `once` warm times, then count times, keeping what each took. */
#define MEASURE(samples, count, once)                                                              \
    do {                                                                                           \
        for (long i_ = 0; i_ < (count) / 10 + 1; i_++) {                                           \
            once;                                                                                  \
        }                                                                                          \
        for (long i_ = 0; i_ < (count); i_++) {                                                    \
            uint64_t start_ = now();                                                               \
            once;                                                                                  \
            (samples)[i_] = now() - start_;                                                        \
        }                                                                                          \
    } while (0)

/* A null call.  It carries, in the registers of arguments that it does not have,
 * when it began and when the one before ended: whoever answers it can tell where
 * the time went. */
static void null_call(uint64_t *samples, long count, long parameter) {
    register uint64_t ended __asm__("r8") = 0;
    register uint64_t began __asm__("r9");
    (void)parameter;
    for (long i = -(count / 10 + 1); i < count; i++) {
        long result = SYS_getppid;
        began = now();
        __asm__ volatile("syscall"
                         : "+a"(result)
                         : "r"(ended), "r"(began)
                         : "rcx", "r11", "memory");
        uint64_t end = now();
        if (i >= 0)
            samples[i] = end - began;
        ended = end;
    }
}

/* `tasks` processes that do nothing but give way, each touching `bytes` of its
 * own memory at each turn.  A sample is what a switch took, averaged over the
 * time until the first of them runs again; giving way to oneself is no switch. */
static void ring(uint64_t *samples, long count, long tasks, long bytes) {
    volatile long *shared = pages(1, MAP_SHARED | MAP_ANONYMOUS);
    volatile long *switches = shared, *last = shared + 8, *stop = shared + 16, *ready = shared + 24;
    size_t touched = (bytes + PAGE - 1) / PAGE;
    int gate[2];
    char byte;
    check(!pipe(gate), "pipe");
    for (long i = 1; i < tasks; i++) {
        pid_t child = fork();
        check(child >= 0, "fork");
        if (child == 0) {
            volatile char *own = touched ? pages(touched, ANONYMOUS) : NULL;
            close(gate[1]);
            touch(own, touched);
            check(read(gate[0], &byte, 1) == 0, "read");
            __atomic_add_fetch(ready, 1, __ATOMIC_SEQ_CST);
            while (!*stop) {
                if (*last != i) {
                    *last = i;
                    ++*switches;
                }
                touch(own, touched);
                sched_yield();
            }
            _exit(0);
        }
    }
    close(gate[1]);
    volatile char *own = touched ? pages(touched, ANONYMOUS) : NULL;
    while (*ready < tasks - 1)
        sched_yield();
    for (long i = -(count / 10 + 1); i < count; i++) {
        *last = 0;
        long before = ++*switches;
        uint64_t start = now();
        do {
            touch(own, touched);
            sched_yield();
        } while (*switches == before);
        uint64_t took = now() - start;
        if (i >= 0)
            samples[i] = took / (*switches + 1 - before);
    }
    *stop = 1;
    while (wait(NULL) > 0)
        ;
}

/* A byte there and back between two processes. */
static void pipe_round_trip(uint64_t *samples, long count, long parameter) {
    int there[2], back[2];
    char byte = 0;
    (void)parameter;
    check(!pipe(there) && !pipe(back), "pipe");
    pid_t child = fork();
    check(child >= 0, "fork");
    if (child == 0) {
        close(there[1]);
        while (read(there[0], &byte, 1) == 1)
            if (write(back[1], &byte, 1) != 1)
                _exit(1);
        _exit(0);
    }
    MEASURE(samples, count, {
        if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
            check(0, "pipe round trip");
    });
    close(there[1]);
    waitpid(child, NULL, 0);
}

static void reap(pid_t child) {
    int status;
    check(child > 0 && waitpid(child, &status, 0) == child && status == 0, "child");
}

static pid_t spawn(int exec) {
    pid_t child = exec == 2 ? vfork() : fork();
    if (child == 0) {
        if (exec)
            execl(self, self, "nothing", NULL);
        _exit(exec ? 1 : 0);
    }
    return child;
}

static void fork_exit_wait(uint64_t *samples, long count, long parameter) {
    (void)parameter;
    MEASURE(samples, count, reap(spawn(0)));
}

static void fork_exec_wait(uint64_t *samples, long count, long parameter) {
    (void)parameter;
    MEASURE(samples, count, reap(spawn(1)));
}

static void vfork_exec_wait(uint64_t *samples, long count, long parameter) {
    (void)parameter;
    MEASURE(samples, count, reap(spawn(2)));
}

/* Fresh anonymous pages touched in order; a sample is one mapping's time
 * divided by its pages (1,024 by default).  Huge pages are off. */
static void fault(uint64_t *samples, long count, long parameter) {
    size_t number = parameter > 0 ? parameter : 1024;
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    for (long i = -(count / 10 + 1); i < count; i++) {
        char *at = pages(number, ANONYMOUS);
        uint64_t start = now();
        touch(at, number);
        uint64_t took = now() - start;
        if (i >= 0)
            samples[i] = took / number;
        munmap(at, number * PAGE);
    }
}

static void map_unmap(uint64_t *samples, long count, long parameter) {
    size_t number = parameter > 0 ? parameter : 16;
    MEASURE(samples, count, munmap(pages(number, ANONYMOUS), number * PAGE));
}

static void map_touch_unmap(uint64_t *samples, long count, long parameter) {
    size_t number = parameter > 0 ? parameter : 1;
    MEASURE(samples, count, {
        char *at = pages(number, ANONYMOUS);
        touch(at, number);
        munmap(at, number * PAGE);
    });
}

static void *nothing(void *argument) {
    return argument;
}

static void thread_create_join(uint64_t *samples, long count, long parameter) {
    pthread_t thread;
    (void)parameter;
    MEASURE(samples, count, {
        check(!pthread_create(&thread, NULL, nothing, NULL), "pthread_create");
        pthread_join(thread, NULL);
    });
}

/* Blocks of a file or disk: `mode` is bit 0 for writing, bit 1 for random places.
 * In order 64 KiB each, else 4 KiB; a sample is one of BATCH operations, whose
 * writes reach the disk. */
#define BATCH 32
static void blocks(uint64_t *samples, long count, long mode, const char *path) {
    static char buffer[65536] __attribute__((aligned(PAGE)));
    size_t size = mode & 2 ? 4096 : sizeof buffer;
    int fd = open(path, mode & 1 ? O_RDWR : O_RDONLY);
    off_t end = lseek(fd, 0, SEEK_END), at = 0;
    uint64_t x = 88172645463325252u;
    check(fd >= 0 && end >= (off_t)sizeof buffer, path);
    for (long i = 0; i < count; i++) {
        uint64_t start = now();
        for (int j = 0; j < BATCH; j++) {
            if (mode & 2) {
                x ^= x << 13, x ^= x >> 7, x ^= x << 17;
                at = (off_t)(x % (uint64_t)(end / 4096)) * 4096;
            } else if (at + (off_t)size > end) {
                at = 0;
            }
            ssize_t n = mode & 1 ? pwrite(fd, buffer, size, at) : pread(fd, buffer, size, at);
            check(n == (ssize_t)size, "block");
            at += n;
        }
        check(!(mode & 1) || !fdatasync(fd), "fdatasync");
        samples[i] = (now() - start) / BATCH;
    }
    close(fd);
}

/* Arithmetic that never calls the kernel: `parameter` million rounds a sample. */
static void compute(uint64_t *samples, long count, long parameter) {
    long rounds = (parameter > 0 ? parameter : 50) * 1000000;
    uint64_t x = 88172645463325252u;
    MEASURE(samples, count, {
        for (long i = 0; i < rounds; i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
        }
        __asm__ volatile("" : "+r"(x));
    });
}

/* As compute, twice at once: a sample is the time until both are done. */
static void compute_pair(uint64_t *samples, long count, long parameter) {
    uint64_t *inner = calloc(2, sizeof *inner);
    check(inner != NULL, "calloc");
    for (long i = 0; i < count; i++) {
        uint64_t start = now();
        pid_t child = fork();
        check(child >= 0, "fork");
        compute(inner, 1, parameter);
        if (child == 0)
            _exit(0);
        reap(child);
        samples[i] = now() - start;
    }
    free(inner);
}

/* Spin until killed: a guest that never calls the kernel. */
static void spin(void) {
    for (;;)
        __asm__ volatile("pause");
}

static const struct {
    const char *name;
    void (*run)(uint64_t *samples, long count, long parameter);
} table[] = {
    {"null", null_call},      {"pipe", pipe_round_trip},  {"fork", fork_exit_wait},
    {"exec", fork_exec_wait}, {"vexec", vfork_exec_wait}, {"fault", fault},
    {"mmap", map_unmap},      {"touch", map_touch_unmap}, {"thread", thread_create_join},
    {"compute", compute},     {"compute2", compute_pair},
};

static void put(const void *data, size_t bytes) {
    while (bytes) {
        ssize_t n = write(1, data, bytes);
        check(n > 0, "write");
        data = (const char *)data + n;
        bytes -= n;
    }
}

int main(int argc, char **argv) {
    self = argv[0];
    if (argc < 2)
        return 2;
    if (argc == 2 && !strcmp(argv[1], "nothing"))
        return 0;
    if (argc == 2 && !strcmp(argv[1], "spin"))
        spin();
    long count = argc > 2 ? atol(argv[2]) : 0;
    long parameter = argc > 3 ? atol(argv[3]) : 0;
    if (count <= 0 || count > 10000000)
        return 2;
    uint64_t *samples = malloc(count * sizeof *samples);
    check(samples != NULL, "malloc");
    memset(samples, 0, count * sizeof *samples);
    if (!strcmp(argv[1], "ring")) {
        ring(samples, count, parameter > 0 ? parameter : 2, argc > 4 ? atol(argv[4]) : 0);
        put(samples, count * sizeof *samples);
        return 0;
    }
    if (!strcmp(argv[1], "blocks") && argc == 5) {
        blocks(samples, count, parameter, argv[4]);
        put(samples, count * sizeof *samples);
        return 0;
    }
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (!strcmp(argv[1], table[i].name)) {
            table[i].run(samples, count, parameter);
            put(samples, count * sizeof *samples);
            return 0;
        }
    return 2;
}
