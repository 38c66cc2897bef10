/* mremap: shrink, grow in place and elsewhere, fixed, copies of shared pages, what is refused.
 */
#include "guest.h"

#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

static int check(const char *p, int pages, int first) {
    for (int i = 0; i < pages; i++)
        if (p[i * PAGE] != first + i)
            return 0;
    return 1;
}

static int mapped(void *p) {
    unsigned char vec;
    return mincore(p, PAGE, &vec) == 0;
}

int main(void) {
    char *outer = mmap(NULL, 64 * PAGE, PROT_NONE, ANON, -1, 0), *q;
    char *base = outer + 8 * PAGE;
    MUST(munmap(base, 40 * PAGE)); /* walled in, with room to grow */
    base = mmap(base, 8 * PAGE, RW, ANON | MAP_FIXED, -1, 0);
    for (int i = 0; i < 8; i++)
        base[i * PAGE] = i + 1;
    IS(mremap(base, 8 * PAGE, 4 * PAGE, 0) == base);
    IS(mapped(base + 3 * PAGE) && !mapped(base + 4 * PAGE));
    IS(mremap(base, 4 * PAGE, 6 * PAGE, 0) == base);
    IS(check(base, 4, 1));
    printf("new pages %d %d\n", base[4 * PAGE], base[5 * PAGE]);
    E(mremap(base, 6 * PAGE, 60 * PAGE, 0) == MAP_FAILED ? -1 : 0);
    q = mremap(base, 6 * PAGE, 60 * PAGE, MREMAP_MAYMOVE);
    IS(q != MAP_FAILED && q != base && check(q, 4, 1) && !mapped(base));
    char *target = outer + 10 * PAGE;
    IS(mremap(q, 6 * PAGE, 6 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target) == target);
    IS(check(target, 4, 1) && !mapped(q) && mapped(q + 6 * PAGE));
    E(mremap(target, 6 * PAGE, 0, MREMAP_MAYMOVE));
    E(mremap(target + 1, PAGE, PAGE, 0));
    E(mremap(target, PAGE, PAGE, 0x80));
    E(mremap(target, PAGE, PAGE, MREMAP_FIXED, outer));
    E(mremap(target, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target + PAGE));
    E(mremap(target, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target + 1));
    MUST(munmap(outer + 30 * PAGE, PAGE));
    E(mremap(outer + 30 * PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE));
    E(mremap(target + 4 * PAGE, 8 * PAGE, 9 * PAGE, MREMAP_MAYMOVE)); /* beyond its end */

    /* From the middle of a mapping: it is cut. */
    q = mremap(target + PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE);
    IS(q != MAP_FAILED && q[0] == 2 && q[PAGE] == 0);
    IS(mapped(target) && !mapped(target + PAGE) && target[2 * PAGE] == 3);

    /* Old size 0 copies a shared mapping; a private one it does not. */
    char *shared = mmap(NULL, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char *again = mremap(shared, 0, PAGE, MREMAP_MAYMOVE);
    IS(again != MAP_FAILED);
    *shared = 55;
    printf("second view %d\n", *again);
    E(mremap(target, 0, PAGE, MREMAP_MAYMOVE));

    /* MREMAP_DONTUNMAP: the pages move, the old range stays, empty. */
    char *old = mmap(NULL, PAGE, RW, ANON, -1, 0);
    *old = 66;
    q = (char *)syscall(SYS_mremap, old, PAGE, PAGE, MREMAP_MAYMOVE | 4, 0);
    IS(q != MAP_FAILED && q != old);
    printf("moved %d, old %d\n", q[0], old[0]);
    return 0;
}
