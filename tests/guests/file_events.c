/* eventfd: counting, semaphores, blocking, overflow, poll.
 */
#include "guest.h"
#include <sys/eventfd.h>

static void get(int fd) {
    uint64_t value;
    if (read(fd, &value, sizeof value) == -1)
        printf("read: %s\n", errno_name(errno));
    else
        printf("read: %lu\n", value);
}

static void put(int fd, uint64_t value) {
    if (write(fd, &value, sizeof value) == -1)
        printf("write: %s\n", errno_name(errno));
    else
        printf("write: ok\n");
}

int main(void) {
    struct pollfd p;
    int fd = MUST(eventfd(3, EFD_NONBLOCK | EFD_CLOEXEC));
    V(fcntl(fd, F_GETFD));
    get(fd);
    get(fd);
    put(fd, 5);
    put(fd, 7);
    p = (struct pollfd){fd, POLLIN | POLLOUT, 0};
    V(poll(&p, 1, 0));
    V(p.revents);
    get(fd);
    put(fd, -2UL);
    put(fd, 1);
    put(fd, -1UL);
    V(poll(&p, 1, 0));
    V(p.revents);
    get(fd);
    E(read(fd, &p, 4));
    E(write(fd, &p, 4));
    E(eventfd(0, 0x80000000));
    E(lseek(fd, 0, SEEK_SET));
    fd = MUST(eventfd(2, EFD_SEMAPHORE));
    get(fd);
    get(fd);
    pid_t child = MUST(fork());
    if (!child) {
        sleep_ms(10);
        put(fd, 3);
        _exit(0);
    }
    uint64_t value;
    MUST(read(fd, &value, 8)); /* waits for the child */
    reap("child", child);
    printf("%lu\n", value);
    get(fd);
    get(fd);
    return 0;
}
