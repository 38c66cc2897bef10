/* Parent, children and grandchildren write to the same pages at once; each sees its own.
 * traps: many
 */
#include "guest.h"

#define PAGES 64

static unsigned char *pages;

static long play(int seed) {
    long wrong = 0;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < PAGES; i++)
            pages[i * PAGE + seed] = seed + round;
        sched_yield();
        for (int i = 0; i < PAGES; i++)
            wrong += pages[i * PAGE + seed] != seed + round;
    }
    return wrong;
}

int main(void) {
    pages = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < PAGES; i++)
        memset(pages + i * PAGE, 1, PAGE);
    long wrong = 0;
    for (int i = 0; i < 6; i++)
        if (!MUST(fork())) {
            for (int j = 0; j < 3; j++)
                if (!MUST(fork()))
                    _exit(play(10 + i * 4 + j) != 0);
            long bad = play(100 + i);
            int status;
            for (int j = 0; j < 3; j++) {
                MUST(wait(&status));
                bad += status != 0;
            }
            /* Nobody else's marks are in our copy. */
            for (int k = 2; k < PAGE; k++)
                bad += k != 100 + i && pages[k] != 1;
            _exit(bad != 0);
        }
    wrong += play(200);
    for (int i = 0; i < 6; i++) {
        int status;
        MUST(wait(&status));
        wrong += status != 0;
    }
    for (int k = 2; k < PAGE; k++)
        wrong += k != 200 && pages[k] != 1;
    printf("wrong %ld\n", wrong);
    return 0;
}
