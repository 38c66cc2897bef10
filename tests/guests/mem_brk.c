/* brk: grows and shrinks, zeroes what comes back, is the child's own, has a limit.
 */
#include "guest.h"

static char *set_brk(char *p) {
    return (char *)syscall(SYS_brk, p);
}

int main(void) {
    printf("stdio has its buffer\n"); /* before the break is looked at */
    char *start = set_brk(NULL);
    char *base = (char *)(((uintptr_t)start + PAGE - 1) & -PAGE);
    IS(set_brk(base + 10 * PAGE) == base + 10 * PAGE);
    memset(base, 'b', 10 * PAGE);
    IS(set_brk(base + 5 * PAGE + 100) == base + 5 * PAGE + 100);
    printf("%d %d\n", base[5 * PAGE], base[5 * PAGE + 99]);
    IN_CHILD("beyond the break's page", *(volatile char *)(base + 6 * PAGE) = 1);
    IS(set_brk(base + 10 * PAGE) == base + 10 * PAGE);
    printf("%d %d %d\n", base[5 * PAGE], base[6 * PAGE], base[9 * PAGE]);
    IN_CHILD("child", IS(set_brk(NULL) == base + 10 * PAGE);
             IS(set_brk(base + 20 * PAGE) == base + 20 * PAGE); base[19 * PAGE] = 1);
    IS(set_brk(NULL) == base + 10 * PAGE);
    IS(set_brk((char *)16) == base + 10 * PAGE); /* refused: it stays */
    IS(set_brk((char *)(1UL << 47)) == base + 10 * PAGE);
    char *wall =
        mmap(base + 14 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    IS(wall == base + 14 * PAGE);
    IS(set_brk(base + 15 * PAGE) == base + 10 * PAGE); /* a mapping in the way */
    IS(set_brk(base + 12 * PAGE) == base + 12 * PAGE);
    IS(set_brk(start) == start);
    IN_CHILD("RLIMIT_DATA", struct rlimit limit = {PAGE, PAGE}; setrlimit(RLIMIT_DATA, &limit);
             IS(set_brk(base + 12 * PAGE) == start));
    void *before = sbrk(0);
    IS(sbrk(5000) == before);
    memset(before, 1, 5000);
    IS(sbrk(-5000) == (char *)before + 5000);
    return 0;
}
