/* mmap and munmap: what they refuse, what they round, where they put things.
 */
#include "guest.h"

#define MAP(addr, size, prot, flags, fd, offset)                                                   \
    ({                                                                                             \
        void *p_ = mmap(addr, size, prot, flags, fd, offset);                                      \
        printf("%s %s %s %s: %s\n", #size, #prot, #flags, #fd,                                     \
               p_ == MAP_FAILED ? errno_name(errno) : "ok");                                       \
        p_;                                                                                        \
    })
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

int main(void) {
    write_file("file", "contents", 8, 0644);
    int rw = MUST(open("file", O_RDWR)), ro = MUST(open("file", O_RDONLY)),
        wo = MUST(open("file", O_WRONLY)), dir = MUST(open(".", O_RDONLY)), p[2];
    int path = MUST(open("file", O_PATH));
    MUST(pipe(p));
    MAP(NULL, 0, RW, ANON, -1, 0);
    MAP(NULL, PAGE, RW, MAP_ANONYMOUS, -1, 0);
    MAP(NULL, PAGE, RW, MAP_PRIVATE, -1, 0);
    MAP(NULL, PAGE, RW, MAP_PRIVATE, 999, 0);
    MAP(NULL, PAGE, RW, MAP_PRIVATE, path, 0);
    MAP(NULL, PAGE, RW, MAP_PRIVATE, rw, 100);
    MAP(NULL, PAGE, PROT_READ, MAP_PRIVATE, wo, 0);
    MAP(NULL, PAGE, PROT_WRITE, MAP_SHARED, wo, 0);
    MAP(NULL, PAGE, RW, MAP_SHARED, ro, 0);
    MAP(NULL, PAGE, PROT_READ, MAP_SHARED, ro, 0);
    MAP(NULL, PAGE, RW, MAP_PRIVATE, ro, 0);
    MAP(NULL, PAGE, RW, MAP_PRIVATE, dir, 0);
    MAP(NULL, PAGE, RW, MAP_PRIVATE, p[0], 0);
    MAP(NULL, PAGE, RW, MAP_SHARED | MAP_PRIVATE, rw, 0); /* MAP_SHARED_VALIDATE */
    MAP(NULL, PAGE, RW, MAP_SHARED_VALIDATE | 0x80000, rw, 0);
    MAP(NULL, 1UL << 47, RW, ANON | MAP_NORESERVE, -1, 0);
    MAP(NULL, -1UL, RW, ANON, -1, 0);
    MAP(NULL, 2 * PAGE, RW, MAP_PRIVATE, rw, -PAGE);
    char *base = MAP(NULL, 10 * PAGE - 1, RW, ANON, -1, 0);
    MAP(base + 1, PAGE, RW, ANON | MAP_FIXED, -1, 0);
    MAP((void *)(1UL << 47), PAGE, RW, ANON | MAP_FIXED, -1, 0);
    IS(MAP(base + PAGE, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED);
    MAP(base + 9 * PAGE, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0);
    E(munmap(base + 9 * PAGE, PAGE));
    IS(MAP(base + 9 * PAGE, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0) == base + 9 * PAGE);
    E(munmap(base + 5 * PAGE, PAGE));
    IS(MAP(base + 5 * PAGE, PAGE, RW, ANON, -1, 0) == base + 5 * PAGE); /* a hint that is free */
    char *elsewhere = MAP(base + 5 * PAGE, PAGE, RW, ANON, -1, 0);      /* one that is not */
    IS(elsewhere != base + 5 * PAGE && elsewhere != MAP_FAILED);
    IS(((uintptr_t)MAP((void *)0x500000000123, PAGE, RW, ANON, -1, 0) & 0xfff) == 0);

    long zeros = 0;
    for (long i = 0; i < 10 * PAGE; i++)
        zeros += base[i] == 0;
    printf("zeros %ld\n", zeros);
    E(munmap(base, 0));
    E(munmap(base + 1, PAGE));
    E(munmap(base, -1UL));
    E(munmap((void *)(1UL << 47), PAGE));
    E(munmap(base + 3 * PAGE, 100)); /* rounded up */
    E(munmap(base, 10 * PAGE)); /* holes are no error */
    E(munmap(base, PAGE));
    return 0;
}
