/* Thousands of random file operations, checked against a copy kept in memory.
 * traps: many
 */
#include "guest.h"

#define FILES 6
#define SIZE 100000

static unsigned char model[FILES][SIZE], buffer[SIZE];
static long length[FILES];
static unsigned long state = 42;

static unsigned next(unsigned n) {
    state = state * 6364136223846793005UL + 1442695040888963407UL;
    return (state >> 33) % n;
}

int main(void) {
    int fds[FILES];
    long wrong = 0;
    char name[16], other[16];
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "f%d", i);
        fds[i] = MUST(open(name, O_RDWR | O_CREAT, 0644));
    }
    for (int step = 0; step < 3000; step++) {
        int f = next(FILES);
        long at = next(SIZE), size = next(9000);
        if (at + size > SIZE)
            size = SIZE - at;
        switch (next(6)) {
        case 0:
        case 1:
            for (long i = 0; i < size; i++)
                buffer[i] = step + i;
            MUST(pwrite(fds[f], buffer, size, at));
            if (size) {
                memcpy(model[f] + at, buffer, size);
                if (at + size > length[f])
                    length[f] = at + size;
            }
            break;
        case 2: {
            long got = MUST(pread(fds[f], buffer, size, at));
            long expected = length[f] <= at ? 0 : length[f] - at < size ? length[f] - at : size;
            wrong += got != expected || memcmp(buffer, model[f] + at, got);
            break;
        }
        case 3:
            MUST(ftruncate(fds[f], at));
            if (at < length[f])
                memset(model[f] + at, 0, length[f] - at);
            length[f] = at;
            break;
        case 4: /* rename away and back: the descriptor follows */
            snprintf(name, sizeof name, "f%d", f);
            snprintf(other, sizeof other, "g%d", f);
            MUST(rename(name, other));
            MUST(rename(other, name));
            break;
        case 5: {
            if (!length[f])
                break;
            unsigned char *m = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fds[f], 0);
            long place = next(length[f]);
            wrong += m[place] != model[f][place];
            m[place] = model[f][place] = step;
            MUST(munmap(m, SIZE));
            break;
        }
        }
    }
    unsigned sum = 0;
    for (int f = 0; f < FILES; f++) {
        struct stat st;
        MUST(fstat(fds[f], &st));
        wrong += st.st_size != length[f];
        MUST(pread(fds[f], buffer, SIZE, 0));
        wrong += memcmp(buffer, model[f], length[f]) != 0;
        for (long i = 0; i < length[f]; i++)
            sum = sum * 31 + buffer[i];
    }
    printf("wrong %ld sum %u\n", wrong, sum);
    return 0;
}
