/* The *at family: relative to folders, to files, to bad descriptors, with their flags.
 */
#include "guest.h"

int main(void) {
    struct stat st, other;
    char text[32];
    E(mkdirat(AT_FDCWD, "d", 0755));
    int d = MUST(open("d", O_RDONLY | O_DIRECTORY));
    E(mkdirat(d, "sub", 0700));
    E(mkdirat(d, "sub", 0700));
    int f = MUST(openat(d, "file", O_RDWR | O_CREAT, 0640));
    MUST(write(f, "hello", 5));
    E(openat(f, "x", O_RDONLY));
    E(openat(999, "x", O_RDONLY));
    E(openat(999, "/dev/null", O_RDONLY)); /* an absolute name needs no folder */
    E(fstatat(d, "file", &st, 0));
    printf("size %ld mode %o\n", (long)st.st_size, st.st_mode);
    E(fstatat(f, "", &other, AT_EMPTY_PATH));
    printf("same %d\n", st.st_ino == other.st_ino && st.st_dev == other.st_dev);
    E(fstatat(f, "", &other, 0));
    E(fstatat(AT_FDCWD, "", &other, AT_EMPTY_PATH));
    E(fstatat(d, "file", &st, 0x8000));
    E(symlinkat("file", d, "link"));
    E(symlinkat("file", d, "link"));
    memset(text, 0, sizeof text);
    V(readlinkat(d, "link", text, sizeof text));
    printf("%s\n", text);
    V(readlinkat(d, "link", text, 2)); /* cut short */
    E(readlinkat(d, "file", text, 2));
    E(readlinkat(d, "link", text, 0));
    E(fstatat(d, "link", &st, AT_SYMLINK_NOFOLLOW));
    printf("link %d size %ld mode %o\n", S_ISLNK(st.st_mode), (long)st.st_size, st.st_mode & 0777);
    E(linkat(d, "file", d, "hard", 0));
    E(linkat(d, "link", d, "hardlink", 0)); /* the symlink itself */
    E(linkat(d, "link", d, "followed", AT_SYMLINK_FOLLOW));
    MUST(fstat(f, &st));
    printf("links %ld\n", (long)st.st_nlink);
    E(linkat(d, "sub", d, "sub2", 0));
    E(linkat(d, "file", d, "hard", 0));
    E(renameat(d, "hard", AT_FDCWD, "moved"));
    E(faccessat(d, "hard", F_OK, 0));
    E(faccessat(AT_FDCWD, "moved", R_OK | W_OK, 0));
    E(faccessat(d, "link", F_OK, AT_SYMLINK_NOFOLLOW));
    E(faccessat(d, "file", 9, 0));
    E(fchmodat(d, "file", 0604, 0));
    MUST(fstatat(d, "file", &st, 0));
    printf("mode %o\n", st.st_mode);
    E(fchownat(d, "file", getuid(), getgid(), 0));
    E(fchownat(d, "link", -1, -1, AT_SYMLINK_NOFOLLOW));
    E(mknodat(d, "node", S_IFREG | 0600, 0));
    E(mknodat(d, "fifo", S_IFIFO | 0600, 0));
    E(mknodat(d, "dir", S_IFDIR | 0600, 0));
    E(utimensat(d, "file", (struct timespec[]){{1, 2}, {3, 4}}, 0));
    MUST(fstatat(d, "file", &st, 0));
    printf("times %ld %ld\n", st.st_atim.tv_sec, st.st_mtim.tv_nsec);
    E(unlinkat(d, "sub", 0));
    E(unlinkat(d, "file", AT_REMOVEDIR));
    E(unlinkat(d, "sub", AT_REMOVEDIR));
    E(unlinkat(d, "sub", AT_REMOVEDIR));
    E(unlinkat(d, "file", 0x10000));
    E(unlinkat(999, "file", 0));
    E(rmdir("d"));
    E(rmdir("d/."));
    E(rmdir("d/.."));
    E(rmdir("/"));
    E(rmdir("."));
    E(unlink("."));
    E(unlink("d"));
    E(mkdir("/", 0755));
    E(mkdir(".", 0755));
    E(mkdir("a/b", 0755));
    E(mkdir("slash/", 0755));
    E(mkdir("moved/x", 0755));
    E(fchdir(d));
    E(access("link", F_OK));
    E(fchdir(f));
    E(chdir("file"));
    E(chdir("nowhere"));
    E(chdir(".."));
    E(access("d/link", F_OK));
    return 0;
}
