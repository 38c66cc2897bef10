/* truncate and file sizes: growth by zeros, holes, limits, SIGXFSZ.
 */
#include "guest.h"

static volatile sig_atomic_t signals;
static void handler(int sig) {
    (void)sig;
    signals++;
}

int main(void) {
    char text[64] = "";
    struct stat st;
    write_file("file", "0123456789", 10, 0644);
    int fd = MUST(open("file", O_RDWR)), ro = MUST(open("file", O_RDONLY));
    E(ftruncate(fd, 5));
    V(pread(fd, text, 20, 0));
    E(ftruncate(fd, 8));
    V(pread(fd, text, 20, 0));
    printf("%s %d %d\n", text, text[5], text[7]);
    E(ftruncate(fd, -1));
    E(ftruncate(ro, 0));
    E(ftruncate(999, 0));
    E(truncate("file", -1));
    E(truncate("missing", 0));
    E(truncate(".", 0));
    E(truncate("file", 3));
    MUST(fstat(fd, &st));
    printf("size %ld\n", (long)st.st_size);
    V(lseek(fd, 100000, SEEK_SET));
    V(write(fd, "end", 3));
    V(pread(fd, text, 4, 50000));
    printf("%d%d%d%d\n", text[0], text[1], text[2], text[3]);
    MUST(fstat(fd, &st));
    printf("size %ld\n", (long)st.st_size);
    E(ftruncate(fd, 1L << 33));
    MUST(fstat(fd, &st));
    printf("size %ld few blocks %d\n", (long)st.st_size, st.st_blocks < 1000);
    V(pread(fd, text, 10, (1L << 33) - 3));
    E(ftruncate(fd, 0));
    MUST(fstat(fd, &st));
    printf("size %ld blocks %ld\n", (long)st.st_size, (long)st.st_blocks);

    struct rlimit limit = {1000, 1000};
    IN_CHILD("RLIMIT_FSIZE", setrlimit(RLIMIT_FSIZE, &limit); V(pwrite(fd, text, 50, 980));
             (void)!pwrite(fd, text, 1, 1000));
    IN_CHILD("RLIMIT_FSIZE caught", setrlimit(RLIMIT_FSIZE, &limit); handle(SIGXFSZ, handler, 0);
             E(pwrite(fd, text, 1, 1000)); E(ftruncate(fd, 1001)); E(ftruncate(fd, 1000));
             printf("signals %d\n", signals); int p[2]; pipe(p); V(write(p[1], text, 64)));
    E(posix_fallocate(fd, 0, 5000) == 0 ? 0 : -1);
    MUST(fstat(fd, &st));
    printf("size %ld\n", (long)st.st_size);
    E(fallocate(fd, 1, 0, 100000)); /* KEEP_SIZE */
    MUST(fstat(fd, &st));
    printf("size %ld\n", (long)st.st_size);
    MUST(pwrite(fd, "xxxxxxxx", 8, 4092));
    E(fallocate(fd, 3, 4096, 4096)); /* PUNCH_HOLE | KEEP_SIZE */
    MUST(pread(fd, text, 8, 4092));
    printf("%.4s %d\n", text, text[4]);
    E(fallocate(fd, 0, -1, 1));
    E(fallocate(fd, 0, 0, 0));
    E(fallocate(ro, 0, 0, 10));
    E(fallocate(fd, 2, 0, 10)); /* PUNCH_HOLE without KEEP_SIZE */
    return 0;
}
