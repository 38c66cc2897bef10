/* Every pointer argument of many calls, given each kind of bad pointer: the error of each.
 * traps: many
 */
#include "guest.h"
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/times.h>
#include <sys/utsname.h>

#define IN 1000001   /* read by the kernel */
#define OUT 1000002  /* written by the kernel */
#define PATH 1000003 /* a name */

static const struct {
    const char *name;
    long nr, args[6];
} calls[] = {
#define CALL(name, ...)                                                                            \
    {                                                                                              \
        #name, SYS_##name, {                                                                       \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
    CALL(read, 10, OUT, 64),
    CALL(write, 11, IN, 64),
    CALL(pread64, 10, OUT, 64, 0),
    CALL(pwrite64, 11, IN, 64, 0),
    CALL(readv, 10, IN, 2),
    CALL(writev, 11, IN, 2),
    CALL(open, PATH, O_RDONLY, 0),
    CALL(openat, AT_FDCWD, PATH, O_RDONLY, 0),
    CALL(stat, PATH, 1),
    CALL(lstat, PATH, 1),
    CALL(fstat, 10, OUT),
    CALL(newfstatat, AT_FDCWD, PATH, 1, 0),
    CALL(statx, AT_FDCWD, PATH, 0, 0x7ff, 1),
    CALL(access, PATH, 0),
    CALL(faccessat, AT_FDCWD, PATH, 0),
    CALL(pipe, OUT),
    CALL(pipe2, OUT, 0),
    CALL(getcwd, OUT, 64),
    CALL(chdir, PATH),
    CALL(mkdir, PATH, 0755),
    CALL(rmdir, PATH),
    CALL(unlink, PATH),
    CALL(unlinkat, AT_FDCWD, PATH, 0),
    CALL(rename, PATH, PATH),
    CALL(link, PATH, PATH),
    CALL(symlink, PATH, PATH),
    CALL(readlink, PATH, 1, 64),
    CALL(chmod, PATH, 0644),
    CALL(chown, PATH, 0, 0),
    CALL(truncate, PATH, 0),
    CALL(mknod, PATH, S_IFREG, 0),
    CALL(creat, PATH, 0644),
    CALL(chroot, PATH),
    CALL(statfs, PATH, 1),
    CALL(fstatfs, 10, OUT),
    CALL(getdents64, 12, OUT, 200),
    CALL(uname, OUT),
    CALL(sysinfo, OUT),
    CALL(times, OUT),
    CALL(getrusage, RUSAGE_SELF, OUT),
    CALL(getrlimit, RLIMIT_CORE, OUT),
    CALL(setrlimit, RLIMIT_CORE, IN),
    CALL(gettimeofday, OUT, 0),
    CALL(clock_gettime, CLOCK_MONOTONIC, OUT),
    CALL(clock_getres, CLOCK_MONOTONIC, OUT),
    CALL(nanosleep, IN, 0),
    CALL(clock_nanosleep, CLOCK_MONOTONIC, 0, IN, 0),
    CALL(getresuid, OUT, OUT, OUT),
    CALL(getresgid, OUT, OUT, OUT),
    CALL(rt_sigaction, SIGUSR1, IN, 0, 8),
    CALL(rt_sigaction, SIGUSR1, 0, OUT, 8),
    CALL(rt_sigprocmask, SIG_BLOCK, IN, 0, 8),
    CALL(rt_sigprocmask, SIG_BLOCK, 0, OUT, 8),
    CALL(rt_sigpending, OUT, 8),
    CALL(rt_sigsuspend, IN, 8),
    CALL(sigaltstack, IN, 0),
    CALL(sigaltstack, 0, OUT),
    CALL(setitimer, ITIMER_VIRTUAL, IN, 0),
    CALL(getitimer, ITIMER_VIRTUAL, OUT),
    CALL(timer_create, CLOCK_MONOTONIC, 0, OUT),
    CALL(poll, IN, 1, 0),
    CALL(select, 5, IN, 0, 0, 1),
    CALL(epoll_ctl, 13, EPOLL_CTL_ADD, 10, IN),
    CALL(socketpair, AF_UNIX, SOCK_STREAM, 0, OUT),
    CALL(sched_getaffinity, 0, 128, OUT),
    CALL(sched_setaffinity, 0, 8, IN),
    CALL(sched_getparam, 0, OUT),
    CALL(getrandom, OUT, 64, 0),
    CALL(futex, IN, 0 /* WAIT */, 12345, 0, 0, 0),
    CALL(futex, IN, 3 /* REQUEUE */, 1, 1, IN, 0),
    CALL(set_robust_list, 0, 1),
    CALL(getgroups, 100, 0),
    CALL(utimensat, AT_FDCWD, PATH, 0, 0),
    CALL(sendfile, 11, 10, IN, 10),
    CALL(mincore, 0x10000, 4096, OUT),
    CALL(memfd_create, PATH, 0),
    CALL(capget, IN, 0),
    CALL(prctl, 15 /* PR_SET_NAME */, PATH),
    CALL(prctl, 16 /* PR_GET_NAME */, OUT),
    CALL(wait4, -1, 1, 0, 0),
    CALL(execve, PATH, 0, 0),
    CALL(fcntl, 10, F_GETLK, IN),
    CALL(prlimit64, 0, RLIMIT_CORE, 0, OUT),
};

static char *pages;

/* Call number `i` with each bad pointer as argument `marked`, the other ones being good. */
static void try(int i, int marked) {
    long bad[] = {1,
                  (long)pages + PAGE,     /* unmapped */
                  (long)pages + 3 * PAGE, /* no rights */
                  0xffff888000000000,     /* the kernel's half */
                  0x7ffffffff000,         /* the page below it */
                  (long)pages + PAGE - 2, /* good for two bytes only */
                  (long)pages + 4 * PAGE /* read-only */};
    int kinds = calls[i].args[marked] == OUT ? 7 : 6;
    printf("%s argument %d:", calls[i].name, marked);
    for (int kind = 0; kind < kinds; kind++) {
        long a[6];
        for (int k = 0; k < 6; k++)
            a[k] = calls[i].args[k] == PATH                            ? (long)"nonexistent"
                   : calls[i].args[k] == IN || calls[i].args[k] == OUT ? (long)pages + 2 * PAGE
                                                                       : calls[i].args[k];
        a[marked] = bad[kind];
        memset(pages, 'x', PAGE); /* a name that never ends within its page */
        lseek(10, 0, SEEK_SET);
        lseek(12, 0, SEEK_SET);
        errno = 0;
        long result = syscall(calls[i].nr, a[0], a[1], a[2], a[3], a[4], a[5]);
        printf(" %s", result == -1 ? errno_name(errno) : result ? "some" : "0");
    }
    printf("\n");
}

int main(void) {
    /* 0: good, 1: unmapped, 2: good, 3: no rights, 4: good and read-only */
    pages = mmap(NULL, 6 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(pages, 0, 6 * PAGE);
    MUST(munmap(pages + PAGE, PAGE));
    MUST(mprotect(pages + 3 * PAGE, PAGE, PROT_NONE));
    MUST(mprotect(pages + 4 * PAGE, PAGE, PROT_READ));
    static char big[4096];
    write_file("file", big, sizeof big, 0644);
    MUST(dup2(MUST(open("file", O_RDWR)), 10));
    MUST(dup2(MUST(open("out", O_RDWR | O_CREAT, 0644)), 11));
    MUST(dup2(MUST(open(".", O_RDONLY)), 12));
    MUST(dup2(MUST(epoll_create1(0)), 13));
    for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++)
        for (int marked = 0; marked < 6; marked++)
            if (calls[i].args[marked] >= IN && calls[i].args[marked] <= PATH)
                try(i, marked);
    return 0;
}
