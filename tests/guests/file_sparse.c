/* Holes: SEEK_DATA and SEEK_HOLE, O_TMPFILE, seeking.
 */
#include "guest.h"

#define MB (1L << 20)

int main(void) {
    static char block[65536];
    int fd = MUST(open("sparse", O_RDWR | O_CREAT, 0644));
    memset(block, 'x', sizeof block);
    V(lseek(fd, 0, SEEK_DATA));
    V(lseek(fd, 0, SEEK_HOLE));
    MUST(pwrite(fd, block, sizeof block, MB));
    MUST(pwrite(fd, block, sizeof block, 4 * MB));
    MUST(ftruncate(fd, 8 * MB));
    V(lseek(fd, 0, SEEK_DATA));
    V(lseek(fd, MB, SEEK_DATA));
    V(lseek(fd, MB + 5, SEEK_DATA));
    V(lseek(fd, 0, SEEK_HOLE));
    V(lseek(fd, MB, SEEK_HOLE));
    V(lseek(fd, 2 * MB, SEEK_DATA));
    V(lseek(fd, 4 * MB, SEEK_HOLE));
    V(lseek(fd, 5 * MB, SEEK_DATA));
    V(lseek(fd, 5 * MB, SEEK_HOLE));
    V(lseek(fd, 8 * MB, SEEK_HOLE));
    V(lseek(fd, 8 * MB, SEEK_DATA));
    struct stat st;
    MUST(fstat(fd, &st));
    IS(st.st_blocks >= 256 && st.st_blocks < 2048);
    V(lseek(fd, -1, SEEK_SET));
    V(lseek(fd, 0, SEEK_END));
    V(lseek(fd, -10, SEEK_END));
    V(lseek(fd, -9 * MB, SEEK_CUR));
    V(lseek(fd, 100, SEEK_CUR));
    V(lseek(fd, 0, 77));
    V(lseek(fd, 5, SEEK_SET));
    V(lseek(fd, LONG_MAX, SEEK_CUR));
    V(lseek(999, 0, SEEK_SET));
    V(lseek(open("/dev/null", O_RDWR), 77, SEEK_SET));

    int tmp = MUST(open(".", O_TMPFILE | O_RDWR, 0640));
    MUST(write(tmp, "nameless", 8));
    MUST(fstat(tmp, &st));
    printf("links %ld mode %o size %ld\n", (long)st.st_nlink, st.st_mode, (long)st.st_size);
    char path[64], text[16] = "";
    snprintf(path, sizeof path, "/proc/self/fd/%d", tmp);
    E(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
    MUST(fstat(tmp, &st));
    printf("links %ld\n", (long)st.st_nlink);
    int named = MUST(open("named", O_RDONLY));
    MUST(read(named, text, 8));
    printf("%s\n", text);
    E(open(".", O_TMPFILE | O_RDONLY, 0600));
    E(open("named", O_TMPFILE | O_RDWR, 0600));
    E(open("missing", O_TMPFILE | O_RDWR, 0600));
    tmp = MUST(open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600));
    snprintf(path, sizeof path, "/proc/self/fd/%d", tmp);
    E(linkat(AT_FDCWD, path, AT_FDCWD, "never", AT_SYMLINK_FOLLOW));
    return 0;
}
