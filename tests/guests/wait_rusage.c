/* What a child used is told by wait4, and added up in RUSAGE_CHILDREN.
 * needs: realtime
 * traps: many
 */
#include "guest.h"

static long us(struct timeval t) {
    return t.tv_sec * 1000000L + t.tv_usec;
}

int main(void) {
    struct rusage one, all, self;
    int status;
    pid_t child = MUST(fork());
    if (child == 0) {
        while (clock() < CLOCKS_PER_SEC / 20)
            ;
        _exit(2);
    }
    memset(&one, 0xff, sizeof one);
    IS(wait4(child, &status, 0, &one) == child);
    show_status("child", status);
    IS(us(one.ru_utime) + us(one.ru_stime) >= 30000);
    IS(us(one.ru_utime) + us(one.ru_stime) < 20000000);
    IS(one.ru_maxrss > 0);
    E(getrusage(RUSAGE_CHILDREN, &all));
    IS(us(all.ru_utime) + us(all.ru_stime) >= us(one.ru_utime));
    E(getrusage(RUSAGE_SELF, &self));
    IS(us(self.ru_utime) + us(self.ru_stime) < us(all.ru_utime) + us(all.ru_stime));
    E(getrusage(RUSAGE_THREAD, &self));
    E(getrusage(42, &self));
    E(getrusage(RUSAGE_SELF, (struct rusage *)1));
    return 0;
}
