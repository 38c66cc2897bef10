/* Permissions as another user meets them: files, folders, sticky folders, exec, chown, setgid.
 * needs: root
 */
#include "guest.h"
#include <grp.h>

static void become(uid_t uid, gid_t gid) {
    MUST(setgroups(0, NULL));
    MUST(setresgid(gid, gid, gid));
    MUST(setresuid(uid, uid, uid));
}

static mode_t mode_of(const char *name) {
    struct stat st;
    MUST(stat(name, &st));
    return st.st_mode & 07777;
}

int main(void) {
    umask(0);
    MUST(chmod(".", 0777));
    write_file("private", "p", 1, 0600);
    write_file("readable", "r", 1, 0644);
    write_file("group", "g", 1, 0060);
    MUST(chown("group", 1000, 2000));
    MUST(mkdir("closed", 0700));
    MUST(mkdir("listed", 0744));
    MUST(mkdir("passed", 0711));
    write_file("passed/x", "x", 1, 0666);
    MUST(mkdir("sticky", 01777));
    write_file("sticky/root", "x", 1, 0666);
    write_file("program", "#!/bin/true\n", 12, 0700);
    IN_CHILD(
        "other user", become(1000, 1000); E(open("private", O_RDONLY));
        E(open("readable", O_RDONLY)); E(open("readable", O_WRONLY)); E(open("group", O_RDONLY));
        E(access("readable", R_OK)); E(access("readable", W_OK)); E(open("closed", O_RDONLY));
        E(open("listed", O_RDONLY)); E(access("listed/x", F_OK)); E(open("passed", O_RDONLY));
        E(open("passed/x", O_RDWR)); E(open("passed/new", O_RDWR | O_CREAT, 0644));
        E(unlink("passed/x")); E(unlink("sticky/root")); E(rename("sticky/root", "sticky/mine"));
        E(open("sticky/own", O_RDWR | O_CREAT, 0644)); E(unlink("sticky/own"));
        E(execl("./program", "program", NULL)); E(chmod("readable", 0666));
        E(chown("readable", 1000, 1000)); E(utimensat(AT_FDCWD, "readable", NULL, 0));
        E(truncate("readable", 0)); E(link("readable", "mine")); E(chroot(".")); E(setuid(0));
        E(open("own", O_RDWR | O_CREAT, 0644)); E(chown("own", 0, -1)); E(chown("own", -1, 1000));
        E(chmod("own", 0)); E(open("own", O_RDONLY)); E(kill(getppid(), SIGTERM));
        E(setpriority(PRIO_PROCESS, 0, -1)); E(mknod("dev", S_IFCHR | 0600, 0x103)));
    IN_CHILD("group member", MUST(setgroups(1, (gid_t[]){2000})); MUST(setresgid(5, 5, 5));
             MUST(setresuid(1001, 1001, 1001)); E(open("group", O_RDWR)));
    IN_CHILD("effective user", MUST(setresuid(0, 1000, 0)); E(open("private", O_RDONLY));
             E(access("private", R_OK)); E(faccessat(AT_FDCWD, "private", R_OK, AT_EACCESS));
             MUST(seteuid(0)); E(open("private", O_RDONLY)));
    E(open("private", O_RDWR));
    MUST(chmod("private", 0));
    E(open("private", O_RDWR)); /* root may */
    E(access("private", X_OK));
    E(execl("./private", "private", NULL));

    /* chown takes set-id bits away; a setgid folder gives its group on. */
    write_file("setid", "x", 1, 06755);
    printf("%o\n", mode_of("setid"));
    MUST(chown("setid", 1000, 1000));
    printf("%o\n", mode_of("setid"));
    MUST(mkdir("team", 02775));
    MUST(chown("team", 0, 2000));
    MUST(chmod("team", 02775));
    write_file("team/file", "", 0, 0644);
    MUST(mkdir("team/dir", 0755));
    struct stat st;
    MUST(stat("team/file", &st));
    printf("group %d\n", (int)st.st_gid);
    MUST(stat("team/dir", &st));
    printf("group %d mode %o\n", (int)st.st_gid, st.st_mode & 07777);
    write_file("setuid", "x", 1, 04777);
    IN_CHILD("a writer takes setuid away", become(1000, 1000);
             int fd = MUST(open("setuid", O_WRONLY)); MUST(write(fd, "y", 1)));
    printf("%o\n", mode_of("setuid"));
    return 0;
}
