/* A program that runs cannot be written; a file open for writing cannot be run.
 */
#include "guest.h"

static char buffer[1 << 16];

int main(int argc, char **argv) {
    if (argc > 1) {
        E(open(argv[1], O_WRONLY));
        E(open(argv[1], O_RDWR | O_TRUNC));
        E(truncate(argv[1], 0));
        int fd = open(argv[1], O_RDONLY);
        E(fchmod(fd, 0700));
        E(rename(argv[1], "./renamed"));
        E(unlink("./renamed"));
        return 3;
    }
    int from = MUST(open("/proc/self/exe", O_RDONLY));
    int to = MUST(open("./copy", O_WRONLY | O_CREAT, 0755));
    ssize_t size;
    while ((size = MUST(read(from, buffer, sizeof buffer))) > 0)
        MUST(write(to, buffer, size));
    IN_CHILD("open for writing", execl("./copy", "copy", "./copy", NULL);
             printf("%s\n", errno_name(errno)); exit(1));
    MUST(close(to));
    IN_CHILD("closed", execl("./copy", "copy", "./copy", NULL); printf("%s\n", errno_name(errno));
             exit(1));
    E(access("./renamed", F_OK));
    return 0;
}
