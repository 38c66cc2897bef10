/* File times: set exactly, kept, moved on by writes and reads of the right kind.
 */
#include "guest.h"

static struct stat st;

static void set(const char *name, long atime, long mtime) {
    struct timespec t[2] = {{atime, 111}, {mtime, 222}};
    MUST(utimensat(AT_FDCWD, name, t, 0));
}

static const char *moved(const char *name) {
    static char text[64];
    MUST(stat(name, &st));
    snprintf(text, sizeof text, "mtime %s", st.st_mtim.tv_sec > 2000 ? "now" : "old");
    return text;
}

int main(void) {
    write_file("file", "data", 4, 0644);
    MUST(mkdir("dir", 0755));
    set("file", 1000, 2000);
    MUST(stat("file", &st));
    printf("%ld.%ld %ld.%ld\n", st.st_atim.tv_sec, st.st_atim.tv_nsec, st.st_mtim.tv_sec,
           st.st_mtim.tv_nsec);
    IS(st.st_ctim.tv_sec > 1600000000);
    struct timespec omit[2] = {{0, UTIME_OMIT}, {1500, 5}};
    E(utimensat(AT_FDCWD, "file", omit, 0));
    MUST(stat("file", &st));
    printf("%ld %ld\n", st.st_atim.tv_sec, st.st_mtim.tv_sec);
    struct timespec now[2] = {{0, UTIME_NOW}, {0, UTIME_OMIT}};
    E(utimensat(AT_FDCWD, "file", now, 0));
    MUST(stat("file", &st));
    IS(st.st_atim.tv_sec > 1600000000 && st.st_mtim.tv_sec == 1500);
    struct timespec bad[2] = {{0, 1000000000}, {0, 0}};
    E(utimensat(AT_FDCWD, "file", bad, 0));
    E(utimensat(AT_FDCWD, "missing", NULL, 0));
    E(utimensat(AT_FDCWD, "file", NULL, 0));
    int fd = MUST(open("file", O_RDWR));
    E(futimens(fd, omit));
    E(utimes("file", (struct timeval[]){{5, 6}, {7, 8}}));
    MUST(stat("file", &st));
    printf("%ld.%ld %ld.%ld\n", st.st_atim.tv_sec, st.st_atim.tv_nsec, st.st_mtim.tv_sec,
           st.st_mtim.tv_nsec);

    set("file", 1000, 2000);
    MUST(chmod("file", 0600));
    printf("chmod: %s\n", moved("file"));
    MUST(pwrite(fd, "D", 1, 0));
    printf("write: %s\n", moved("file"));
    set("file", 1000, 2000);
    MUST(ftruncate(fd, 4));
    printf("truncate to its size: %s\n", moved("file"));
    set("file", 1000, 2000);
    MUST(ftruncate(fd, 2));
    printf("truncate: %s\n", moved("file"));
    set("file", 1000, 2000);
    MUST(rename("file", "renamed"));
    printf("rename: %s\n", moved("renamed"));
    set("dir", 1000, 2000);
    write_file("dir/x", "", 0, 0644);
    printf("file made in a folder: %s\n", moved("dir"));
    set("dir", 1000, 2000);
    write_file("dir/x", "xx", 2, 0644);
    printf("file written in a folder: %s\n", moved("dir"));
    MUST(unlink("dir/x"));
    printf("file removed in a folder: %s\n", moved("dir"));
    set("renamed", 1000, 2000);
    char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    *p = 'm';
    MUST(msync(p, PAGE, MS_SYNC));
    printf("store through a mapping: %s\n", moved("renamed"));
    set("renamed", -5, -6);
    MUST(stat("renamed", &st));
    printf("%ld %ld\n", st.st_atim.tv_sec, st.st_mtim.tv_sec);
    return 0;
}
