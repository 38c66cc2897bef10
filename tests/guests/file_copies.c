/* sendfile and copy_file_range: offsets, positions, overlap, what they refuse.
 */
#include "guest.h"
#include <sys/sendfile.h>

int main(void) {
    static char big[300000];
    char text[32] = "";
    off_t offset = 2;
    int p[2];
    write_file("in", "0123456789", 10, 0644);
    int in = MUST(open("in", O_RDONLY)), out = MUST(open("out", O_RDWR | O_CREAT, 0644));
    V(sendfile(out, in, &offset, 4));
    printf("offset %ld position %ld\n", (long)offset, (long)lseek(in, 0, SEEK_CUR));
    V(sendfile(out, in, NULL, 3));
    printf("position %ld\n", (long)lseek(in, 0, SEEK_CUR));
    V(sendfile(out, in, NULL, 100));
    V(sendfile(out, in, NULL, 100));
    V(pread(out, text, sizeof text, 0));
    printf("%s\n", text);
    MUST(pipe(p));
    offset = 0;
    V(sendfile(p[1], in, &offset, 5));
    V(read(p[0], text, 5));
    E(sendfile(out, p[0], NULL, 5));
    E(sendfile(in, out, NULL, 1));
    E(sendfile(999, in, NULL, 1));
    offset = -1;
    E(sendfile(out, in, &offset, 1));

    loff_t from = 1, to = 20;
    V(copy_file_range(in, &from, out, &to, 5, 0));
    printf("from %ld to %ld\n", (long)from, (long)to);
    MUST(lseek(in, 0, SEEK_SET));
    MUST(lseek(out, 0, SEEK_SET));
    V(copy_file_range(in, NULL, out, NULL, 4, 0));
    printf("positions %ld %ld\n", (long)lseek(in, 0, SEEK_CUR), (long)lseek(out, 0, SEEK_CUR));
    from = 8;
    V(copy_file_range(in, &from, out, NULL, 100, 0));
    V(copy_file_range(in, &from, out, NULL, 100, 0));
    from = 0, to = 2;
    E(copy_file_range(out, &from, out, &to, 10, 0)); /* overlapping itself */
    from = 0, to = 100;
    V(copy_file_range(out, &from, out, &to, 10, 0));
    E(copy_file_range(in, NULL, out, NULL, 1, 1));
    E(copy_file_range(in, NULL, p[1], NULL, 1, 0));
    E(copy_file_range(out, NULL, in, NULL, 1, 0));
    E(copy_file_range(open(".", O_RDONLY), NULL, out, NULL, 1, 0));
    int append = MUST(open("out", O_WRONLY | O_APPEND));
    E(copy_file_range(in, NULL, append, NULL, 1, 0));
    memset(big, 'b', sizeof big);
    write_file("big", big, sizeof big, 0644);
    int b = MUST(open("big", O_RDONLY)), c = MUST(open("copy", O_RDWR | O_CREAT, 0644));
    long total = 0, n;
    while ((n = MUST(sendfile(c, b, NULL, 1 << 20))) > 0)
        total += n;
    printf("total %ld\n", total);
    struct stat st;
    MUST(fstat(c, &st));
    printf("size %ld\n", (long)st.st_size);
    return 0;
}
