/* wild_stack: a thread puts its stack pointer where the machine's own stack is, and traps. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

static void *goes_wild(void *arg) {
    uint64_t sp = 0x7e0000100000 + 0x5000;
    __asm__ volatile("mov %0,%%rsp\n"
                     "mov $39,%%eax\n" /* getpid */
                     "syscall\n"
                     "ud2\n"
                     :
                     : "r"(sp)
                     : "memory", "rax", "rcx", "r11");
    return arg;
}

int main(void) {
    pthread_t t;
    pthread_create(&t, NULL, goes_wild, NULL);
    pthread_join(t, NULL);
    puts("joined");
    return 0;
}
