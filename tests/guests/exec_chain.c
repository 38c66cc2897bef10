/* Two hundred execs in one process; descriptors and memory do not pile up.
 * variants: static dynamic static-pie
 * traps: many
 */
#include "guest.h"

int main(int argc, char **argv) {
    int left = argc > 1 ? atoi(argv[1]) : 200;
    char *memory = malloc(4 << 20), next[16];
    memset(memory, left, 4 << 20);
    int fd = MUST(open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (left == 0) {
        printf("descriptor %d, last byte %d\n", fd, memory[(4 << 20) - 1]);
        return 0;
    }
    snprintf(next, sizeof next, "%d", left - 1);
    execl("/proc/self/exe", argv[0], next, NULL);
    printf("%s\n", errno_name(errno));
    return 1;
}
