/* Unix streams: how much fits, partial reads, MSG_WAITALL, shutdown in both directions, who gets
 * which error when an end closes.
 */
#include "guest.h"
#include <sys/ioctl.h>
#include <sys/socket.h>

static char data[1 << 20];

static int revents(int fd, int events) {
    struct pollfd p = {fd, events, 0};
    poll(&p, 1, 0);
    return p.revents;
}

static void fill(int size) {
    int s[2], queued;
    long sent, total = 0, calls = 0;
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s));
    while ((sent = send(s[0], data, size, 0)) > 0)
        total += sent, calls++;
    printf("%d at a time: %ld bytes in %ld calls, then %s\n", size, total, calls,
           errno_name(errno));
    MUST(ioctl(s[0], TIOCOUTQ, &queued));
    printf("charged %d, ", queued);
    MUST(ioctl(s[1], FIONREAD, &queued));
    printf("to be read %d\n", queued);
    long taken = 0;
    while (!(revents(s[0], POLLOUT) & POLLOUT))
        taken += MUST(read(s[1], data, 4096));
    printf("writable again after %ld\n", taken);
    close(s[0]), close(s[1]);
}

static void on_pipe(int sig) {
    note(sig == SIGPIPE ? "SIGPIPE\n" : "?\n");
}

int main(void) {
    int s[2], size;
    handle(SIGPIPE, on_pipe, 0);
    for (unsigned i = 0; i < sizeof data; i++)
        data[i] = i * 7 + i / 251;
    int sizes[] = {1, 100, 1000, 4096, 10000, 65536, 200000, 1 << 20};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++)
        fill(sizes[i]);

    /* A blocking send of more than fits goes on as it is read. */
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    pid_t child = MUST(fork());
    if (!child) {
        close(s[1]);
        V(send(s[0], data, sizeof data, 0));
        _exit(0);
    }
    close(s[0]);
    static char got[1 << 20];
    long total = 0, n;
    while ((n = MUST(read(s[1], got + total, 30000))) > 0)
        total += n;
    reap("sender", child);
    IS(total == sizeof data && memcmp(data, got, sizeof data) == 0);
    close(s[1]);

    /* MSG_WAITALL waits for all, over several sends. */
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    child = MUST(fork());
    if (!child) {
        for (int i = 0; i < 5; i++) {
            MUST(write(s[0], "12345", 5));
            sleep_ms(2);
        }
        _exit(0);
    }
    V(recv(s[1], got, 25, MSG_WAITALL));
    reap("writer", child);
    V(write(s[0], "abc", 3));
    V(recv(s[1], got, 10, MSG_WAITALL | MSG_DONTWAIT));
    E(recv(s[1], got, 10, MSG_WAITALL | MSG_DONTWAIT));
    V(write(s[0], "peek", 4));
    V(recv(s[1], got, 2, MSG_PEEK));
    V(recv(s[1], got, 9, MSG_PEEK));
    V(recv(s[1], got, 3, 0));
    V(ioctl(s[1], FIONREAD, &size));
    V(size);
    V(read(s[1], got, 0));
    V(recv(s[1], got, 0, 0));
    V(recv(s[1], got, 4, 0));
    V(send(s[0], got, 0, 0));
    E(recv(s[1], got, 1, MSG_DONTWAIT));
    V(write(s[0], "xy", 2));
    E(recv(s[1], (void *)1, 2, 0));
    V(recv(s[1], got, 2, 0));
    E(send(s[0], (void *)1, 2, 0));
    E(lseek(s[0], 0, SEEK_SET));
    E(pread(s[0], got, 1, 0));
    E(pwrite(s[0], got, 1, 0));
    E(ioctl(s[0], TIOCGWINSZ, got));
    E(ftruncate(s[0], 0));
    E(fsync(s[0]));

    /* Shutdown, each way. */
    printf("%x %x\n", revents(s[0], -1), revents(s[1], -1));
    E(shutdown(s[0], SHUT_RD));
    printf("%x %x\n", revents(s[0], -1), revents(s[1], -1));
    V(read(s[0], got, 1));
    E(send(s[1], "x", 1, MSG_NOSIGNAL));
    E(send(s[1], "x", 1, 0));
    V(send(s[0], "x", 1, 0));
    E(shutdown(s[0], SHUT_WR));
    printf("%x %x\n", revents(s[0], -1), revents(s[1], -1));
    E(send(s[0], "x", 1, 0));
    V(read(s[1], got, 5));
    V(read(s[1], got, 5));
    E(shutdown(s[0], 3));
    E(shutdown(s[0], -1));
    close(s[0]), close(s[1]);

    /* An end closes with data unread, and without. */
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    MUST(write(s[0], "unread", 6));
    close(s[1]);
    printf("%x\n", revents(s[0], -1));
    E(read(s[0], got, 1));
    V(read(s[0], got, 1));
    E(write(s[0], "x", 1));
    close(s[0]);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    MUST(write(s[0], "last", 4));
    close(s[0]);
    printf("%x\n", revents(s[1], -1));
    V(read(s[1], got, 9));
    V(read(s[1], got, 9));
    close(s[1]);

    /* The reader goes while a writer is blocked: no signal, but an error. */
    for (int read_some = 0; read_some < 2; read_some++) {
        MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
        child = MUST(fork());
        if (!child) {
            close(s[1]);
            long all = 0;
            while ((n = write(s[0], data, 4096)) > 0)
                all += n;
            printf("%d %s\n", all > 100000, errno_name(errno));
            _exit(0);
        }
        close(s[0]);
        sleep_ms(300);
        if (read_some)
            for (long all = 0; all < 100000;)
                all += MUST(read(s[1], got, 4096));
        close(s[1]);
        reap("writer", child);
    }
    return 0;
}
