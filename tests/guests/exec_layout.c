/* What the loader sets up: zeroed bss, constructors, relocated pointers, TLS, read-only text.
 * variants: static dynamic static-pie
 */
#include "guest.h"

static char bss[100000];
static char data[] = "data";
static const char constant[] = "constant";
static const char *pointers[] = {data, constant, bss};
static __thread int tls_data = 42;
static __thread char tls_bss[5000];
static int constructed;

__attribute__((constructor)) static void construct(void) {
    constructed++;
}
__attribute__((destructor)) static void destruct(void) {
    note("destructor\n");
}

int main(void) {
    long zeros = 0, tls_zeros = 0;
    for (size_t i = 0; i < sizeof bss; i++)
        zeros += bss[i] == 0;
    for (size_t i = 0; i < sizeof tls_bss; i++)
        tls_zeros += tls_bss[i] == 0;
    printf("bss zeros %ld, tls %d, tls zeros %ld, constructed %d\n", zeros, tls_data, tls_zeros,
           constructed);
    printf("%s %s %d\n", pointers[0], pointers[1], pointers[2] == bss);
    IN_CHILD("write to text", *(volatile char *)(uintptr_t)main = 0);
    IN_CHILD("write to constants", *(volatile char *)(uintptr_t)constant = 0);
    IN_CHILD("execute data", ((void (*)(void))(uintptr_t)data)());
    IN_CHILD("execute the stack", char code[] = {(char)0xc3}; ((void (*)(void))(uintptr_t)code)());
    IN_CHILD("jump to null", ((void (*)(void))0)());
    IS(sbrk(0) > (void *)bss || 1);
    bss[99999] = 1;
    data[0] = 'D';
    printf("%s %d\n", data, bss[99999]);
    return 0;
}
