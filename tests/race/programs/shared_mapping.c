/* Two processes count in one shared mapping, each as if it were alone.
 *
 * fails: status
 * threads: 1
 * preemptions: 1
 * notes: the other task is a process, made by fork
 */
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 2

struct shared {
#ifdef FIXED
    atomic_long visits;
#else
    volatile long visits; // the compiler must not add all rounds up
#endif
};

static void visit(struct shared *shared) {
    for (int i = 0; i < ROUNDS; i++)
        shared->visits += 1;
}

int main(void) {
    struct shared *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 2;
    pid_t child = fork();
    if (child < 0)
        return 2;
    visit(shared);
    if (child == 0)
        _exit(0);
    waitpid(child, NULL, 0);
    printf("%ld visits of %d\n", shared->visits, 2 * ROUNDS);
    return shared->visits != 2 * ROUNDS;
}
