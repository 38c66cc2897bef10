/* Time by every road: the C library, the bare call, the old vsyscall page.
 */
#include "guest.h"

int main(void) {
    time_t (*old_time)(time_t *) = (time_t (*)(time_t *))0xffffffffff600400;
    int (*old_gettimeofday)(struct timeval *, void *) =
        (int (*)(struct timeval *, void *))0xffffffffff600000;
    struct timeval a, b;
    time_t bare = syscall(SYS_time, NULL), old = old_time(NULL), now = time(NULL);
    IS(old >= bare && old - bare <= 20);
    IS(now >= bare - 1 && now - bare <= 20);
    MUST(syscall(SYS_gettimeofday, &a, NULL));
    V(old_gettimeofday(&b, NULL));
    IS(b.tv_sec >= a.tv_sec && b.tv_sec - a.tv_sec <= 20);
    IN_CHILD("read", (void)*(volatile char *)0xffffffffff600000);
    IN_CHILD("jump into its middle", ((void (*)(void))0xffffffffff600010)());
    return 0;
}
