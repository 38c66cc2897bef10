/* A hundred children at once, each with its own exit code, reaped in any order.
 */
#include "guest.h"

#define CHILDREN 100

int main(void) {
    pid_t pids[CHILDREN];
    int gate[2];
    MUST(pipe(gate));
    for (int i = 0; i < CHILDREN; i++) {
        pids[i] = MUST(fork());
        if (pids[i] == 0) {
            char byte;
            close(gate[1]);
            MUST(read(gate[0], &byte, 1)); /* end of file when the parent closes */
            _exit(i);
        }
    }
    close(gate[1]);
    int sum = 0, matched = 0;
    for (int i = 0; i < CHILDREN; i++) {
        int status;
        pid_t pid = MUST(wait(&status));
        sum += WEXITSTATUS(status);
        matched += WIFEXITED(status) && pids[WEXITSTATUS(status)] == pid;
    }
    printf("sum %d, matched %d\n", sum, matched);
    E(wait(NULL));
    int distinct = 0;
    for (int i = 1; i < CHILDREN; i++)
        distinct += pids[i] != pids[0];
    printf("pids other than the first: %d\n", distinct);
    return 0;
}
