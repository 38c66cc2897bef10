/* execveat and fexecve: by descriptor, relative to a folder, through symlinks, scripts.
 */
#include "guest.h"

static int at(int dir, const char *path, char **argv, int flags) {
    char *envp[] = {NULL};
    return syscall(SYS_execveat, dir, path, argv, envp, flags);
}

static void run(const char *what, int dir, const char *path, int flags) {
    pid_t child = MUST(fork());
    if (child == 0) {
        char *argv[] = {"program", "argument", NULL};
        at(dir, path, argv, flags);
        printf("%s: %s\n", what, errno_name(errno));
        exit(125);
    }
    reap(what, child);
}

int main(int argc, char **argv) {
    if (argc > 1) {
        printf("  %s %s %d\n", argv[0], argv[1], argc);
        return argc;
    }
    char exe[PATH_MAX];
    ssize_t size = MUST(readlink("/proc/self/exe", exe, sizeof exe - 1));
    exe[size] = 0;
    MUST(mkdir("d", 0755));
    MUST(symlink(exe, "d/link"));
    write_file("d/script", "#!./d/link one\n", 15, 0755);
    write_file("d/plain", "text", 4, 0644);
    int d = MUST(open("d", O_RDONLY | O_DIRECTORY));
    int fd = MUST(open(exe, O_RDONLY));
    int closing = MUST(open(exe, O_RDONLY | O_CLOEXEC));
    int path = MUST(open(exe, O_PATH));
    int script = MUST(open("d/script", O_RDONLY));
    int closing_script = MUST(open("d/script", O_RDONLY | O_CLOEXEC));
    int plain = MUST(open("d/plain", O_RDONLY));
    run("relative to a folder", d, "link", 0);
    run("relative to cwd", AT_FDCWD, "d/link", 0);
    run("absolute", 999, exe, 0);
    run("no symlinks", d, "link", AT_SYMLINK_NOFOLLOW);
    run("descriptor", fd, "", AT_EMPTY_PATH);
    run("O_CLOEXEC descriptor", closing, "", AT_EMPTY_PATH);
    run("O_PATH descriptor", path, "", AT_EMPTY_PATH);
    run("descriptor without the flag", fd, "", 0);
    run("script by name", AT_FDCWD, "d/script", 0);
    run("script by O_CLOEXEC descriptor", closing_script, "", AT_EMPTY_PATH);
    run("not executable", plain, "", AT_EMPTY_PATH);
    run("bad descriptor", 999, "link", 0);
    run("descriptor no folder", fd, "link", 0);
    run("bad flags", d, "link", 0x80000);
    run("missing", d, "nothing", 0);
    close(script);
    return 0;
}
