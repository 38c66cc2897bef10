/* Advisory locks: flock, fcntl by range, open file descriptions; who conflicts, what releases.
 */
#include "guest.h"
#include <sys/file.h>

#ifndef F_OFD_SETLK
#define F_OFD_GETLK 36
#define F_OFD_SETLK 37
#define F_OFD_SETLKW 38
#endif

static struct flock range(int type, long start, long length) {
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
}

#define LOCK(fd, command, type, start, length)                                                     \
    ({                                                                                             \
        struct flock l_ = range(type, start, length);                                              \
        long r_ = fcntl(fd, command, &l_);                                                         \
        printf("%s %s %d+%d: %s\n", #command, #type, start, length,                                \
               r_ == -1 ? errno_name(errno) : "ok");                                               \
    })

static void who(int fd, int command, long start, long length) {
    struct flock l = range(F_WRLCK, start, length);
    MUST(fcntl(fd, command, &l));
    if (l.l_type == F_UNLCK)
        printf("nobody\n");
    else
        printf("%s by %s at %ld+%ld\n", l.l_type == F_RDLCK ? "read" : "write",
               l.l_pid == getppid() ? "parent"
               : l.l_pid == -1      ? "a description"
                                    : "other",
               (long)l.l_start, (long)l.l_len);
}

int main(void) {
    write_file("file", "", 0, 0644);
    int fd = MUST(open("file", O_RDWR)), second = MUST(open("file", O_RDWR)),
        ro = MUST(open("file", O_RDONLY));
    E(flock(fd, LOCK_EX));
    E(flock(second, LOCK_EX | LOCK_NB)); /* another description, even of one process */
    E(flock(second, LOCK_SH | LOCK_NB));
    IN_CHILD("inherited", E(flock(fd, LOCK_EX | LOCK_NB)); E(flock(fd, LOCK_SH)));
    E(flock(second, LOCK_SH | LOCK_NB));
    E(flock(fd, LOCK_EX | LOCK_NB));
    E(flock(second, LOCK_UN));
    E(flock(fd, LOCK_EX | LOCK_NB));
    int copy = MUST(dup(fd));
    MUST(close(fd));
    E(flock(second, LOCK_EX | LOCK_NB));
    MUST(close(copy));
    E(flock(second, LOCK_EX | LOCK_NB));
    E(flock(second, 0));
    E(flock(999, LOCK_SH));
    MUST(flock(second, LOCK_UN));

    fd = MUST(open("file", O_RDWR));
    LOCK(fd, F_SETLK, F_WRLCK, 0, 100);
    LOCK(second, F_SETLK, F_WRLCK, 0, 100); /* one owner */
    LOCK(fd, F_SETLK, F_UNLCK, 40, 20);
    IN_CHILD("other", who(fd, F_GETLK, 0, 0); who(fd, F_GETLK, 45, 10); who(fd, F_GETLK, 50, 50);
             LOCK(fd, F_SETLK, F_WRLCK, 0, 1); LOCK(fd, F_SETLK, F_RDLCK, 30, 20);
             LOCK(fd, F_SETLK, F_WRLCK, 40, 20); LOCK(fd, F_SETLK, F_WRLCK, 100, 0));
    LOCK(fd, F_SETLK, F_RDLCK, 0, 0);
    IN_CHILD("other", LOCK(fd, F_SETLK, F_RDLCK, 0, 0); LOCK(fd, F_SETLK, F_WRLCK, 0, 1);
             who(fd, F_GETLK, 0, 1));
    MUST(close(second)); /* any descriptor's close releases all */
    IN_CHILD("other", who(fd, F_GETLK, 0, 0); LOCK(fd, F_SETLK, F_WRLCK, 0, 0));
    LOCK(ro, F_SETLK, F_WRLCK, 0, 1);
    LOCK(fd, F_SETLK, 77, 0, 1);
    LOCK(fd, F_SETLK, F_WRLCK, -5, 1);
    LOCK(fd, F_SETLK, F_WRLCK, 10, -5);
    E(fcntl(fd, F_SETLK, 1));

    /* Waiting, and a deadlock. */
    int gate[2];
    MUST(pipe(gate));
    LOCK(fd, F_SETLK, F_WRLCK, 0, 1);
    pid_t child = MUST(fork());
    if (!child) {
        struct flock l = range(F_WRLCK, 1, 1);
        fcntl(fd, F_SETLK, &l);
        tell(gate[1]);
        l = range(F_WRLCK, 0, 1);
        long result = fcntl(fd, F_SETLKW, &l);
        printf("child got it: %s\n", result == -1 ? errno_name(errno) : "ok");
        _exit(0);
    }
    hear(gate[0]);
    sleep_ms(30);
    LOCK(fd, F_SETLKW, F_WRLCK, 1, 1); /* the child waits for us */
    struct flock all = range(F_UNLCK, 0, 0);
    MUST(fcntl(fd, F_SETLK, &all));
    reap("child", child);

    int a = MUST(open("file", O_RDWR)), b = MUST(open("file", O_RDWR));
    LOCK(a, F_OFD_SETLK, F_WRLCK, 0, 10);
    LOCK(b, F_OFD_SETLK, F_WRLCK, 5, 10);
    LOCK(b, F_SETLK, F_WRLCK, 5, 10);
    who(b, F_OFD_GETLK, 0, 0);
    IN_CHILD("inherited", LOCK(a, F_OFD_SETLK, F_RDLCK, 0, 10));
    LOCK(b, F_OFD_SETLK, F_RDLCK, 5, 10);
    MUST(close(a));
    LOCK(b, F_OFD_SETLK, F_WRLCK, 0, 0);
    return 0;
}
