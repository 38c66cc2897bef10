/* Unix socket pairs: streams, datagrams, messages, shutdown, poll, passing descriptors.
 */
#include "guest.h"
#include <sys/socket.h>
#include <sys/un.h>

static int *volatile nowhere = (int *)1;

int main(void) {
    int s[2];
    char text[64] = "";
    E(socketpair(AF_UNIX, SOCK_STREAM, 1234, s));
    E(socketpair(AF_UNIX, 77, 0, s));
    E(socketpair(AF_UNIX, SOCK_STREAM, 0, nowhere));
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s));
    E(read(s[0], text, 1));
    V(write(s[1], "hello ", 6));
    V(send(s[1], "world", 5, 0));
    V(recv(s[0], text, 8, MSG_PEEK));
    V(read(s[0], text, sizeof text));
    printf("%s\n", text);
    struct pollfd p = {s[0], POLLIN | POLLOUT | POLLRDHUP, 0};
    V(poll(&p, 1, 0));
    V(p.revents == POLLOUT);
    E(shutdown(s[1], SHUT_WR));
    V(poll(&p, 1, 0));
    V(p.revents == (POLLIN | POLLOUT | POLLRDHUP));
    V(read(s[0], text, sizeof text));
    signal(SIGPIPE, SIG_IGN);
    E(write(s[1], "x", 1));
    E(send(s[1], "x", 1, MSG_NOSIGNAL));
    V(write(s[0], "back", 4));
    V(read(s[1], text, sizeof text));
    close(s[1]);
    E(write(s[0], "x", 1));
    close(s[0]);

    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
    MUST(write(s[0], "one", 3));
    MUST(write(s[0], "second", 6));
    V(read(s[1], text, 2)); /* the rest of a datagram is lost */
    V(read(s[1], text, sizeof text));
    close(s[0]);
    close(s[1]);

    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s));
    V(send(s[0], "packet", 6, 0));
    V(recv(s[1], text, 3, MSG_TRUNC));
    close(s[0]);
    V(recv(s[1], text, 3, 0));
    close(s[1]);

    /* A descriptor travels; its offset is shared. */
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    write_file("file", "0123456789", 10, 0644);
    char control[CMSG_SPACE(sizeof(int))];
    struct iovec iov = {"!", 1};
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    pid_t child = MUST(fork());
    if (!child) {
        int fd = MUST(open("file", O_RDONLY));
        MUST(lseek(fd, 4, SEEK_SET));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
        V(sendmsg(s[0], &msg, 0));
        _exit(0);
    }
    reap("sender", child);
    iov.iov_base = text;
    V(recvmsg(s[1], &msg, 0));
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    int fd;
    memcpy(&fd, CMSG_DATA(c), sizeof fd);
    memset(text, 0, sizeof text);
    V(read(fd, text, 3));
    printf("%s %d\n", text, c->cmsg_type == SCM_RIGHTS);

    int type;
    socklen_t size = sizeof type;
    E(getsockopt(s[0], SOL_SOCKET, SO_TYPE, &type, &size));
    printf("type %d\n", type);
    E(getsockopt(0, SOL_SOCKET, SO_TYPE, &type, &size));
    struct sockaddr_un name;
    size = sizeof name;
    E(getsockname(s[0], (void *)&name, &size));
    printf("family %d size %u\n", name.sun_family, size);
    return 0;
}
