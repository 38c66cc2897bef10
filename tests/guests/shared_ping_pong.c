/* Two processes hand a number back and forth through shared memory, spinning, yielding now and then.
 * traps: many
 */
#include "guest.h"

#define ROUNDS 4000

int main(void) {
    volatile int *turn =
        mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child = MUST(fork());
    int me = child ? 0 : 1;
    for (int i = 0; i < ROUNDS; i++) {
        for (int spins = 0; turn[0] % 2 != me; spins++)
            if (spins % 1000 == 999)
                sched_yield();
        turn[1 + me]++;
        __sync_fetch_and_add(&turn[0], 1);
    }
    if (!child)
        _exit(turn[2] == ROUNDS ? 0 : 1);
    reap("child", child);
    printf("turns %d: %d and %d\n", turn[0], turn[1], turn[2]);
    return 0;
}
