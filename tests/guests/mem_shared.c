/* Memory shared between processes: anonymous, memfd, a file; grandchildren; after the maker's end.
 */
#include "guest.h"

#define RW (PROT_READ | PROT_WRITE)

int main(void) {
    int *a = mmap(NULL, 2 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 3; i++)
        IN_CHILD("child", a[i] = i + 100; a[PAGE / 4 + i] += 5;
                 IN_CHILD("grandchild", a[10]++; a[PAGE / 4] *= 2));
    printf("%d %d %d %d %d %d\n", a[0], a[1], a[2], a[10], a[PAGE / 4], a[PAGE / 4 + 2]);

    /* First touched by the child. */
    int *b = mmap(NULL, 100 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    IN_CHILD("child", for (int i = 0; i < 100; i++) b[i * PAGE / 4] = i);
    long sum = 0;
    for (int i = 0; i < 100; i++)
        sum += b[i * PAGE / 4];
    printf("sum %ld\n", sum);

    int fd = MUST(memfd_create("shared", MFD_CLOEXEC));
    MUST(ftruncate(fd, 4 * PAGE));
    char *m = mmap(NULL, 4 * PAGE, RW, MAP_SHARED, fd, 0);
    IN_CHILD("child", char *own = mmap(NULL, PAGE, RW, MAP_SHARED, fd, 2 * PAGE);
             strcpy(own, "through another mapping"); strcpy(m, "through the same"));
    printf("%s, %s\n", m, m + 2 * PAGE);
    char text[8] = "";
    MUST(pread(fd, text, 7, 0));
    printf("%s\n", text);
    MUST(pwrite(fd, "PWRITE", 6, 8));
    printf("%s\n", m);
    char *private = mmap(NULL, PAGE, RW, MAP_PRIVATE, fd, 0);
    strcpy(private, "private");
    strcpy(m + 100, "late");
    printf("%s, [%s]\n", m, private + 100); /* the page was copied before */
    close(fd);
    printf("%s\n", m);
    MUST(munmap(m, PAGE));
    printf("%s\n", m + 2 * PAGE);

    /* Atomic counting by four processes at once. */
    for (int i = 0; i < 4; i++)
        if (!MUST(fork())) {
            for (int j = 0; j < 50000; j++)
                __sync_fetch_and_add(&a[20], 1);
            _exit(0);
        }
    for (int i = 0; i < 4; i++)
        MUST(wait(NULL));
    printf("count %d\n", a[20]);
    return 0;
}
