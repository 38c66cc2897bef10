/* Takes memory until it is refused or killed; says how it was refused.
 */
#include "guest.h"

int main(void) {
    long taken = 0;
    for (;;) {
        char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) {
            printf("refused: %s\n", errno_name(errno));
            return 3;
        }
        memset(p, 1, 1 << 20);
        if (++taken > 4096)
            return 4; /* more than any machine of a test has */
    }
}
