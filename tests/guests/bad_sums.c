/* Pointers so near the end of the address space that a sum with them has 65 bits.
 */
#include "guest.h"
#include <linux/futex.h>
#include <poll.h>
#include <sys/select.h>
#include <sys/uio.h>
#include <time.h>

#define END(n) ((void *)-(long)(n))

static void *robust(void *arg) {
    static struct {
        void *next;
        long offset;
        void *pending;
    } head, entry;
    entry.next = &head;
    head.next = &entry;
    head.offset = (long)arg;
    head.pending = END(4);
    syscall(SYS_set_robust_list, &head, 24L);
    return NULL;
}

int main(void) {
    char buf[64];
    struct iovec iov[2] = {{buf, 4}, {END(8), 16}};
    int p[2];
    MUST(pipe(p));
    MUST(write(p[1], "12345678", 8));
    E(readlink("/proc/self/exe", END(8), 64));
    E((long)syscall(SYS_getcwd, END(4), 64L));
    E(syscall(SYS_execve, "/bin/true", END(8), NULL));
    E(syscall(SYS_execve, END(4), NULL, NULL));
    E(poll(END(8), 2, 0));
    E(select(200, END(8), NULL, NULL, NULL));
    E(syscall(SYS_clock_gettime, 0L, END(8)));
    E(syscall(SYS_nanosleep, END(8), NULL));
    E(readv(p[0], END(8), 2));
    V(readv(p[0], iov, 2));
    E(syscall(SYS_futex, END(4), FUTEX_WAIT, 0L, NULL, NULL, 0L));
    E(syscall(SYS_futex, END(4), FUTEX_WAKE, 1L, NULL, NULL, 0L));
    E(syscall(SYS_wait4, -1L, END(2), 0L, END(16)));
    E(syscall(SYS_rt_sigaction, 10L, END(8), NULL, 8L));
    E(syscall(SYS_getrandom, END(8), 64L, 0L));
    E(syscall(SYS_uname, END(64)));
    E(mkdir(END(2), 0755));
    for (long offset = -1; offset <= 1; offset++) {
        pthread_t thread;
        MUST(pthread_create(&thread, NULL, robust, (void *)(offset << 62)));
        pthread_join(thread, NULL);
    }
    printf("alive\n");
    return 0;
}
