/*
 * hostcall.h - raw host system calls, for freestanding code.
 *
 * Inlined, so that the `syscall` instruction stands in the text of whoever
 * makes the call: shim text passes Syscall User Dispatch, nursery text does
 * not once a stub is armed, and the seccomp filter tells them apart.
 */
#ifndef UVM_HOSTCALL_H
#define UVM_HOSTCALL_H

#include <asm/unistd_64.h>
#include <stdint.h>

static inline __attribute__((always_inline)) long hostcall6(long nr, long a, long b, long c, long d,
                                                            long e, long f) {
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

#define HC_ARG(x) ((long)(x))
#define hostcall(nr, ...) HC_PICK(__VA_ARGS__, HC6, HC5, HC4, HC3, HC2, HC1, )(nr, __VA_ARGS__)
#define HC_PICK(a, b, c, d, e, f, name, ...) name
#define HC1(nr, a) hostcall6(nr, HC_ARG(a), 0, 0, 0, 0, 0)
#define HC2(nr, a, b) hostcall6(nr, HC_ARG(a), HC_ARG(b), 0, 0, 0, 0)
#define HC3(nr, a, b, c) hostcall6(nr, HC_ARG(a), HC_ARG(b), HC_ARG(c), 0, 0, 0)
#define HC4(nr, a, b, c, d) hostcall6(nr, HC_ARG(a), HC_ARG(b), HC_ARG(c), HC_ARG(d), 0, 0)
#define HC5(nr, a, b, c, d, e)                                                                     \
    hostcall6(nr, HC_ARG(a), HC_ARG(b), HC_ARG(c), HC_ARG(d), HC_ARG(e), 0)
#define HC6(nr, a, b, c, d, e, f)                                                                  \
    hostcall6(nr, HC_ARG(a), HC_ARG(b), HC_ARG(c), HC_ARG(d), HC_ARG(e), HC_ARG(f))

#endif
