/* Pipes: capacity, end of file, non-blocking, FIONREAD, sizes, what is refused.
 */
#include "guest.h"
#include <sys/ioctl.h>

static int *volatile nowhere = (int *)1;
static char buffer[1 << 17];

int main(void) {
    int p[2], waiting = -1;
    struct stat st;
    E(pipe2(p, 0x40000000));
    E(pipe(nowhere));
    MUST(pipe2(p, O_NONBLOCK | O_CLOEXEC));
    V(fcntl(p[0], F_GETFD));
    V(fcntl(p[0], F_GETFL) == (O_RDONLY | O_NONBLOCK));
    V(fcntl(p[1], F_GETFL) == (O_WRONLY | O_NONBLOCK));
    V(fcntl(p[0], F_GETPIPE_SZ));
    E(read(p[0], buffer, 1));
    V(read(p[0], buffer, 0));
    V(write(p[1], buffer, 0));
    V(write(p[1], buffer, sizeof buffer));
    E(write(p[1], buffer, 1));
    E(ioctl(p[0], FIONREAD, &waiting));
    printf("waiting %d\n", waiting);
    V(read(p[0], buffer, 5000));
    V(write(p[1], buffer, 5000)); /* whole pages only */
    V(read(p[0], buffer, sizeof buffer));
    V(fcntl(p[1], F_SETPIPE_SZ, 4096));
    V(write(p[1], buffer, 10000));
    V(fcntl(p[1], F_SETPIPE_SZ, 5000));
    V(fcntl(p[1], F_GETPIPE_SZ));
    V(read(p[0], buffer, sizeof buffer));
    E(lseek(p[0], 0, SEEK_SET));
    E(pread(p[0], buffer, 1, 0));
    E(pwrite(p[1], buffer, 1, 0));
    E(write(p[0], buffer, 1));
    E(read(p[1], buffer, 1));
    E(ftruncate(p[1], 0));
    E(fsync(p[1]));
    E(read(p[0], nowhere, 1));
    MUST(write(p[1], "abcdef", 6));
    E(read(p[0], nowhere, 1));
    memset(buffer, 0, 8);
    V(read(p[0], buffer, 3));
    printf("%s\n", buffer);
    MUST(fstat(p[0], &st));
    printf("fifo %d links %ld size %ld mode %o\n", S_ISFIFO(st.st_mode), (long)st.st_nlink,
           (long)st.st_size, st.st_mode & 07777);
    close(p[1]);
    V(read(p[0], buffer, 10));
    V(read(p[0], buffer, 10));

    /* A blocking reader wakes when the last writer goes, however it goes. */
    MUST(pipe(p));
    pid_t child = MUST(fork());
    if (!child) {
        close(p[0]);
        sleep_ms(10);
        MUST(write(p[1], "x", 1));
        raise(SIGKILL);
    }
    close(p[1]);
    V(read(p[0], buffer, 10));
    V(read(p[0], buffer, 10));
    reap("writer", child);
    return 0;
}
