/* open: creation, exclusion, truncation, folders, symlinks, O_PATH, names too long.
 */
#include "guest.h"

int main(void) {
    struct stat st;
    char text[8] = "";
    E(open("missing", O_RDONLY));
    E(open("no/missing", O_RDWR | O_CREAT, 0644));
    E(open("", O_RDONLY));
    E(open(NULL, O_RDONLY));
    umask(022);
    int fd = MUST(open("file", O_RDWR | O_CREAT | O_EXCL, 0666));
    MUST(fstat(fd, &st));
    printf("mode %o size %ld links %ld\n", st.st_mode, (long)st.st_size, (long)st.st_nlink);
    printf("flags %d\n",
           (fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_CREAT | O_EXCL)) == O_RDWR);
    E(open("file", O_RDWR | O_CREAT | O_EXCL, 0666));
    MUST(write(fd, "content", 7));
    E(open("file", O_RDONLY | O_CREAT, 0));
    E(open("file", O_WRONLY | O_TRUNC));
    MUST(fstat(fd, &st));
    printf("size after O_TRUNC %ld\n", (long)st.st_size);
    E(open("file", O_RDONLY | O_DIRECTORY));
    E(open("file/", O_RDONLY));
    E(open("file/x", O_RDONLY));
    E(open(".", O_RDWR));
    E(open(".", O_WRONLY));
    E(open(".", O_RDONLY | O_CREAT, 0644));
    E(open("new/", O_RDONLY | O_CREAT, 0644));
    E(open(".", O_RDONLY | O_DIRECTORY));
    int dir = MUST(open(".", O_RDONLY));
    E(read(dir, text, 1));
    E(write(dir, text, 1));
    int only = MUST(open("no-read", O_WRONLY | O_CREAT, 0));
    E(read(only, text, 1));
    int ro = MUST(open("file", O_RDONLY));
    E(write(ro, text, 1));

    MUST(symlink("file", "link"));
    MUST(symlink("nowhere", "dangling"));
    MUST(symlink("loop2", "loop1"));
    MUST(symlink("loop1", "loop2"));
    E(open("link", O_RDONLY));
    E(open("link", O_RDONLY | O_NOFOLLOW));
    E(open("dangling", O_RDONLY));
    E(open("dangling", O_RDWR | O_CREAT | O_EXCL, 0644));
    E(open("dangling", O_RDWR | O_CREAT, 0644)); /* makes its target */
    E(access("nowhere", F_OK));
    E(open("loop1", O_RDONLY));
    E(open("link/", O_RDONLY));

    int path = MUST(open("file", O_PATH));
    E(read(path, text, 1));
    E(fchmod(path, 0600));
    E(fstat(path, &st));
    E(lseek(path, 0, SEEK_SET));
    E(dup(path));
    printf("O_PATH flags %d\n", (fcntl(path, F_GETFL) & O_PATH) != 0);
    path = MUST(open("link", O_PATH | O_NOFOLLOW));
    MUST(fstat(path, &st));
    printf("link itself %d\n", S_ISLNK(st.st_mode));
    V(readlinkat(path, "", text, sizeof text));

    int append = MUST(open("appended", O_RDWR | O_CREAT | O_APPEND, 0644));
    MUST(write(append, "one", 3));
    MUST(lseek(append, 0, SEEK_SET));
    MUST(write(append, "two", 3));
    V(lseek(append, 0, SEEK_CUR));
    V(pwrite(append, "six", 3, 0)); /* appends all the same */
    MUST(fstat(append, &st));
    printf("size %ld\n", (long)st.st_size);
    MUST(fcntl(append, F_SETFL, 0));
    MUST(pwrite(append, "X", 1, 0));
    MUST(pread(append, text, 4, 0));
    printf("%.4s\n", text);

    char name[PATH_MAX + 10];
    memset(name, 'n', sizeof name);
    name[255] = 0;
    E(open(name, O_RDWR | O_CREAT, 0644));
    name[255] = 'n', name[256] = 0;
    E(open(name, O_RDWR | O_CREAT, 0644));
    for (int i = 0; i < PATH_MAX + 8; i++)
        name[i] = i % 2 ? '/' : '.';
    name[PATH_MAX - 1] = 0;
    E(open(name, O_RDONLY));
    name[PATH_MAX - 1] = '/', name[PATH_MAX] = 0;
    E(open(name, O_RDONLY));
    E(creat("created", 0604));
    MUST(stat("created", &st));
    printf("mode %o\n", st.st_mode);
    V(open("file", O_RDONLY | O_CLOEXEC) >= 0);
    E(close(999));
    E(close(-1));
    return 0;
}
