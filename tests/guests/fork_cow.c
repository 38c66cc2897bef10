/* A forked child sees its parent's pages until either of them writes.
 */
#include "guest.h"

static int data = 1;
static int bss;
static char big[64 * PAGE];

static void show(const char *who, const int *heap, const int *anonymous, int local) {
    long sum = 0;
    for (size_t i = 0; i < sizeof big; i++)
        sum += big[i];
    printf("%s: data %d bss %d heap %d mmap %d stack %d big %ld\n", who, data, bss, *heap,
           *anonymous, local, sum);
}

int main(void) {
    int *heap = malloc(sizeof *heap);
    int *anonymous = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    volatile int local = 5;
    int to_child[2], to_parent[2];
    *heap = 3;
    *anonymous = 4;
    bss = 2;
    memset(big, 1, sizeof big);
    MUST(pipe(to_child));
    MUST(pipe(to_parent));
    pid_t child = MUST(fork());
    if (child == 0) {
        show("child at birth", heap, anonymous, local);
        tell(to_parent[1]);
        hear(to_child[0]);
        show("child after the parent wrote", heap, anonymous, local);
        data = bss = *heap = *anonymous = local = 200;
        memset(big, 3, 10 * PAGE);
        show("child after it wrote", heap, anonymous, local);
        _exit(0);
    }
    hear(to_parent[0]);
    data = bss = *heap = *anonymous = local = 100;
    memset(big, 2, 20 * PAGE);
    tell(to_child[1]);
    reap("child", child);
    show("parent at the end", heap, anonymous, local);

    /* A page shared with two generations. */
    for (int i = 0; i < 3; i++) {
        pid_t pid = MUST(fork());
        if (pid == 0) {
            big[0] += 10;
            pid_t grandchild = MUST(fork());
            if (grandchild == 0) {
                big[0] += 50;
                printf("grandchild %d: %d\n", i, big[0]);
                _exit(0);
            }
            reap("grandchild", grandchild);
            printf("child %d: %d\n", i, big[0]);
            _exit(0);
        }
        reap("child", pid);
    }
    printf("parent: %d\n", big[0]);
    return 0;
}
