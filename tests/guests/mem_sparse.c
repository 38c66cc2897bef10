/* Sixty-four gibibytes reserved, a few pages of it used; thousands of small mappings.
 * traps: many
 */
#include "guest.h"

int main(void) {
    size_t size = 64UL << 30;
    char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    MUST(p == MAP_FAILED ? -1 : 0);
    for (int i = 0; i < 64; i++)
        p[((size_t)i << 30) + i * PAGE] = i + 1;
    long sum = 0;
    for (int i = 0; i < 64; i++)
        sum += p[((size_t)i << 30) + i * PAGE];
    printf("sum %ld, untouched %d\n", sum, p[size - 1]);
    IN_CHILD("child", p[0] = 99; printf("%d %d\n", p[0], p[(63UL << 30) + 63 * PAGE]));
    printf("%d\n", p[0]);
    E(munmap(p, size));
    p = mmap(NULL, 1UL << 40, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    IS(p != MAP_FAILED);
    E(munmap(p, 1UL << 40));

    /* Every other page of its own rights: 4,000 mappings. */
    int pages = 4000;
    p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < pages; i++)
        *(int *)(p + i * PAGE) = i * 3;
    for (int i = 0; i < pages; i += 2)
        MUST(mprotect(p + i * PAGE, PAGE, PROT_READ));
    sum = 0;
    for (int i = 0; i < pages; i++) {
        if (i % 2)
            *(int *)(p + i * PAGE + 8) = 1;
        sum += *(int *)(p + i * PAGE) + *(int *)(p + i * PAGE + 8);
    }
    printf("sum %ld\n", sum);
    for (int i = 1; i < pages; i += 2)
        MUST(munmap(p + i * PAGE, PAGE));
    sum = 0;
    for (int i = 0; i < pages; i += 2)
        sum += *(int *)(p + i * PAGE);
    printf("sum %ld\n", sum);
    return 0;
}
