/* Map a file and sum it, twice; with "write", through a shared writable mapping that also changes
 * every page: `sum_mapped read|write FILE`.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

int main(int argc, char **argv) {
    int writes = argc == 3 && strcmp(argv[1], "write") == 0;
    int fd = open(argv[2], writes ? O_RDWR : O_RDONLY);
    struct stat st;
    if (fd < 0 || fstat(fd, &st))
        return 1;
    unsigned long sum = 0;
    for (int round = 0; round < 2; round++) {
        int prot = PROT_READ | (writes ? PROT_WRITE : 0);
        unsigned char *p = mmap(NULL, st.st_size, prot, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
            return 2;
        for (long i = 0; i < st.st_size; i += 512) {
            if (writes && i % 4096 == 0)
                p[i]++;
            sum += p[i] * (i / 512 % 251 + 1);
        }
        if (munmap(p, st.st_size))
            return 3;
    }
    printf("%lu\n", sum);
    return 0;
}
