/* Numbers that are no system call: ENOSYS, and nothing else happens.
 */
#include "guest.h"

int main(void) {
    long numbers[] = {336 + 1,    400, 423, 470 + 530,      512, 547, 999, 100000, 0x40000000 | 600,
                      0x7fffffff, -1,  -2,  1L << 32 | 5000};
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        errno = 0;
        long result = syscall(numbers[i], 1, 2, 3, 4, 5, 6);
        printf("%ld: %ld %s\n", numbers[i], result, errno_name(errno));
    }
    /* Only the lower half of the number counts. */
    long pid;
    __asm__ volatile("syscall"
                     : "=a"(pid)
                     : "a"(0x500000000L | SYS_getpid)
                     : "rcx", "r11", "memory");
    IS(pid == getpid());
    IN_CHILD("a thousand times", for (int i = 0; i < 1000; i++) syscall(5000 + i % 7));
    return 0;
}
