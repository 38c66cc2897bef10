/* Unix sockets by name: paths and abstract names, listen, accept, connect, what is refused.
 */
#include "guest.h"
#include <sys/socket.h>
#include <sys/un.h>

static struct sockaddr_un name;

static socklen_t named(const char *path) {
    memset(&name, 0, sizeof name);
    name.sun_family = AF_UNIX;
    strcpy(name.sun_path, path);
    return offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1;
}

static socklen_t hidden(const char *text) {
    memset(&name, 0, sizeof name);
    name.sun_family = AF_UNIX;
    strcpy(name.sun_path + 1, text);
    return offsetof(struct sockaddr_un, sun_path) + 1 + strlen(text);
}

static void show(const char *what, int (*ask)(int, struct sockaddr *, socklen_t *), int fd) {
    struct sockaddr_un got;
    memset(&got, 'x', sizeof got);
    socklen_t size = sizeof got;
    if (ask(fd, (void *)&got, &size) < 0) {
        printf("%s: %s\n", what, errno_name(errno));
        return;
    }
    printf("%s: family %d size %u ", what, got.sun_family, size);
    for (unsigned i = 0; i + offsetof(struct sockaddr_un, sun_path) < size; i++)
        printf("%c", got.sun_path[i] ? got.sun_path[i] : '@');
    puts("");
}

#define BIND(fd, length) bind(fd, (void *)&name, length)
#define CONNECT(fd, length) connect(fd, (void *)&name, length)

static void *volatile nowhere = (void *)1;

int main(void) {
    int a = MUST(socket(AF_UNIX, SOCK_STREAM, 0)), b, c;
    char text[16];
    E(socket(AF_UNIX, SOCK_STREAM, 5));
    E(socket(AF_UNIX, 9, 0));
    E(socket(AF_UNIX, 12, 0));
    E(socket(AF_UNIX, SOCK_STREAM | 0x100, 0));
    E(socket(-1, SOCK_STREAM, 0));
    E(socket(46, SOCK_STREAM, 0));
    struct pollfd p = {a, -1, 0};
    V(poll(&p, 1, 0));
    printf("%x\n", p.revents);
    E(recv(a, text, 1, 0));
    E(send(a, text, 1, 0));
    E(listen(a, 1));
    E(accept(a, NULL, NULL));
    E(shutdown(a, SHUT_WR));
    close(a);
    a = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    show("unbound", getsockname, a);
    show("unbound peer", getpeername, a);

    /* Names that are none. */
    E(BIND(a, 1));
    E(BIND(a, 200));
    E(BIND(a, sizeof name + 1));
    E(bind(a, nowhere, 20));
    E(bind(0, (void *)&name, 20));
    E(bind(99, (void *)&name, 20));
    named("sock");
    name.sun_family = AF_INET;
    E(BIND(a, sizeof name));
    E(BIND(a, named("no/such/directory")));
    write_file("plain", "", 0, 0644);
    E(BIND(a, named("plain")));
    E(CONNECT(a, named("plain")));
    E(CONNECT(a, named("sock")));
    E(CONNECT(a, hidden("nobody is here")));

    umask(027);
    E(BIND(a, named("sock")));
    struct stat st;
    MUST(lstat("sock", &st));
    printf("mode %o size %ld\n", st.st_mode, (long)st.st_size);
    show("bound", getsockname, a);
    E(BIND(a, named("sock2")));
    E(lstat("sock2", &st));
    b = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    E(BIND(b, named("sock")));
    E(open("sock", O_RDWR));
    E(CONNECT(b, named("sock")));
    E(listen(a, 1));
    E(listen(a, 0));
    E(recv(a, text, 1, 0));
    E(send(a, text, 1, 0));
    E(CONNECT(a, named("sock")));
    E(CONNECT(b, named("sock")));
    p.fd = a;
    V(poll(&p, 1, 0));
    printf("%x\n", p.revents);
    p.fd = b;
    V(poll(&p, 1, 0));
    printf("%x\n", p.revents);
    /* What is written before it was accepted waits. */
    V(write(b, "early", 5));
    int d = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    E(CONNECT(d, named("sock")));
    E(accept4(a, NULL, NULL, 1));
    struct sockaddr_un from;
    socklen_t size = sizeof from;
    c = MUST(accept4(a, (void *)&from, &size, SOCK_CLOEXEC | SOCK_NONBLOCK));
    printf("from %u\n", size);
    V(fcntl(c, F_GETFD));
    V(fcntl(c, F_GETFL) & O_NONBLOCK);
    V(read(c, text, sizeof text));
    E(read(c, text, sizeof text));
    show("accepted", getsockname, c);
    show("accepted peer", getpeername, c);
    show("connecting", getsockname, b);
    show("connecting peer", getpeername, b);
    E(accept(c, NULL, NULL));
    E(listen(c, 1));
    E(CONNECT(b, named("sock")));
    MUST(fcntl(a, F_SETFL, O_NONBLOCK));
    E(accept(a, NULL, NULL));
    close(b);
    V(read(c, text, 1));
    show("peer of the dead", getpeername, c);
    close(c);

    /* By another name of the same inode, and by a symlink. */
    MUST(link("sock", "hard"));
    MUST(symlink("hard", "soft"));
    b = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    E(CONNECT(b, named("soft")));
    E(accept(a, nowhere, &size));
    close(b);
    b = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
    E(CONNECT(b, named("sock")));
    close(b);
    MUST(unlink("sock"));
    b = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    E(CONNECT(b, named("sock")));
    E(CONNECT(b, named("hard")));
    /* The listener goes: who was not accepted is told. */
    close(a);
    E(read(b, text, 1));
    V(read(b, text, 1));
    close(b);
    b = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    E(CONNECT(b, named("hard")));
    E(BIND(b, named("hard")));

    /* Abstract: type by type, and gone with the socket. */
    a = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    char unique[40];
    snprintf(unique, sizeof unique, "guest %d", getpid());
    socklen_t length = hidden(unique);
    E(BIND(a, length));
    E(BIND(b, length));
    int dgram = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
    E(BIND(dgram, length));
    E(listen(a, 5));
    E(CONNECT(b, length - 1));
    E(CONNECT(b, length));
    E(shutdown(a, SHUT_RD));
    c = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    E(CONNECT(c, length));
    MUST(accept(a, NULL, NULL));
    E(accept(a, NULL, NULL));
    close(a);
    E(CONNECT(c, length));
    a = MUST(socket(AF_UNIX, SOCK_SEQPACKET, 0));
    name.sun_family = AF_UNIX;
    E(BIND(a, sizeof(sa_family_t)));
    size = sizeof from;
    MUST(getsockname(a, (void *)&from, &size));
    printf("autobound %u %d\n", size, from.sun_path[0]);
    E(BIND(a, sizeof(sa_family_t)));

    /* A name of the greatest length. */
    memset(name.sun_path, 'n', sizeof name.sun_path);
    b = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    E(BIND(b, sizeof name));
    size = sizeof from;
    V(getsockname(b, (void *)&from, &size));
    V(size);
    V(strlen(from.sun_path) >= 108);

    /* Permission, where root has none more than others: a plain user is needed for more. */
    size = 3;
    char few[3];
    V(getsockname(a, (void *)few, &size));
    V(size > 3);
    size = -1;
    E(getsockname(a, (void *)few, &size));
    E(getsockname(a, nowhere, &size));
    E(getsockname(0, (void *)few, &size));
    return 0;
}
