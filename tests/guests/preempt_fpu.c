/* Four processes compute with vector registers at once, never calling the kernel, and agree.
 * cflags: -mavx
 */
#include "guest.h"
#include <immintrin.h>

static double compute(int seed) {
    __m256d a = _mm256_set_pd(seed, seed + 1, seed + 2, seed + 3), b = _mm256_set1_pd(1.0000001);
    long double x = seed;
    for (int i = 0; i < 20000000; i++) {
        a = _mm256_add_pd(_mm256_mul_pd(a, b), _mm256_set1_pd(0.5));
        if (i % 64 == 0)
            x = x * 1.0000001L + 0.25L;
    }
    double out[4];
    _mm256_storeu_pd(out, a);
    return out[0] + out[1] + out[2] + out[3] + (double)x;
}

int main(void) {
    int results[4][2];
    pid_t pids[4];
    for (int i = 0; i < 4; i++) {
        MUST(pipe(results[i]));
        pids[i] = MUST(fork());
        if (!pids[i]) {
            double value = compute(i * 10 + 1);
            MUST(write(results[i][1], &value, sizeof value));
            _exit(0);
        }
    }
    for (int i = 0; i < 4; i++) {
        double value;
        MUST(read(results[i][0], &value, sizeof value));
        printf("%d: %.17g\n", i, value);
        reap("child", pids[i]);
    }
    return 0;
}
