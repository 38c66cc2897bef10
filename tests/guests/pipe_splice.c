/* splice, tee and vmsplice between pipes and files.
 */
#include "guest.h"

int main(void) {
    int p[2], q[2];
    char text[64] = "";
    loff_t offset = 3;
    MUST(pipe2(p, O_NONBLOCK));
    MUST(pipe2(q, O_NONBLOCK));
    write_file("in", "0123456789", 10, 0644);
    int in = MUST(open("in", O_RDONLY)), out = MUST(open("out", O_RDWR | O_CREAT, 0644));
    V(splice(in, &offset, p[1], NULL, 4, 0));
    printf("offset %ld, position %ld\n", (long)offset, (long)lseek(in, 0, SEEK_CUR));
    V(splice(in, NULL, p[1], NULL, 2, 0));
    printf("position %ld\n", (long)lseek(in, 0, SEEK_CUR));
    V(tee(p[0], q[1], 100, 0));
    V(read(q[0], text, sizeof text));
    printf("%s\n", text);
    V(splice(p[0], NULL, out, NULL, 100, 0));
    memset(text, 0, sizeof text);
    V(pread(out, text, sizeof text, 0));
    printf("%s\n", text);
    E(splice(p[0], NULL, out, NULL, 1, SPLICE_F_NONBLOCK));
    struct iovec iov = {"vmspliced", 9};
    V(vmsplice(p[1], &iov, 1, 0));
    memset(text, 0, sizeof text);
    V(splice(p[0], NULL, q[1], NULL, 4, 0));
    V(read(q[0], text, sizeof text));
    printf("%s\n", text);
    E(splice(in, NULL, out, NULL, 1, 0)); /* one side must be a pipe */
    E(splice(p[0], &offset, out, NULL, 1, 0));
    E(tee(in, p[1], 1, 0));
    E(splice(999, NULL, p[1], NULL, 1, 0));
    E(splice(in, NULL, p[1], NULL, 1, 0x1000));
    return 0;
}
