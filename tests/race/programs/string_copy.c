/* A name copied by `rep movs` while another thread copies another over it.
 *
 * fails: assert
 * threads: 2
 * preemptions: 1
 * notes: one instruction of many accesses; in assembler, since the compiler chooses it as it likes
 */
#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define LENGTH 32

static char name[LENGTH] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

#ifdef FIXED
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
#endif

static void copy(char *to, const char *from) {
    size_t words = LENGTH / 8;
#ifdef FIXED
    pthread_mutex_lock(&mutex);
#endif
    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
#ifdef FIXED
    pthread_mutex_unlock(&mutex);
#endif
}

static void *renames(void *arg) {
    copy(name, "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb");
    return arg;
}

static void *reads(void *arg) {
    char seen[LENGTH];
    copy(seen, name);
    for (int i = 1; i < LENGTH - 1; i++)
        assert(seen[i] == seen[0]);
    return arg;
}

int main(void) {
    pthread_t threads[2];
    pthread_create(&threads[0], NULL, renames, NULL);
    pthread_create(&threads[1], NULL, reads, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    printf("%zu letters\n", strlen(name));
    return 0;
}
