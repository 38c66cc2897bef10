/* x87, SSE and AVX registers survive signal handlers that use them, fork, calls and preemption.
 * cflags: -mavx
 */
#include "guest.h"
#include <immintrin.h>

static volatile sig_atomic_t handled;

static void handler(int sig) {
    (void)sig;
    handled++;
    volatile __m256d junk = _mm256_set1_pd(handled * 1.5);
    volatile long double x87 = handled * 0.1L;
    __asm__ volatile("vxorps %%ymm0,%%ymm0,%%ymm0; vxorps %%ymm7,%%ymm7,%%ymm7;"
                     "vxorps %%ymm15,%%ymm15,%%ymm15; fninit; fldz; fldz; fldz" ::
                         : "xmm0", "xmm7", "xmm15");
    (void)junk, (void)x87;
    __asm__ volatile("fninit");
}

static const double pattern[4] = {1.25, -2.5, 1e300, 3.0};
static const long double pi = 3.14159265358979323846L;

/* 1 if ymm0, ymm7, ymm15 and st(0) are what they were before `nr` was called. */
static int survive(long nr, long a, long b, long c) {
    double ymm[3][4];
    long double st;
    unsigned mxcsr_before = 0x1fa0 | 0x6000, mxcsr_after;
    long result;
    register long r10 __asm__("r10") = 0;
    __asm__ volatile("vmovupd (%[p]), %%ymm0; vmovupd (%[p]), %%ymm7; vmovupd (%[p]), %%ymm15;"
                     "fldt (%[l]); ldmxcsr %[before]; syscall;"
                     "stmxcsr %[after]; fstpt (%[st]);"
                     "vmovupd %%ymm0, (%[o]); vmovupd %%ymm7, 32(%[o]); vmovupd %%ymm15, 64(%[o])"
                     : "=a"(result), [after] "=m"(mxcsr_after)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), [p] "r"(pattern), [l] "r"(&pi),
                       [before] "m"(mxcsr_before), [st] "r"(&st), [o] "r"(ymm), "r"(r10)
                     : "rcx", "r11", "memory", "xmm0", "xmm7", "xmm15");
    _mm_setcsr(0x1f80);
    int right = st == pi && mxcsr_after == mxcsr_before;
    for (int i = 0; i < 3; i++)
        right &= memcmp(ymm[i], pattern, 32) == 0;
    if (nr == SYS_fork && result == 0)
        _exit(right ? 50 : 51);
    if (nr == SYS_fork)
        reap("fork", result);
    return right;
}

int main(void) {
    handle(SIGUSR1, handler, 0);
    IS(survive(SYS_getpid, 0, 0, 0));
    IS(survive(SYS_tgkill, getpid(), gettid(), SIGUSR1));
    IS(survive(SYS_sched_yield, 0, 0, 0));
    struct timespec t = {0, 1 * MS};
    IS(survive(SYS_nanosleep, (long)&t, 0, 0));
    IS(survive(SYS_fork, 0, 0, 0));
    printf("handled %d\n", handled);

    /* The upper halves are clean at a handler's start and in a new program: not another's. */
    int wrong = 0;
    for (int i = 0; i < 100; i++)
        wrong += !survive(SYS_tgkill, getpid(), gettid(), SIGUSR1);
    printf("wrong %d handled %d\n", wrong, handled);
    return 0;
}
