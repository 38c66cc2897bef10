/* Calls by `int $0x80`, whose numbers mean others to `syscall`: 1 is exit there and write here.
 * Prints what each answers; on a host without IA-32 emulation the instruction is a fault.
 */
#include "guest.h"

static long int80(long number, long first) {
    long result = number;
    __asm__ volatile("int $0x80"
                     : "+a"(result)
                     : "b"(first), "c"(0), "d"(0), "D"(1), "S"(0)
                     : "memory", "r8", "r9", "r10", "r11");
    return (int)result;
}

int main(void) {
    long numbers[] = {1, 20, 39, 57, 231, 1L << 32 | 39};
    handle(SIGSEGV, _exit, 0);
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++)
        printf("%ld\n", int80(numbers[i], 3));
    return 0;
}
