/* Eight mebibytes through a chain of five processes, in odd portions.
 * traps: many
 */
#include "guest.h"

#define TOTAL (8 << 20)

static unsigned char buffer[100000];

int main(void) {
    int in = -1;
    for (int stage = 0; stage < 5; stage++) {
        int p[2];
        MUST(pipe(p));
        if (!MUST(fork())) {
            close(p[0]);
            if (stage == 0) {
                unsigned x = 1;
                for (long done = 0; done < TOTAL;) {
                    size_t want = 1 + x % sizeof buffer;
                    if (want > (size_t)(TOTAL - done))
                        want = TOTAL - done;
                    for (size_t i = 0; i < want; i++)
                        buffer[i] = (done + i) * 7 >> 3;
                    for (size_t at = 0; at < want;)
                        at += MUST(write(p[1], buffer + at, want - at));
                    done += want;
                    x = x * 1103515245 + 12345;
                }
            } else {
                ssize_t size;
                while ((size = MUST(read(in, buffer, 7919 * stage))) > 0) {
                    for (ssize_t i = 0; i < size; i++)
                        buffer[i] += stage;
                    for (ssize_t at = 0; at < size;)
                        at += MUST(write(p[1], buffer + at, size - at));
                }
            }
            _exit(stage);
        }
        close(p[1]);
        if (in >= 0)
            close(in);
        in = p[0];
    }
    long total = 0, wrong = 0;
    ssize_t size;
    while ((size = MUST(read(in, buffer, sizeof buffer))) > 0) {
        for (ssize_t i = 0; i < size; i++)
            wrong += buffer[i] != (unsigned char)(((total + i) * 7 >> 3) + 10);
        total += size;
    }
    int codes = 0, status;
    for (int i = 0; i < 5; i++) {
        MUST(wait(&status));
        codes += WEXITSTATUS(status);
    }
    printf("total %ld wrong %ld codes %d\n", total, wrong, codes);
    return 0;
}
