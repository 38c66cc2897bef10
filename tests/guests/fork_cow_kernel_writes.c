/* Writes by the kernel itself (read, pipe, stat, wait) break sharing after fork as stores do.
 */
#include "guest.h"

static char page[2 * PAGE] __attribute__((aligned(4096)));

int main(void) {
    int pipes[2];
    memset(page, 'p', sizeof page);
    MUST(pipe(pipes));
    pid_t child = MUST(fork());
    if (child == 0) {
        MUST(write(pipes[1], "child's words", 13));
        MUST(read(pipes[0], page + PAGE - 5, 13)); /* crosses two shared pages */
        printf("child: %.18s\n", page + PAGE - 10);
        MUST(clock_gettime(CLOCK_REALTIME, (void *)page));
        IS(page[0] != 'p' || page[1] != 'p');
        _exit(7);
    }
    int *status = (int *)(page + 100);
    MUST(waitpid(child, status, 0));
    show_status("child", *status);
    printf("parent: %.18s\n", page + PAGE - 10);
    IS(page[0] == 'p');
    IS(page[104] == 'p');
    return 0;
}
