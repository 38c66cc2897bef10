/* User and group ids: real, effective, saved; who may become whom; supplementary groups.
 * needs: root
 */
#include "guest.h"
#include <grp.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>

static void show(const char *what) {
    uid_t r, e, s;
    gid_t rg, eg, sg;
    getresuid(&r, &e, &s);
    getresgid(&rg, &eg, &sg);
    printf("%s: uid %d %d %d gid %d %d %d\n", what, r, e, s, rg, eg, sg);
}

int main(void) {
    show("at first");
    IN_CHILD("setuid", E(setuid(1000)); show("  "); E(setuid(0)); E(setuid(1000)); E(seteuid(0)));
    IN_CHILD("seteuid", E(seteuid(1000)); show("  "); E(seteuid(2000)); E(setuid(2000));
             E(seteuid(0)); show("  "));
    IN_CHILD("setreuid", E(setreuid(1000, 2000)); show("  "); E(setreuid(2000, 1000)); show("  ");
             E(setreuid(-1, 3000)); E(setreuid(-1, -1)));
    IN_CHILD("setresuid", E(setresuid(1, 2, 3)); show("  "); E(setresuid(3, 1, 2)); show("  ");
             E(setresuid(4, -1, -1)); E(setresuid(-1, -1, 1)); show("  "));
    IN_CHILD("setgid", E(setgid(500)); show("  "); E(setegid(0)); E(setgid(0)); show("  "));
    IN_CHILD("setgid without rights", E(setuid(1000)); E(setgid(5)); E(setresgid(1, 1, 1));
             E(setgroups(0, NULL)));
    IN_CHILD("setresgid", E(setresgid(7, 8, 9)); show("  "); E(setuid(5)); E(setresgid(9, 7, 8));
             show("  "); E(setresgid(10, -1, -1)));
    gid_t groups[4] = {1, 5, 3}, got[4];
    E(setgroups(3, groups));
    V(getgroups(0, NULL));
    V(getgroups(4, got));
    printf("groups %d %d %d\n", got[0], got[1], got[2]);
    E(getgroups(2, got));
    E(getgroups(-1, got));
    E(setgroups(100000, groups));
    E(syscall(SYS_setgroups, 1, (void *)1));
    IN_CHILD("groups are inherited", V(getgroups(4, got)));
    IN_CHILD("setfsuid", V(setfsuid(77)); V(setfsuid(-1)); V(setfsgid(78)); V(setfsgid(-1)));
    IN_CHILD("dumpable", V(prctl(PR_GET_DUMPABLE)); E(setresuid(1, 1, 1));
             V(prctl(PR_GET_DUMPABLE)));
    IN_CHILD("threads follow glibc", E(setuid(9)); show("  "));
    E(setresuid(-1, -1, -1));
    show("at the end");
    return 0;
}
