/* getrandom: lengths, flags, difference; errors; a child's bytes are not its parent's.
 */
#include "guest.h"
#include <sys/random.h>

int main(void) {
    unsigned char a[64] = {0}, b[64] = {0};
    static unsigned char big[100000];
    V(getrandom(a, sizeof a, 0));
    V(getrandom(b, sizeof b, GRND_NONBLOCK));
    IS(memcmp(a, b, sizeof a) != 0);
    V(getrandom(b, 16, GRND_RANDOM));
    V(getrandom(b, 0, 0));
    V(getrandom(big, sizeof big, 0));
    long counts[256] = {0}, least = sizeof big;
    for (size_t i = 0; i < sizeof big; i++)
        counts[big[i]]++;
    for (int i = 0; i < 256; i++)
        least = counts[i] < least ? counts[i] : least;
    IS(least > 200);
    E(getrandom((void *)1, 10, 0));
    E(getrandom(a, 10, 0x100));
    E(getrandom(a, 10, GRND_RANDOM | GRND_INSECURE));
    int p[2];
    MUST(pipe(p));
    pid_t child = MUST(fork());
    if (!child) {
        MUST(getrandom(a, 32, 0));
        MUST(write(p[1], a, 32));
        _exit(0);
    }
    MUST(getrandom(b, 32, 0));
    MUST(read(p[0], a, 32));
    IS(memcmp(a, b, 32) != 0);
    reap("child", child);
    return 0;
}
