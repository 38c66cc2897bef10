/* mincore, msync, mlock and their errors; msync brings what was written to other readers.
 */
#include "guest.h"

int main(void) {
    unsigned char vec[8];
    char *p = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(p, 1, PAGE);
    E(mincore(p, PAGE, vec));
    printf("resident %d\n", vec[0] & 1);
    E(mincore(p, 8 * PAGE, vec));
    E(mincore(p + 1, PAGE, vec));
    E(mincore(p, PAGE, NULL));
    E(mincore(p, 0, vec));
    E(mincore(p, -PAGE, vec));
    MUST(munmap(p + 4 * PAGE, PAGE));
    E(mincore(p, 8 * PAGE, vec));
    E(msync(p, PAGE, MS_SYNC));
    E(msync(p, PAGE, MS_ASYNC));
    E(msync(p, PAGE, MS_SYNC | MS_ASYNC));
    E(msync(p, PAGE, 0x40));
    E(msync(p + 1, PAGE, MS_SYNC));
    E(msync(p, 0, MS_SYNC));
    E(msync(p, 8 * PAGE, MS_SYNC));
    E(msync(p, PAGE, MS_INVALIDATE));
    E(mlock(p, PAGE));
    E(msync(p, PAGE, MS_INVALIDATE)); /* locked */
    E(munlock(p, PAGE));
    E(mlock(p, 8 * PAGE));
    E(mlock(p + 1, 10)); /* rounded */
    E(munlock(p, PAGE));
    E(mlock2(p, PAGE, 0));
    E(mlock2(p, PAGE, 8));
    E(munlockall());
    E(mlockall(0));
    E(mlockall(MCL_CURRENT | 0x100));

    write_file("file", "0123456789", 10, 0644);
    int fd = MUST(open("file", O_RDWR));
    char *f = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), text[16] = "";
    memcpy(f + 2, "mapped", 6);
    E(msync(f, PAGE, MS_SYNC));
    IN_CHILD("reader", int r = open("file", O_RDONLY); read(r, text, 10); printf("%s\n", text));
    memcpy(f, "YY", 2);
    E(fsync(fd));
    E(fdatasync(fd));
    MUST(pread(fd, text, 10, 0));
    printf("%s\n", text);
    f[10] = 'Z'; /* beyond the end: never in the file */
    E(msync(f, PAGE, MS_SYNC));
    struct stat st;
    MUST(fstat(fd, &st));
    printf("size %ld\n", (long)st.st_size);
    return 0;
}
