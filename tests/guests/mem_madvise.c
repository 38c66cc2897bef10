/* madvise: pages dropped, kept from children, wiped in children; what it refuses.
 */
#include "guest.h"
#include <setjmp.h>

#define RW (PROT_READ | PROT_WRITE)

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

int main(void) {
    char *p = mmap(NULL, 8 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(p, 'a', 8 * PAGE);
    E(madvise(p + PAGE, 2 * PAGE, MADV_DONTNEED));
    printf("%d %d %d %d\n", p[0], p[PAGE], p[2 * PAGE], p[3 * PAGE]);
    p[PAGE] = 'b';
    printf("%d\n", p[PAGE]);
    write_file("file", "file", 4, 0644);
    int fd = MUST(open("file", O_RDWR));
    char *f = mmap(NULL, PAGE, RW, MAP_PRIVATE, fd, 0);
    f[0] = 'F';
    E(madvise(f, PAGE, MADV_DONTNEED));
    printf("%.4s\n", f); /* the file's again */
    char *s = mmap(NULL, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    s[0] = 's';
    E(madvise(s, PAGE, MADV_DONTNEED));
    printf("%c\n", s[0]); /* shared pages stay */
    E(madvise(p, PAGE, MADV_NORMAL));
    E(madvise(p, PAGE, MADV_RANDOM));
    E(madvise(p, PAGE, MADV_SEQUENTIAL));
    E(madvise(p, PAGE, MADV_WILLNEED));
    E(madvise(f, PAGE, MADV_WILLNEED));
    E(madvise(p, PAGE, MADV_FREE));
    E(madvise(f, PAGE, MADV_FREE));
    E(madvise(p, 2 * PAGE, MADV_POPULATE_WRITE));
    E(madvise(p, 2 * PAGE, MADV_POPULATE_READ));
    E(madvise(p, 8 * PAGE, MADV_NOHUGEPAGE));
    E(madvise(p, PAGE, 12345));
    E(madvise(p + 1, PAGE, MADV_DONTNEED));
    E(madvise(p, 0, MADV_DONTNEED));
    E(madvise(p, -PAGE, MADV_DONTNEED));
    MUST(munmap(p + 4 * PAGE, PAGE));
    memset(p + 5 * PAGE, 'c', PAGE);
    E(madvise(p + 3 * PAGE, 3 * PAGE, MADV_DONTNEED)); /* over the hole: done, and told */
    printf("%d %d\n", p[3 * PAGE], p[5 * PAGE]);

    char *q = mmap(NULL, 4 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(q, 'q', 4 * PAGE);
    E(madvise(q, PAGE, MADV_WIPEONFORK));
    E(madvise(q + PAGE, PAGE, MADV_DONTFORK));
    IN_CHILD("child", printf("%d %d\n", q[0], q[2 * PAGE]));
    IN_CHILD("child touches what was not forked", printf("%d\n", q[PAGE]));
    E(madvise(q, PAGE, MADV_KEEPONFORK));
    E(madvise(q + PAGE, PAGE, MADV_DOFORK));
    IN_CHILD("child", printf("%d %d\n", q[0], q[PAGE]));
    E(madvise(s, PAGE, MADV_WIPEONFORK));
    return 0;
}
