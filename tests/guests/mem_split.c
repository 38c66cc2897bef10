/* Mappings cut, joined and overlaid: contents stay with their pages, rights with their ranges.
 */
#include "guest.h"
#include <setjmp.h>

static sigjmp_buf back;

static void handler(int sig) {
    (void)sig;
    siglongjmp(back, 1);
}

__attribute__((noinline)) static char rights(volatile char *p) {
    volatile char can = '-';
    if (!sigsetjmp(back, 1)) {
        (void)*p;
        can = 'r';
        if (!sigsetjmp(back, 1)) {
            *p = *p;
            can = 'w';
        }
    }
    return can;
}

static void show(const char *what, char *base, int pages) {
    printf("%-24s", what);
    for (int i = 0; i < pages; i++) {
        volatile char can = rights(base + i * PAGE + 10);
        printf(" %c%d", can, can == '-' ? 0 : base[i * PAGE]);
    }
    printf("\n");
}

int main(void) {
    handle(SIGSEGV, handler, 0);
    /* An inaccessible page on both sides, so that neighbours do not matter. */
    char *outer = mmap(NULL, 14 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *base = outer + PAGE;
    MUST(mprotect(base, 12 * PAGE, PROT_READ | PROT_WRITE));
    for (int i = 0; i < 12; i++)
        base[i * PAGE] = i + 1;
    show("all", base, 12);
    MUST(munmap(base + 3 * PAGE, 2 * PAGE));
    show("hole at 3 and 4", base, 12);
    E(mprotect(base + 2 * PAGE, 4 * PAGE, PROT_READ)); /* stops at the hole */
    show("read from 2 over the hole", base, 12);
    E(mprotect(base + 6 * PAGE, 2 * PAGE, PROT_NONE));
    show("nothing at 6 and 7", base, 12);
    E(mprotect(base + 6 * PAGE, PAGE, PROT_READ | PROT_WRITE));
    show("6 again", base, 12);
    char *p = mmap(base + 8 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    IS(p == base + 8 * PAGE);
    show("8 and 9 new", base, 12);
    E(mprotect(base, 12 * PAGE, PROT_READ | PROT_WRITE));
    p = mmap(base + 3 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    IS(p == base + 3 * PAGE);
    E(mprotect(base, 12 * PAGE, PROT_READ | PROT_WRITE));
    show("whole again", base, 12);
    E(mprotect(base + 1, PAGE, PROT_READ));
    E(mprotect(base, PAGE, 0x100));
    E(mprotect(base, 0, PROT_READ));
    E(mprotect(base, -PAGE, PROT_READ));
    E(mprotect((void *)(1UL << 47), PAGE, PROT_READ));
    E(mprotect(base, PAGE, PROT_READ | PROT_GROWSDOWN));
    write_file("file", "x", 1, 0644);
    int ro = MUST(open("file", O_RDONLY));
    p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, ro, 0);
    E(mprotect(p, PAGE, PROT_READ | PROT_WRITE));
    p = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, ro, 0);
    E(mprotect(p, PAGE, PROT_READ | PROT_WRITE));
    *p = 'y';
    printf("private copy %c\n", *p);

    /* Code written, made executable, run; then changed. */
    unsigned char code[] = {0xb8, 42, 0, 0, 0, 0xc3};
    p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(p, code, sizeof code);
    E(mprotect(p, PAGE, PROT_READ | PROT_EXEC));
    printf("code answers %d\n", ((int (*)(void))(uintptr_t)p)());
    E(mprotect(p, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
    p[1] = 43;
    printf("code answers %d\n", ((int (*)(void))(uintptr_t)p)());
    return 0;
}
