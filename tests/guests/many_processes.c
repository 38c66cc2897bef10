/* Two thousand short lives, twenty at a time; pids are not reused while they are known.
 * traps: many
 */
#include "guest.h"

int main(void) {
    long reaped = 0, clashes = 0;
    for (int round = 0; round < 100; round++) {
        pid_t pids[20];
        for (int i = 0; i < 20; i++) {
            pids[i] = MUST(fork());
            if (pids[i] == 0)
                _exit(i);
            for (int j = 0; j < i; j++)
                clashes += pids[j] == pids[i];
        }
        for (int i = 19; i >= 0; i--) {
            int status;
            reaped += waitpid(pids[i], &status, 0) == pids[i] && WEXITSTATUS(status) == i;
        }
    }
    printf("reaped %ld, clashes %ld\n", reaped, clashes);
    return 0;
}
