/* A guest that writes a process id of the host's choice into its own mailbox, then calls the kernel:
 * `writes_pid PID`.
 */
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define SLOT 0x7e0000100000
#define HOST_PID_WORD 17

int main(int argc, char **argv) {
    volatile uint32_t *mailbox = (volatile uint32_t *)SLOT;
    if (argc != 2)
        return 1;
    for (int i = 0; i < 10; i++) {
        mailbox[HOST_PID_WORD] = (uint32_t)atoi(argv[1]);
        getppid();
    }
    write(1, "done\n", 5);
    return 0;
}
