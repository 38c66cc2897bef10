/* FIFOs: open waits for the other side, O_NONBLOCK does not, O_RDWR never.
 */
#include "guest.h"

int main(void) {
    char text[16] = "";
    struct stat st;
    E(mkfifo("fifo", 0640));
    E(mkfifo("fifo", 0640));
    E(mkfifo("no/fifo", 0640));
    E(mknod("fifo2", S_IFIFO | 0600, 0));
    MUST(lstat("fifo", &st));
    printf("mode %o size %ld\n", st.st_mode, (long)st.st_size);
    E(open("fifo", O_WRONLY | O_NONBLOCK));
    int both = open("fifo", O_RDWR);
    IS(both >= 0);
    MUST(write(both, "abc", 3));
    V(read(both, text, 3));
    close(both);
    pid_t child = MUST(fork());
    if (!child) {
        int w = MUST(open("fifo", O_WRONLY));
        MUST(write(w, "through the fifo", 16));
        close(w);
        int r = MUST(open("fifo2", O_RDONLY));
        memset(text, 0, sizeof text);
        MUST(read(r, text, 4));
        printf("child read %s\n", text);
        _exit(0);
    }
    int r = MUST(open("fifo", O_RDONLY));
    V(read(r, text, sizeof text));
    printf("%.16s\n", text);
    V(read(r, text, sizeof text));
    int w = MUST(open("fifo2", O_WRONLY));
    MUST(write(w, "back", 4));
    reap("child", child);
    int again = open("fifo", O_RDONLY | O_NONBLOCK);
    V(read(again, text, 1));
    int writer = open("fifo", O_WRONLY | O_NONBLOCK);
    IS(writer >= 0);
    E(read(again, text, 1));
    E(unlink("fifo"));
    MUST(write(writer, "z", 1));
    V(read(r, text, 1)); /* both ends are still open */
    return 0;
}
