/* readv, writev, preadv, pwritev: order, limits, partial counts, errors.
 */
#include "guest.h"

int main(void) {
    char a[4] = "", b[8] = "", c[16] = "";
    int fd = MUST(open("file", O_RDWR | O_CREAT, 0644)), p[2];
    struct iovec out[3] = {{"one", 3}, {"", 0}, {"twothree", 8}};
    V(writev(fd, out, 3));
    struct iovec in[3] = {{a, 2}, {b, 5}, {c, 15}};
    V(preadv(fd, in, 3, 0));
    printf("%s|%s|%s\n", a, b, c);
    V(lseek(fd, 0, SEEK_CUR));
    V(pwritev(fd, out, 1, 20));
    V(preadv(fd, in, 3, 18));
    MUST(lseek(fd, 0, SEEK_SET));
    V(readv(fd, in, 2));
    V(readv(fd, in, 0));
    E(readv(fd, in, -1));
    static struct iovec many[IOV_MAX + 1];
    for (int i = 0; i <= IOV_MAX; i++)
        many[i] = (struct iovec){"x", 1};
    MUST(pipe2(p, O_NONBLOCK));
    E(writev(p[1], many, IOV_MAX + 1));
    V(writev(p[1], many, IOV_MAX));
    struct iovec bad[2] = {{c, 4}, {(void *)1, 4}};
    E(writev(fd, (struct iovec *)1, 1));
    bad[1].iov_len = -1;
    E(writev(fd, bad, 2));
    bad[1].iov_len = 4;
    V(writev(p[1], bad, 2)); /* as much as could be read */
    bad[0].iov_base = (void *)1;
    E(writev(p[1], bad, 2));
    E(preadv(fd, in, 1, -1));
    E(preadv(p[0], in, 1, 0));
    E(pread(fd, a, 1, -1));
    E(pwrite(fd, a, 1, -1));
    V(read(p[0], c, 0));
    V(preadv2(fd, in, 1, 0, 0));
    V(preadv2(fd, in, 1, -1, 0)); /* -1: at the position */
    V(pwritev2(fd, out, 1, 0, RWF_APPEND));
    V(lseek(fd, 0, SEEK_END));
    E(preadv2(fd, in, 1, 0, 0x1000));
    E(read(999, a, 1));
    E(read(fd, (void *)1, 0) == 0 ? 0 : -1);
    E(write(fd, (void *)1, 10));
    E(read(fd, (void *)-4096L, 10));

    /* A buffer that ends in nothing: what fits is transferred. */
    char *edge = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(munmap(edge + PAGE, PAGE));
    memset(edge, 'e', PAGE);
    while (read(p[0], c, sizeof c) == sizeof c)
        ;
    V(write(p[1], edge + PAGE - 5, 5));
    E(read(p[0], edge + PAGE, 5));
    V(read(p[0], edge + PAGE - 5, 5));
    return 0;
}
