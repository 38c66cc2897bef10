/* Options of sockets, time limits, and several messages in one call.
 */
#include "guest.h"
#include <sys/socket.h>
#include <sys/un.h>

static int s[2];

static void get(int option) {
    int value[8] = {0};
    socklen_t size = sizeof value;
    if (getsockopt(s[0], SOL_SOCKET, option, value, &size) < 0)
        printf("get %d: %s\n", option, errno_name(errno));
    else if (option == SO_PEERCRED)
        printf("get %d: size %u\n", option, size);
    else
        printf("get %d: size %u: %d %d\n", option, size, value[0], value[1]);
}

static void set(int option, int value) {
    int result = setsockopt(s[0], SOL_SOCKET, option, &value, sizeof value);
    printf("set %d to %d: %s\n", option, value, result ? errno_name(errno) : "ok");
    get(option);
}

static void on_alarm(int sig) {
    note(sig == SIGALRM ? "alarm\n" : "?\n");
}

static void *volatile nowhere = (void *)1;

int main(void) {
    char text[64];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    int asked[] = {SO_DEBUG,     SO_REUSEADDR, SO_TYPE,     SO_ERROR,      SO_DONTROUTE,
                   SO_BROADCAST, SO_SNDBUF,    SO_RCVBUF,   SO_KEEPALIVE,  SO_OOBINLINE,
                   SO_LINGER,    SO_REUSEPORT, SO_PASSCRED, SO_PEERCRED,   SO_RCVLOWAT,
                   SO_SNDLOWAT,  SO_RCVTIMEO,  SO_SNDTIMEO, SO_ACCEPTCONN, SO_PROTOCOL,
                   SO_DOMAIN,    999};
    for (unsigned i = 0; i < sizeof asked / sizeof *asked; i++) {
        get(asked[i]);
        if (asked[i] != SO_DEBUG && asked[i] != SO_LINGER && asked[i] != SO_RCVTIMEO &&
            asked[i] != SO_SNDTIMEO)
            set(asked[i], 1);
    }
    int sizes[] = {-1, 0, 1, 2303, 4608, 100000, 212992, 1 << 30};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++)
        set(SO_SNDBUF, sizes[i]), set(SO_RCVBUF, sizes[i]);
    set(SO_RCVLOWAT, 0);
    set(SO_RCVLOWAT, -5);
    set(SO_RCVLOWAT, 1);
    struct linger linger = {5, 7};
    E(setsockopt(s[0], SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    get(SO_LINGER);
    E(setsockopt(s[0], SOL_SOCKET, SO_LINGER, &linger, 4));
    int on = 1;
    E(setsockopt(s[0], SOL_SOCKET, SO_PASSCRED, &on, 3));
    E(setsockopt(s[0], SOL_SOCKET, SO_PASSCRED, &on, -1));
    E(setsockopt(s[0], SOL_SOCKET, SO_PASSCRED, nowhere, 4));
    E(setsockopt(0, SOL_SOCKET, SO_PASSCRED, &on, 4));
    socklen_t size = 2;
    E(getsockopt(s[0], SOL_SOCKET, SO_TYPE, &on, &size));
    V(size);
    size = -1;
    E(getsockopt(s[0], SOL_SOCKET, SO_TYPE, &on, &size));
    E(getsockopt(s[0], SOL_SOCKET, SO_TYPE, &on, nowhere));
    size = 4;
    E(getsockopt(s[0], SOL_SOCKET, SO_TYPE, nowhere, &size));
    int listener = MUST(socket(AF_UNIX, SOCK_SEQPACKET, 0));
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "listener"};
    MUST(bind(listener, (void *)&name, sizeof name));
    MUST(listen(listener, 0));
    E(getsockopt(listener, SOL_SOCKET, SO_ACCEPTCONN, &on, &size));
    V(on);
    E(getsockopt(listener, SOL_SOCKET, SO_TYPE, &on, &size));
    V(on);

    /* Time limits. */
    struct timeval limit = {0, 30000};
    E(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
    E(setsockopt(s[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit));
    E(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &limit, 8));
    limit.tv_usec = 1000000;
    E(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
    get(SO_RCVTIMEO);
    long long start = now_ns(CLOCK_MONOTONIC);
    E(recv(s[0], text, 1, 0));
    IS(now_ns(CLOCK_MONOTONIC) - start >= 29 * MS);
    static char data[1 << 20];
    start = now_ns(CLOCK_MONOTONIC);
    set(SO_SNDBUF, 100000);
    V(send(s[0], data, sizeof data, 0));
    E(send(s[0], data, sizeof data, 0));
    IS(now_ns(CLOCK_MONOTONIC) - start >= 58 * MS);
    limit = (struct timeval){0, 20000};
    MUST(setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
    E(accept(listener, NULL, NULL));
    /* With a time limit, a signal ends the call even under SA_RESTART; without, it does not. */
    handle(SIGALRM, on_alarm, SA_RESTART);
    limit = (struct timeval){5, 0};
    MUST(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
    ualarm(20000, 0);
    E(recv(s[0], text, 1, 0));
    limit = (struct timeval){0, 0};
    MUST(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
    pid_t child = MUST(fork());
    if (!child) {
        sleep_ms(60);
        MUST(write(s[1], "late", 4));
        _exit(0);
    }
    ualarm(20000, 0);
    V(recv(s[0], text, 9, 0));
    reap("child", child);
    handle(SIGALRM, on_alarm, 0);
    ualarm(20000, 0);
    E(recv(s[0], text, 9, 0));
    child = MUST(fork());
    if (!child) {
        MUST(write(s[1], "part", 4));
        _exit(0);
    }
    ualarm(400000, 0);
    V(recv(s[0], text, 9, MSG_WAITALL));
    reap("child", child);
    close(s[0]), close(s[1]);

    /* Several messages at once. */
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
    struct mmsghdr many[6];
    struct iovec iov[6];
    char buffers[6][8];
    memset(many, 0, sizeof many);
    for (int i = 0; i < 6; i++) {
        snprintf(buffers[i], sizeof buffers[i], "msg %d", i);
        iov[i] = (struct iovec){buffers[i], 3 + i % 3};
        many[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1};
    }
    V(sendmmsg(s[0], many, 6, 0));
    for (int i = 0; i < 6; i++)
        printf("%u ", many[i].msg_len);
    puts("");
    V(recvmmsg(s[1], many, 4, 0, NULL));
    V(recvmmsg(s[1], many, 4, MSG_DONTWAIT, NULL));
    E(recvmmsg(s[1], many, 4, MSG_DONTWAIT, NULL));
    V(sendmmsg(s[0], many, 0, 0));
    iov[2].iov_base = nowhere;
    V(sendmmsg(s[0], many, 6, 0));
    iov[0].iov_base = nowhere;
    E(sendmmsg(s[0], many, 6, 0));
    for (int i = 0; i < 6; i++)
        iov[i] = (struct iovec){buffers[i], 8};
    V(recvmmsg(s[1], many, 6, MSG_WAITFORONE, NULL));
    child = MUST(fork());
    if (!child) {
        for (int i = 0; i < 3; i++) {
            sleep_ms(3);
            MUST(send(s[0], "waited", 6, 0));
        }
        _exit(0);
    }
    V(recvmmsg(s[1], many, 3, 0, NULL));
    reap("child", child);
    printf("%u %u %u %.6s\n", many[0].msg_len, many[1].msg_len, many[2].msg_len, buffers[2]);
    return 0;
}
