/* Hard and symbolic links: counts, chains, loops, `..` through them, unlinked but open files.
 */
#include "guest.h"

static long links(const char *name) {
    struct stat st;
    return lstat(name, &st) == -1 ? -1 : (long)st.st_nlink;
}

int main(void) {
    char text[64] = "";
    struct stat st;
    write_file("file", "data", 4, 0644);
    V(links("file"));
    E(link("file", "two"));
    E(link("file", "three"));
    V(links("two"));
    E(unlink("file"));
    V(links("two"));
    E(link("missing", "x"));
    E(link("two", "two"));
    E(link(".", "folder"));
    E(link("two", "no/x"));
    E(unlink("missing"));

    MUST(mkdir("a", 0755));
    MUST(mkdir("a/b", 0755));
    MUST(mkdir("c", 0755));
    MUST(symlink("../a/b", "c/to-b"));
    write_file("a/marker", "m", 1, 0644);
    E(access("c/to-b/../marker", F_OK)); /* .. of where it leads */
    MUST(chdir("c/to-b"));
    E(access("../marker", F_OK));
    MUST(chdir("../.."));
    E(access("c", F_OK));
    MUST(symlink("two", "l0"));
    for (int i = 0; i < 45; i++) {
        char from[16], to[16];
        snprintf(from, sizeof from, "l%d", i);
        snprintf(to, sizeof to, "l%d", i + 1);
        MUST(symlink(from, to));
    }
    E(open("l39", O_RDONLY));
    E(open("l40", O_RDONLY));
    V(readlink("l1", text, sizeof text));
    E(readlink("two", text, sizeof text));
    E(readlink("missing", text, sizeof text));
    E(symlink("", "empty"));
    E(symlink("x", "l1"));
    E(symlink("x", ""));
    memset(text, 'z', 60);
    MUST(lstat("l1", &st));
    printf("size %ld\n", (long)st.st_size);
    MUST(symlink("/", "root"));
    E(access("root/dev/null", F_OK));
    E(unlink("root/"));
    E(unlink("root"));
    E(rmdir("c/to-b"));
    E(lchown("l1", getuid(), getgid()));

    int fd = MUST(open("two", O_RDWR));
    MUST(unlink("two"));
    MUST(unlink("three"));
    MUST(fstat(fd, &st));
    printf("links %ld size %ld\n", (long)st.st_nlink, (long)st.st_size);
    MUST(pwrite(fd, "DATA", 4, 4));
    memset(text, 0, sizeof text);
    V(pread(fd, text, 8, 0));
    printf("%s\n", text);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    memset(text, 0, sizeof text);
    char full[PATH_MAX] = "";
    MUST(readlink(path, full, sizeof full - 1));
    printf("%s\n", strrchr(full, '/'));
    int again = MUST(open(path, O_RDONLY));
    V(read(again, text, 4));
    E(linkat(AT_FDCWD, path, AT_FDCWD, "back", AT_SYMLINK_FOLLOW));

    /* A folder removed while somebody is in it. */
    MUST(mkdir("gone", 0755));
    MUST(chdir("gone"));
    MUST(rmdir("../gone"));
    E(open("x", O_RDWR | O_CREAT, 0644));
    E(mkdir("x", 0755));
    E(getcwd(full, sizeof full) ? 0 : -1);
    E(access(".", F_OK));
    E(chdir(".."));
    return 0;
}
