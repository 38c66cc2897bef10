/* umask, and the modes of what is made; chmod and fchmod keep the kind.
 */
#include "guest.h"

static void show(const char *name) {
    struct stat st;
    MUST(lstat(name, &st));
    printf("%s %o\n", name, st.st_mode);
}

int main(void) {
    printf("%o\n", umask(077));
    printf("%o\n", umask(07777)); /* only the nine bits count */
    printf("%o\n", umask(027));
    MUST(open("file", O_WRONLY | O_CREAT, 0666));
    MUST(open("all", O_WRONLY | O_CREAT, 07777));
    MUST(mkdir("dir", 0777));
    MUST(mkdir("dir-all", 07777));
    MUST(mkfifo("fifo", 0666));
    MUST(mknod("node", 0666, 0));
    MUST(symlink("x", "link"));
    umask(0);
    MUST(open("open", O_WRONLY | O_CREAT, 0666));
    show("file");
    show("all");
    show("dir");
    show("dir-all");
    show("fifo");
    show("node");
    show("link");
    show("open");
    E(chmod("file", 04711));
    show("file");
    E(chmod("dir", 01777));
    show("dir");
    E(chmod("file", 0170000 | 0600));
    show("file");
    E(chmod("missing", 0));
    E(chmod("link", 0));
    E(fchmod(999, 0));
    IN_CHILD("child has its own", umask(0777));
    printf("%o\n", umask(0));
    return 0;
}
