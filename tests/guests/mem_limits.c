/* RLIMIT_AS, RLIMIT_DATA, RLIMIT_STACK of a new program: allocation fails, nothing dies of it.
 */
#include "guest.h"

static void limit(int resource, rlim_t value) {
    struct rlimit r = {value, value};
    MUST(setrlimit(resource, &r));
}

int main(void) {
    IN_CHILD("RLIMIT_AS", limit(RLIMIT_AS, 256 << 20); long blocks = 0;
             while (mmap(NULL, 16 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                         0) != MAP_FAILED) blocks++;
             printf("%s, some %d, not too many %d\n", errno_name(errno), blocks > 0, blocks <= 16));
    IN_CHILD("malloc", limit(RLIMIT_AS, 128 << 20); IS(malloc(200 << 20) == NULL);
             printf("%s\n", errno_name(errno)); char *p = malloc(1 << 20); memset(p, 1, 1 << 20);
             IS(p != NULL));
    IN_CHILD("mremap", char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
             limit(RLIMIT_AS, 128 << 20); E(mremap(p, 1 << 20, 256 << 20, MREMAP_MAYMOVE)));
    IN_CHILD("fork keeps the limit", limit(RLIMIT_AS, 200 << 20);
             IN_CHILD("grandchild",
                      E(mmap(NULL, 256 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))));
    IN_CHILD("RLIMIT_DATA", limit(RLIMIT_DATA, 32 << 20);
             E(mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
             E(mmap(NULL, 64 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
             E(mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)));
    IN_CHILD("thread", limit(RLIMIT_AS, 64 << 20); pthread_t t; pthread_attr_t attr;
             pthread_attr_init(&attr); pthread_attr_setstacksize(&attr, 128 << 20);
             printf("%s\n", errno_name(pthread_create(&t, &attr, (void *(*)(void *))abort, NULL))));
    return 0;
}
