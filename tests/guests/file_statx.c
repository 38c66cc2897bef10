/* stat, lstat, fstat and statx tell the same of each kind of file.
 */
#include "guest.h"
#include <sys/sysmacros.h>

static void show(const char *name) {
    struct stat a;
    struct statx b;
    memset(&b, 0, sizeof b);
    if (lstat(name, &a) == -1) {
        printf("%s: %s\n", name, errno_name(errno));
        return;
    }
    MUST(statx(AT_FDCWD, name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &b));
    int same = a.st_ino == b.stx_ino && a.st_mode == b.stx_mode && a.st_nlink == b.stx_nlink &&
               a.st_uid == b.stx_uid && a.st_gid == b.stx_gid && a.st_size == (off_t)b.stx_size &&
               a.st_blocks == (blkcnt_t)b.stx_blocks && a.st_mtim.tv_sec == b.stx_mtime.tv_sec &&
               a.st_mtim.tv_nsec == b.stx_mtime.tv_nsec && major(a.st_dev) == b.stx_dev_major &&
               major(a.st_rdev) == b.stx_rdev_major && minor(a.st_rdev) == b.stx_rdev_minor;
    printf("%s: %o same %d basic %d owner %d\n", name, a.st_mode, same,
           (b.stx_mask & STATX_BASIC_STATS) == STATX_BASIC_STATS,
           a.st_uid == getuid() || major(a.st_rdev)); /* devices are the machine's own */
}

int main(void) {
    struct statx b;
    write_file("file", "12345", 5, 0640);
    MUST(mkdir("dir", 0750));
    MUST(symlink("file", "link"));
    MUST(mkfifo("fifo", 0600));
    show("file");
    show("dir");
    show("link");
    show("fifo");
    show("missing");
    show("/dev/null");
    show("/");
    struct stat st;
    MUST(stat("/dev/null", &st));
    printf("null %u:%u\n", major(st.st_rdev), minor(st.st_rdev));
    MUST(stat("/dev/zero", &st));
    printf("zero %u:%u\n", major(st.st_rdev), minor(st.st_rdev));
    E(statx(AT_FDCWD, "file", 0, 0x80000000, &b));
    E(statx(AT_FDCWD, "file", AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC, STATX_SIZE, &b));
    E(statx(AT_FDCWD, "file", 0x8000, STATX_SIZE, &b));
    E(statx(AT_FDCWD, "", AT_EMPTY_PATH, STATX_SIZE, &b));
    E(statx(0, "", AT_EMPTY_PATH, STATX_TYPE, &b));
    E(statx(999, "", AT_EMPTY_PATH, STATX_TYPE, &b));
    E(statx(AT_FDCWD, "file", 0, STATX_SIZE, NULL));
    E(stat("file", (struct stat *)1));
    E(fstat(999, &st));
    E(stat("file/", &st));
    E(stat("dir/", &st));
    MUST(stat("link", &st));
    printf("through the link %ld\n", (long)st.st_size);
    MUST(stat("file", &st));
    ino_t inode = st.st_ino;
    MUST(link("file", "hard"));
    MUST(stat("hard", &st));
    printf("one inode %d\n", st.st_ino == inode);
    MUST(rename("file", "renamed"));
    MUST(stat("renamed", &st));
    printf("one inode %d\n", st.st_ino == inode);
    return 0;
}
