/* getcwd, chdir, chroot: names from the root, escapes refused, what a process keeps.
 */
#include "guest.h"

static char text[PATH_MAX];

int main(void) {
    char small[3], here[PATH_MAX];
    MUST(getcwd(here, sizeof here) ? 0 : -1);
    MUST(mkdir("a", 0755));
    MUST(mkdir("a/b", 0755));
    MUST(chdir("a/b"));
    printf("%s\n", strstr(getcwd(text, sizeof text), "/a/b"));
    E(getcwd(small, sizeof small) ? 0 : -1);
    E(syscall(SYS_getcwd, (void *)1, 100));
    V(syscall(SYS_getcwd, text, sizeof text) == (long)strlen(text) + 1);
    MUST(rename("../../a", "../../renamed"));
    printf("%s\n", strstr(getcwd(text, sizeof text), "/renamed/b"));
    MUST(chdir(here));
    MUST(chdir("/"));
    printf("%s\n", getcwd(text, sizeof text));
    MUST(chdir("/../../.."));
    printf("%s\n", getcwd(text, sizeof text));
    MUST(chdir("/dev"));
    printf("%s\n", getcwd(text, sizeof text));
    MUST(chdir(here));
    write_file("renamed/file", "inside", 6, 0644);
    MUST(symlink("/file", "renamed/absolute"));
    IN_CHILD("chroot", E(chroot("renamed")); char *c = getcwd(text, sizeof text);
             printf("%s\n", c && !strncmp(text, "(unreachable)", 13) ? "unreachable"
                            : c                                      ? "reachable"
                                                                     : errno_name(errno));
             E(access("renamed/file", F_OK)); /* cwd is outside still */
             MUST(chdir("/")); printf("%s\n", getcwd(text, sizeof text)); E(access("/file", F_OK));
             E(access("/absolute", F_OK)); E(access("/../../file", F_OK)); E(access("/dev", F_OK));
             E(chdir("..")); E(access("file", F_OK)); E(chroot("missing")); E(chroot("file"));
             IN_CHILD("inherits", E(access("/file", F_OK)); E(access("/dev", F_OK))));
    E(access("/dev", F_OK));
    return 0;
}
