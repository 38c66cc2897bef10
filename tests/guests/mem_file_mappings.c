/* Mapped files: private copies, shared views, read and write coherent with both, truncation.
 */
#include "guest.h"

#define RW (PROT_READ | PROT_WRITE)

int main(void) {
    char page[PAGE], text[32] = "";
    int fd = MUST(open("file", O_RDWR | O_CREAT, 0644));
    for (int i = 0; i < 4; i++) {
        memset(page, 'a' + i, PAGE);
        MUST(write(fd, page, i == 3 ? 100 : PAGE));
    }
    char *shared = mmap(NULL, 4 * PAGE, RW, MAP_SHARED, fd, 0);
    char *other = mmap(NULL, 4 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
    char *private = mmap(NULL, 4 * PAGE, RW, MAP_PRIVATE, fd, 0);
    char *offset = mmap(NULL, PAGE, RW, MAP_SHARED, fd, 2 * PAGE);
    printf("%c%c%c%c %d\n", shared[0], shared[PAGE], shared[2 * PAGE], shared[3 * PAGE + 99],
           shared[3 * PAGE + 100]);

    shared[0] = 'S';
    printf("shared write: %c %c\n", other[0], private[0]);
    private[PAGE] = 'P';
    printf("private write: %c %c\n", shared[PAGE], private[PAGE]);
    MUST(pwrite(fd, "WW", 2, 1));
    printf("pwrite: %.3s %.3s %.3s\n", shared, other, private);
    MUST(pwrite(fd, "W", 1, PAGE));
    printf("pwrite under a private copy: %c %c\n", shared[PAGE], private[PAGE]);
    offset[5] = 'O';
    printf("by offset: %c\n", other[2 * PAGE + 5]);
    MUST(pread(fd, text, 3, 2 * PAGE + 4));
    printf("pread: %s\n", text);
    IN_CHILD("child", shared[1] = 'C'; private[1] = 'D'; private[2 * PAGE] = 'E');
    printf("after the child: %.3s %.3s %c\n", other, private, private[2 * PAGE]);

    /* Read into a mapping of the same file, write out of one. */
    MUST(lseek(fd, 0, SEEK_SET));
    V(read(fd, shared + 10, 3));
    printf("%.14s\n", other);
    V(pwrite(fd, shared, 4, 3 * PAGE));
    printf("%.5s\n", other + 3 * PAGE);
    V(pwrite(fd, shared + PAGE - 2, 4, PAGE - 3)); /* overlapping itself */

    MUST(ftruncate(fd, PAGE + 10));
    printf("cut: %d %d\n", shared[PAGE + 9] != 0, shared[PAGE + 10]);
    IN_CHILD("beyond the end, shared", (void)*(volatile char *)(other + 2 * PAGE));
    IN_CHILD("beyond the end, private", (void)*(volatile char *)(private + 3 * PAGE));
    IN_CHILD("beyond the end, once copied", (void)*(volatile char *)(private + 2 * PAGE));
    MUST(ftruncate(fd, 4 * PAGE));
    printf("grown: %d %d\n", other[2 * PAGE], other[PAGE + 10]);
    shared[3 * PAGE] = 'x';
    MUST(pread(fd, text, 1, 3 * PAGE));
    printf("%c\n", text[0]);
    close(fd);
    unlink("file");
    shared[7] = '7';
    printf("unlinked: %c\n", other[7]);
    fd = MUST(open("file", O_RDWR | O_CREAT | O_EXCL, 0644));
    V(read(fd, text, 1));
    return 0;
}
