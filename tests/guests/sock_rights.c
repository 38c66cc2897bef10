/* Files and credentials that travel: SCM_RIGHTS, SCM_CREDENTIALS, SO_PEERCRED, cut control
 * messages, sockets that are sent over themselves.
 * needs: root
 */
#include "guest.h"
#include <sys/socket.h>
#include <sys/un.h>

static char text[64];
static char control[1024] __attribute__((aligned(8)));

static struct msghdr header(void *data, size_t size, size_t room) {
    static struct iovec iov;
    iov = (struct iovec){data, size};
    return (struct msghdr){.msg_iov = &iov,
                           .msg_iovlen = 1,
                           .msg_control = room ? control : NULL,
                           .msg_controllen = room};
}

static long send_fds(int to, const char *data, int size, const int *fds, int count) {
    struct msghdr msg = header((void *)data, size, CMSG_SPACE(count * sizeof *fds));
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS,
    c->cmsg_len = CMSG_LEN(count * sizeof *fds);
    memcpy(CMSG_DATA(c), fds, count * sizeof *fds);
    return sendmsg(to, &msg, 0);
}

static long send_creds(int to, int pid, int uid, int gid) {
    struct ucred who = {pid, uid, gid};
    struct msghdr msg = header("c", 1, CMSG_SPACE(sizeof who));
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_CREDENTIALS, c->cmsg_len = CMSG_LEN(sizeof who);
    memcpy(CMSG_DATA(c), &who, sizeof who);
    return sendmsg(to, &msg, 0);
}

static pid_t self, parent;

/* Receive, print what came, close it. */
static long take(int from, size_t size, size_t room, int flags) {
    memset(control, 0x55, sizeof control);
    struct msghdr msg = header(text, size, room);
    long got = recvmsg(from, &msg, flags | MSG_DONTWAIT);
    if (got < 0)
        return got;
    printf("  got %ld flags %x controllen %zu:", got, msg.msg_flags, msg.msg_controllen);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
        printf(" [%d %d %zu", c->cmsg_level, c->cmsg_type, c->cmsg_len);
        if (c->cmsg_type == SCM_RIGHTS) {
            int fd;
            for (unsigned i = 0; CMSG_LEN((i + 1) * sizeof fd) <= c->cmsg_len; i++) {
                memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
                printf(" fd %d cloexec %d", fd, fcntl(fd, F_GETFD));
                close(fd);
            }
        } else if (c->cmsg_type == SCM_CREDENTIALS &&
                   c->cmsg_len >= CMSG_LEN(sizeof(struct ucred))) {
            struct ucred who;
            memcpy(&who, CMSG_DATA(c), sizeof who);
            printf(" pid %s uid %d gid %d",
                   who.pid == self     ? "own"
                   : who.pid == parent ? "parent"
                   : who.pid           ? "other"
                                       : "0",
                   who.uid, who.gid);
        }
        printf("]");
    }
    puts("");
    return got;
}

int main(void) {
    int s[2], on = 1, off = 0;
    self = getpid(), parent = getppid();
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    int fds[300];
    write_file("file", "0123456789", 10, 0644);
    int file = MUST(open("file", O_RDONLY));
    for (int i = 0; i < 300; i++)
        fds[i] = file;

    /* Streams stop at files. */
    V(write(s[0], "ab", 2));
    V(send_fds(s[0], "cd", 2, fds, 1));
    V(write(s[0], "ef", 2));
    V(send_fds(s[0], "gh", 2, fds, 2));
    for (int i = 0; i < 3; i++)
        V(take(s[1], 20, sizeof control, i == 1 ? MSG_CMSG_CLOEXEC : 0));
    V(send_fds(s[0], "partial", 7, fds, 3));
    V(take(s[1], 3, sizeof control, MSG_PEEK));
    V(take(s[1], 3, sizeof control, 0));
    V(take(s[1], 9, sizeof control, 0));
    V(send_fds(s[0], "read", 4, fds, 1));
    V(read(s[1], text, 9));

    /* Too little room, none at all, no buffer. */
    size_t rooms[] = {CMSG_SPACE(3 * sizeof(int)),
                      CMSG_LEN(3 * sizeof(int)),
                      CMSG_LEN(2 * sizeof(int)),
                      CMSG_LEN(sizeof(int)),
                      CMSG_LEN(sizeof(int)) - 1,
                      CMSG_LEN(0),
                      8,
                      0};
    for (unsigned i = 0; i < sizeof rooms / sizeof *rooms; i++) {
        MUST(send_fds(s[0], "r", 1, fds, 3));
        printf("room %zu\n", rooms[i]);
        take(s[1], 9, rooms[i], 0);
    }
    struct rlimit few = {.rlim_cur = s[1] + 3, .rlim_max = 1000};
    MUST(send_fds(s[0], "r", 1, fds, 3));
    MUST(setrlimit(RLIMIT_NOFILE, &few));
    V(take(s[1], 9, sizeof control, 0));
    few.rlim_cur = 500;
    MUST(setrlimit(RLIMIT_NOFILE, &few));

    /* What cannot be sent. */
    V(send_fds(s[0], "m", 1, fds, 253));
    V(recv(s[1], text, 9, 0));
    E(send_fds(s[0], "m", 1, fds, 254));
    E(send_fds(s[0], "m", 1, (int[]){file, 77}, 2));
    E(send_fds(s[0], "m", 1, (int[]){-1}, 1));
    V(send_fds(s[0], "", 0, fds, 1));
    struct msghdr msg = header("x", 1, CMSG_SPACE(4));
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    *c = (struct cmsghdr){8, SOL_SOCKET, SCM_RIGHTS};
    E(sendmsg(s[0], &msg, 0));
    *c = (struct cmsghdr){4096, SOL_SOCKET, SCM_RIGHTS};
    E(sendmsg(s[0], &msg, 0));
    *c = (struct cmsghdr){CMSG_LEN(4), SOL_SOCKET, 99};
    E(sendmsg(s[0], &msg, 0));
    *c = (struct cmsghdr){CMSG_LEN(4), 99, SCM_RIGHTS};
    E(sendmsg(s[0], &msg, 0));
    *c = (struct cmsghdr){CMSG_LEN(4), SOL_SOCKET, SCM_CREDENTIALS};
    E(sendmsg(s[0], &msg, 0));
    msg.msg_control = (void *)1;
    E(sendmsg(s[0], &msg, 0));
    msg.msg_controllen = 1 << 20;
    E(sendmsg(s[0], &msg, 0));
    msg = header("x", 1, 0);
    msg.msg_iovlen = 1025;
    E(sendmsg(s[0], &msg, 0));
    E(sendmsg(s[0], (void *)1, 0));
    E(sendmsg(1, &msg, 0));
    E(recvmsg(s[1], (void *)1, 0));
    V(recv(s[1], text, 9, MSG_DONTWAIT));

    /* Credentials. */
    V(write(s[0], "before", 6));
    MUST(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
    V(write(s[0], "after", 5));
    V(take(s[1], 20, sizeof control, 0));
    V(take(s[1], 20, sizeof control, 0));
    V(send_creds(s[0], self, getuid(), getgid()));
    V(take(s[1], 20, sizeof control, 0));
    V(send_creds(s[0], parent, 0, 0));
    V(write(s[0], "mine", 4));
    V(take(s[1], 20, 24, 0));
    V(take(s[1], 20, 0, 0));
    E(send_creds(s[0], 1 << 22, 0, 0));
    pid_t child = MUST(fork());
    if (!child) {
        MUST(setresgid(3, 3, 3));
        MUST(setresuid(2, 2, 2));
        V(write(s[0], "child", 5));
        V(send_creds(s[0], getpid(), 2, 3));
        E(send_creds(s[0], self, 2, 3));
        E(send_creds(s[0], getpid(), 0, 3));
        E(send_creds(s[0], getpid(), 2, 0));
        _exit(0);
    }
    reap("child", child);
    V(take(s[1], 20, sizeof control, 0));
    MUST(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &off, sizeof off));
    E(take(s[1], 20, sizeof control, MSG_DONTWAIT));
    struct ucred who;
    socklen_t size = sizeof who;
    MUST(getsockopt(s[0], SOL_SOCKET, SO_PEERCRED, &who, &size));
    printf("peer %d %d %d %u\n", who.pid == self, who.uid, who.gid, size);
    close(s[0]), close(s[1]);

    /* Datagrams: each its own. */
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
    V(send_fds(s[0], "one", 3, fds, 1));
    V(send_fds(s[0], "", 0, fds, 2));
    V(write(s[0], "three", 5));
    V(take(s[1], 2, sizeof control, MSG_PEEK));
    for (int i = 0; i < 3; i++)
        V(take(s[1], 2, sizeof control, 0));
    close(s[0]), close(s[1]);

    /* What is sent stays open until it is received, or thrown away. */
    int p[2];
    MUST(pipe(p));
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    MUST(send_fds(s[0], "w", 1, &p[1], 1));
    close(p[1]);
    struct pollfd poll_it = {p[0], POLLIN, 0};
    V(poll(&poll_it, 1, 0));
    close(s[0]), close(s[1]);
    V(poll(&poll_it, 1, 0));
    V(poll_it.revents == POLLHUP);
    close(p[0]);

    /* A socket in its own queue, and two in each other's. */
    int t[2];
    MUST(pipe(p));
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, t));
    MUST(send_fds(s[0], "self", 4, (int[]){s[1], p[1]}, 2));
    MUST(send_fds(t[0], "1", 1, &t[1], 1));
    MUST(send_fds(t[1], "2", 1, (int[]){t[0], s[0]}, 2));
    close(p[1]), close(s[0]), close(s[1]), close(t[0]), close(t[1]);
    close(MUST(socket(AF_UNIX, SOCK_STREAM, 0)));
    poll_it = (struct pollfd){p[0], POLLIN, 0};
    V(poll(&poll_it, 1, 1000));
    V(poll_it.revents == POLLHUP);
    V(read(p[0], text, 1));
    return 0;
}
