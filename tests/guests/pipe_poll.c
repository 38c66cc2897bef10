/* What poll says about the ends of pipes and fifos in each state.
 */
#include "guest.h"

static char buffer[70000];

static void show(const char *what, int fd) {
    struct pollfd p = {fd, POLLIN | POLLOUT | POLLPRI, 0};
    int n = poll(&p, 1, 0);
    printf("%s: %d%s%s%s%s%s\n", what, n, p.revents & POLLIN ? " IN" : "",
           p.revents & POLLOUT ? " OUT" : "", p.revents & POLLHUP ? " HUP" : "",
           p.revents & POLLERR ? " ERR" : "", p.revents & POLLNVAL ? " NVAL" : "");
}

int main(void) {
    int p[2];
    MUST(pipe2(p, O_NONBLOCK));
    show("empty, read end", p[0]);
    show("empty, write end", p[1]);
    MUST(write(p[1], "x", 1));
    show("one byte, read end", p[0]);
    MUST(write(p[1], buffer, sizeof buffer));
    show("full, write end", p[1]);
    MUST(read(p[0], buffer, 100));
    show("nearly full, write end", p[1]);
    MUST(read(p[0], buffer, 4096));
    show("a page free, write end", p[1]);
    close(p[1]);
    show("no writer, data left", p[0]);
    while (read(p[0], buffer, sizeof buffer) > 0)
        ;
    show("no writer, empty", p[0]);
    close(p[0]);
    show("closed descriptor", p[0]);
    show("negative descriptor", -1);
    MUST(pipe(p));
    close(p[0]);
    show("no reader, write end", p[1]);
    MUST(mkfifo("fifo", 0600));
    int r = MUST(open("fifo", O_RDONLY | O_NONBLOCK));
    show("fifo never written", r);
    int w = MUST(open("fifo", O_WRONLY));
    show("fifo with a writer", r);
    MUST(write(w, "x", 1));
    close(w);
    show("fifo, data left", r);
    MUST(read(r, buffer, 1));
    show("fifo, writer gone", r);
    write_file("file", "x", 1, 0644);
    int f = MUST(open("file", O_RDONLY));
    show("file", f);
    show("/dev/null", open("/dev/null", O_RDWR));
    show("/dev/zero", open("/dev/zero", O_RDWR));
    show("folder", open(".", O_RDONLY));

    /* A sleeping poll wakes for each of them. */
    MUST(pipe(p));
    pid_t child = MUST(fork());
    if (!child) {
        close(p[0]);
        sleep_ms(10);
        MUST(write(p[1], "x", 1));
        sleep_ms(10);
        _exit(0);
    }
    close(p[1]);
    struct pollfd pfd = {p[0], POLLIN, 0};
    V(poll(&pfd, 1, -1));
    printf("IN %d\n", pfd.revents & POLLIN);
    MUST(read(p[0], buffer, 1));
    V(poll(&pfd, 1, -1));
    printf("HUP %d\n", (pfd.revents & POLLHUP) != 0);
    reap("child", child);
    return 0;
}
