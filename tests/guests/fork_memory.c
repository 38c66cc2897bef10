/* A big memory, forked three times over, each generation changing a part of it.
 * traps: many
 */
#include "guest.h"

#define PAGES 4096

static unsigned checksum(const unsigned char *p) {
    unsigned sum = 0;
    for (long i = 0; i < PAGES; i++)
        sum = sum * 31 + p[i * PAGE] + p[i * PAGE + 4095];
    return sum;
}

int main(void) {
    unsigned char *p =
        mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(p == MAP_FAILED ? -1 : 0);
    for (long i = 0; i < PAGES; i++)
        p[i * PAGE] = i, p[i * PAGE + 4095] = i * 7;
    printf("parent before: %u\n", checksum(p));
    for (int generation = 0; generation < 3; generation++) {
        fflush(stdout);
        pid_t child = MUST(fork());
        if (child == 0) {
            for (long i = generation; i < PAGES; i += 3)
                p[i * PAGE] ^= 0x55;
            printf("generation %d: %u\n", generation, checksum(p));
            continue;
        }
        int status;
        MUST(waitpid(child, &status, 0));
        printf("after generation %d: %u\n", generation, checksum(p));
        return WEXITSTATUS(status) + 1;
    }
    return 0;
}
