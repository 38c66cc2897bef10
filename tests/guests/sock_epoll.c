/* Sockets under epoll: a small server with several clients, level and edge, hang-ups.
 * traps: many
 */
#include "guest.h"
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { CLIENTS = 8, ROUNDS = 20 };

static void client(const struct sockaddr_un *name, int number) {
    int fd = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    MUST(connect(fd, (void *)name, sizeof *name));
    char text[32], back[32];
    for (int i = 0; i < ROUNDS; i++) {
        int size = snprintf(text, sizeof text, "client %d round %d", number, i);
        MUST(write(fd, text, size));
        if (MUST(recv(fd, back, size, MSG_WAITALL)) != size || memcmp(text, back, size))
            _exit(1);
    }
    _exit(0);
}

int main(void) {
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "server"};
    int listener = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    MUST(bind(listener, (void *)&name, sizeof name));
    MUST(listen(listener, 2)); /* fewer than clients: some wait */
    pid_t children[CLIENTS];
    for (int i = 0; i < CLIENTS; i++)
        if (!(children[i] = MUST(fork())))
            client(&name, i);
    int ep = MUST(epoll_create1(0)), open_now = 0, accepted = 0;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[4];
    MUST(epoll_ctl(ep, EPOLL_CTL_ADD, listener, &event));
    long echoed = 0;
    while (accepted < CLIENTS || open_now) {
        int count = MUST(epoll_wait(ep, events, 4, -1));
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                int new;
                while ((new = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    event.events = EPOLLIN | EPOLLRDHUP | (accepted % 2 ? EPOLLET : 0);
                    event.data.fd = new;
                    MUST(epoll_ctl(ep, EPOLL_CTL_ADD, new, &event));
                    accepted++, open_now++;
                }
                continue;
            }
            char text[64];
            ssize_t size;
            while ((size = read(fd, text, sizeof text)) > 0)
                echoed += MUST(write(fd, text, size));
            if (size == 0) {
                close(fd);
                open_now--;
            }
        }
    }
    for (int i = 0; i < CLIENTS; i++)
        reap("client", children[i]);
    printf("accepted %d echoed %ld\n", accepted, echoed);
    return 0;
}
