/* rename in all its forms: onto files, folders, itself, into itself, NOREPLACE, EXCHANGE.
 */
#include "guest.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2
#endif

static long rename2(const char *from, const char *to, unsigned flags) {
    return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags);
}

static void show(const char *name) {
    struct stat st;
    char text[16] = "";
    if (lstat(name, &st) == -1) {
        printf("  %s: %s\n", name, errno_name(errno));
        return;
    }
    if (S_ISREG(st.st_mode)) {
        int fd = open(name, O_RDONLY);
        (void)!read(fd, text, sizeof text - 1);
        close(fd);
    }
    printf("  %s: %s %s links %ld\n", name,
           S_ISDIR(st.st_mode)   ? "folder"
           : S_ISLNK(st.st_mode) ? "link"
                                 : "file",
           text, S_ISDIR(st.st_mode) ? 0L : (long)st.st_nlink);
}

int main(void) {
    write_file("a", "A", 1, 0644);
    write_file("b", "B", 1, 0644);
    int b = MUST(open("b", O_RDONLY));
    E(rename("a", "b"));
    show("a");
    show("b");
    char text[4] = "";
    MUST(read(b, text, 1));
    printf("the old b still says %s\n", text);
    E(rename("b", "b"));
    E(rename("missing", "b"));
    E(rename("b", "no/b"));
    E(rename("", "b"));
    E(rename("b", ""));
    MUST(mkdir("dir", 0755));
    MUST(mkdir("empty", 0755));
    MUST(mkdir("full", 0755));
    write_file("full/x", "x", 1, 0644);
    E(rename("b", "dir"));
    E(rename("dir", "b"));
    E(rename("b/", "c"));
    E(rename("b", "c/"));
    E(rename("dir", "full"));
    E(rename("dir", "empty"));
    show("dir");
    show("empty");
    E(rename("full", "full/inside"));
    E(rename("full", "full/inside/deeper"));
    E(rename("full/x", "full"));
    E(rename("full", "."));
    E(rename(".", "full"));
    E(rename("..", "full"));
    E(rename("full/.", "dir"));
    E(rename("full/", "moved/"));
    show("moved/x");
    MUST(link("b", "hard"));
    E(rename("b", "hard")); /* one file: nothing happens */
    show("b");
    show("hard");
    MUST(symlink("b", "link"));
    E(rename("link", "link2"));
    show("link2");
    E(rename("hard", "link2"));
    show("link2");
    write_file("c", "C", 1, 0644);
    E(rename2("b", "c", RENAME_NOREPLACE));
    E(rename2("b", "d", RENAME_NOREPLACE));
    E(rename2("c", "d", RENAME_EXCHANGE));
    show("c");
    show("d");
    E(rename2("c", "moved", RENAME_EXCHANGE));
    show("c");
    show("c/x");
    show("moved");
    E(rename2("c", "missing", RENAME_EXCHANGE));
    E(rename2("c", "d", RENAME_EXCHANGE | RENAME_NOREPLACE));
    E(rename2("c", "d", 0x100));
    E(rename2("c", "c/x", RENAME_EXCHANGE));
    struct stat st;
    MUST(stat("c", &st));
    E(mkdir("c/sub", 0755));
    E(rename("c/sub", "sub"));
    E(rename("sub", "c/sub"));
    show("c/sub");
    return 0;
}
