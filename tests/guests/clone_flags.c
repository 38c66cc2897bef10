/* clone(2) with the flags that share or do not share, and the combinations it refuses.
 */
#include "guest.h"

static char stack[256 * 1024] __attribute__((aligned(16)));
static volatile int shared = 1;
static int tid_word;

static int child(void *arg) {
    (void)arg;
    shared++;
    MUST(chdir("/"));
    umask(077);
    close(9);
    return 21;
}

static void run(const char *name, int flags) {
    char cwd[PATH_MAX];
    shared = 1;
    umask(022);
    dup2(1, 9);
    int here = open(".", O_RDONLY | O_DIRECTORY);
    pid_t pid = MUST(clone(child, stack + sizeof stack, flags, NULL));
    int status;
    MUST(waitpid(pid, &status, __WALL));
    show_status(name, status);
    mode_t mask = umask(022);
    printf("  memory %s, fs %s %o, files %s\n", shared == 2 ? "shared" : "own",
           strcmp(getcwd(cwd, sizeof cwd), "/") ? "own" : "shared", mask,
           fcntl(9, F_GETFD) == -1 ? "shared" : "own");
    fchdir(here);
    close(here);
}

static long raw(unsigned long flags, void *sp, void *ptid, void *ctid) {
    return syscall(SYS_clone, flags, sp, ptid, ctid, 0);
}

int main(void) {
    run("nothing shared", SIGCHLD);
    run("CLONE_VM", CLONE_VM | SIGCHLD);
    run("CLONE_FS", CLONE_FS | SIGCHLD);
    run("CLONE_FILES", CLONE_FILES | SIGCHLD);
    run("CLONE_VM CLONE_VFORK", CLONE_VM | CLONE_VFORK | SIGCHLD);
    run("CLONE_VM CLONE_FS CLONE_FILES", CLONE_VM | CLONE_FS | CLONE_FILES | SIGCHLD);
    run("no exit signal", CLONE_VM);

    E(raw(CLONE_THREAD, 0, 0, 0));
    E(raw(CLONE_SIGHAND, 0, 0, 0));
    E(raw(CLONE_THREAD | CLONE_SIGHAND, 0, 0, 0));
    E(raw(CLONE_FS | CLONE_NEWNS, 0, 0, 0));
    E(waitpid(-1, NULL, __WALL));

    int status, ctid = 0;
    pid_t pid = raw(SIGCHLD | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID, 0, &tid_word, &ctid);
    if (pid == 0)
        _exit(ctid == getpid() && tid_word == getpid() ? 1 : 2);
    IS(tid_word == pid);
    IS(ctid == 0);
    MUST(waitpid(pid, &status, 0));
    show_status("settid", status);

    /* CLONE_PARENT: the child is our sibling; the middle cannot wait for it. */
    MUST(pid = fork());
    if (pid == 0) {
        pid_t sibling = raw(SIGCHLD | CLONE_PARENT, 0, 0, 0);
        if (sibling == 0)
            _exit(31);
        E(waitpid(sibling, &status, 0));
        _exit(30);
    }
    int codes = 0;
    for (int i = 0; i < 2; i++) {
        MUST(wait(&status));
        codes += WEXITSTATUS(status);
    }
    printf("codes %d\n", codes);

    /* A wait without __WALL or __WCLONE does not see a child with another exit signal. */
    MUST(pid = raw(0, 0, 0, 0));
    if (pid == 0)
        _exit(40);
    E(waitpid(pid, &status, 0));
    IS(waitpid(pid, &status, __WCLONE) == pid);
    show_status("clone child", status);
    return 0;
}
