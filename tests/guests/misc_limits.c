/* getrlimit, setrlimit, prlimit: values kept, inherited, compared; what is refused.
 */
#include "guest.h"

int main(void) {
    struct rlimit r = {0, 0}, old;
    for (int i = 0; i < RLIM_NLIMITS; i++)
        if (getrlimit(i, &r) == -1 || r.rlim_cur > r.rlim_max)
            printf("limit %d: %s\n", i, errno_name(errno));
    E(getrlimit(RLIM_NLIMITS, &r));
    E(setrlimit(RLIM_NLIMITS, &r));
    E(syscall(SYS_getrlimit, RLIMIT_NOFILE, (void *)1));
    E(syscall(SYS_setrlimit, RLIMIT_NOFILE, (void *)1));
    r = (struct rlimit){100, 50};
    E(setrlimit(RLIMIT_NOFILE, &r));
    r = (struct rlimit){50, 100};
    E(setrlimit(RLIMIT_NOFILE, &r));
    E(getrlimit(RLIMIT_NOFILE, &old));
    printf("%lu %lu\n", (long)old.rlim_cur, (long)old.rlim_max);
    r = (struct rlimit){70, 100};
    E(setrlimit(RLIMIT_NOFILE, &r)); /* up to the hard one */
    r = (struct rlimit){60, 80};
    E(prlimit(0, RLIMIT_NOFILE, &r, &old));
    printf("%lu %lu\n", (long)old.rlim_cur, (long)old.rlim_max);
    IN_CHILD("inherited", E(getrlimit(RLIMIT_NOFILE, &r));
             printf("%lu %lu\n", (long)r.rlim_cur, (long)r.rlim_max); r = (struct rlimit){10, 10};
             E(setrlimit(RLIMIT_NOFILE, &r)));
    E(getrlimit(RLIMIT_NOFILE, &r));
    printf("%lu\n", (long)r.rlim_cur);
    int gate[2];
    MUST(pipe(gate));
    pid_t child = MUST(fork());
    if (!child) {
        hear(gate[0]);
        getrlimit(RLIMIT_CORE, &r);
        printf("set from outside: %lu\n", (long)r.rlim_cur);
        _exit(0);
    }
    r = (struct rlimit){0, 0};
    E(prlimit(child, RLIMIT_CORE, &r, NULL));
    tell(gate[1]);
    reap("child", child);
    E(prlimit(1 << 22, RLIMIT_CORE, NULL, &r));
    E(prlimit(0, RLIMIT_CORE, NULL, (struct rlimit *)1));
    E(prlimit(0, 99, NULL, &r));
    E(getrlimit(RLIMIT_STACK, &r));
    IN_CHILD("RLIMIT_CORE", r = (struct rlimit){0, 0}; E(setrlimit(RLIMIT_CORE, &r)); abort());
    long pages = sysconf(_SC_OPEN_MAX);
    printf("open max %ld\n", pages);
    return 0;
}
