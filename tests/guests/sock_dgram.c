/* Unix datagrams and sequenced packets: boundaries, connected and not, full queues, who is told
 * of what when somebody closes.
 */
#include "guest.h"
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

static char data[1 << 20];

static int revents(int fd) {
    struct pollfd p = {fd, -1, 0};
    poll(&p, 1, 0);
    return p.revents;
}

static struct sockaddr_un at(const char *path) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    strcpy(name.sun_path, path);
    return name;
}

static int bound(const char *path, int flags) {
    struct sockaddr_un name = at(path);
    int fd = MUST(socket(AF_UNIX, SOCK_DGRAM | flags, 0));
    MUST(bind(fd, (void *)&name, sizeof name));
    return fd;
}

#define TO(path) (void *)&(struct sockaddr_un[]){at(path)}[0], sizeof(struct sockaddr_un)

static void on_pipe(int sig) {
    note(sig == SIGPIPE ? "SIGPIPE\n" : "?\n");
}

static void fill(int type, int size) {
    int s[2], queued;
    long sent, total = 0, calls = 0;
    MUST(socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, s));
    while ((sent = send(s[0], data, size, 0)) >= 0)
        total += sent, calls++;
    printf("%d, %d at a time: %ld bytes in %ld calls, then %s\n", type, size, total, calls,
           errno_name(errno));
    MUST(ioctl(s[0], TIOCOUTQ, &queued));
    printf("charged %d, ", queued);
    MUST(ioctl(s[1], FIONREAD, &queued));
    printf("to be read %d\n", queued);
    close(s[0]), close(s[1]);
}

int main(void) {
    char text[64];
    int s[2];
    handle(SIGPIPE, on_pipe, 0);
    int sizes[] = {0, 1, 100, 1000, 4096, 10000, 65536, 200000, 1 << 20};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++)
        fill(SOCK_DGRAM, sizes[i]);
    fill(SOCK_SEQPACKET, 100);

    int a = bound("a", SOCK_NONBLOCK), b = bound("b", SOCK_NONBLOCK);
    int c = MUST(socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0));
    printf("%x\n", revents(c));
    E(send(c, "x", 1, 0));
    E(recv(c, text, 1, 0));
    E(listen(c, 1));
    E(accept(c, NULL, NULL));
    E(sendto(c, "x", 1, 0, TO("nobody")));
    E(sendto(c, "x", 1, 0, (void *)&(struct sockaddr_un){.sun_family = AF_UNIX}, 2));
    V(sendto(c, "from nowhere", 12, 0, TO("a")));
    V(sendto(b, "from b", 6, 0, TO("a")));
    V(sendto(b, "", 0, 0, TO("a")));
    struct sockaddr_un from;
    for (int i = 0; i < 4; i++) {
        socklen_t size = sizeof from;
        memset(&from, 0, sizeof from);
        V(recvfrom(a, text, 8, 0, (void *)&from, &size));
        printf("%u %s\n", size, from.sun_path);
    }
    V(sendto(b, "long enough", 11, 0, TO("a")));
    V(recv(a, text, 2, MSG_PEEK | MSG_TRUNC));
    struct iovec iov = {text, 4};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    V(recvmsg(a, &msg, 0));
    V(msg.msg_flags == MSG_TRUNC);
    V(sendto(b, "12345", 5, 0, TO("a")));
    E(recv(a, (void *)1, 5, 0)); /* the datagram is lost */
    E(recv(a, text, 5, 0));
    E(sendto(b, (void *)1, 5, 0, TO("a")));

    /* Connected: only the peer may send. */
    E(connect(a, TO("b")));
    E(sendto(c, "x", 1, 0, TO("a")));
    E(connect(c, TO("a")));
    V(sendto(b, "x", 1, 0, TO("a")));
    V(send(a, "y", 1, 0));
    V(recv(a, text, 9, 0));
    V(recv(b, text, 9, 0));
    V(sendto(a, "elsewhere", 9, 0, TO("b")));
    V(sendto(b, "unread", 6, 0, TO("a")));
    E(connect(a, (void *)&(struct sockaddr){.sa_family = AF_UNSPEC}, sizeof(sa_family_t)));
    E(recv(a, text, 9, 0));
    E(connect(c, TO("a")));

    /* A queue that is full makes strangers wait. */
    int count = 0;
    while (send(c, "x", 1, 0) == 1)
        count++;
    printf("%d, then %s, %x\n", count, errno_name(errno), revents(c));
    E(sendto(b, "x", 1, 0, TO("a")));
    printf("%x\n", revents(b));
    V(recv(a, text, 1, 0));
    printf("%x\n", revents(c));
    pid_t child = MUST(fork());
    if (!child) {
        MUST(fcntl(c, F_SETFL, 0));
        for (int i = 0; i < 20; i++)
            MUST(send(c, "child", 5, 0));
        _exit(0);
    }
    MUST(fcntl(a, F_SETFL, 0));
    for (int i = 0; i < count - 1 + 20; i++)
        if (MUST(recv(a, text, 9, 0)) != 1 && i < count - 1)
            printf("wrong datagram\n");
    reap("child", child);

    /* Somebody closes. */
    MUST(unlink("a"));
    close(a);
    printf("%x\n", revents(c));
    E(send(c, "x", 1, 0));
    E(send(c, "x", 1, 0));
    a = bound("a", 0);
    E(connect(c, TO("a")));
    E(shutdown(a, SHUT_RD));
    E(send(c, "x", 1, 0));
    E(shutdown(c, SHUT_WR));
    E(send(c, "x", 1, 0));
    V(recv(a, text, 1, 0));
    E(recv(a, text, 1, MSG_DONTWAIT));
    printf("%x %x\n", revents(a), revents(c));

    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
    MUST(send(s[0], "kept", 4, 0));
    close(s[0]);
    printf("%x\n", revents(s[1]));
    V(recv(s[1], text, 9, 0));
    E(recv(s[1], text, 9, MSG_DONTWAIT));
    E(send(s[1], "x", 1, 0));
    E(send(s[1], "x", 1, 0));
    close(s[1]);

    /* Sequenced packets. */
    int q = MUST(socket(AF_UNIX, SOCK_SEQPACKET, 0));
    printf("%x\n", revents(q));
    E(recv(q, text, 1, 0));
    E(send(q, text, 1, 0));
    close(q);
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s));
    V(write(s[0], "one", 3));
    V(sendto(s[0], "two", 3, 0, TO("ignored")));
    V(write(s[0], "", 0));
    V(ioctl(s[1], FIONREAD, &sizes[0]));
    V(sizes[0]);
    V(recvmsg(s[1], &msg, 0));
    V(msg.msg_flags);
    V(recv(s[1], text, 2, 0));
    V(recv(s[1], text, 2, 0));
    E(shutdown(s[1], SHUT_RD));
    E(write(s[0], "x", 1));
    E(send(s[0], "x", 1, MSG_NOSIGNAL));
    close(s[1]);
    printf("%x\n", revents(s[0]));
    E(write(s[0], "x", 1));
    V(recv(s[0], text, 2, 0));
    V(recv(s[0], text, 2, MSG_DONTWAIT));
    close(s[0]);
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s));
    MUST(write(s[0], "x", 1));
    close(s[1]);
    printf("%x\n", revents(s[0]));
    E(write(s[0], "x", 1));
    E(write(s[0], "x", 1));
    E(recv(s[0], text, 2, 0));
    return 0;
}
