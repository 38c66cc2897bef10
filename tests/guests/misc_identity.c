/* uname, hostname, sysinfo, personality, prctl, getcpu: shapes rather than values.
 */
#include "guest.h"
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

int main(void) {
    struct utsname u;
    char name[17] = "", host[65];
    E(uname(&u));
    printf("%s %s\n", u.sysname, u.machine);
    int major = 0, minor = 0;
    IS(sscanf(u.release, "%d.%d", &major, &minor) == 2 && major >= 5);
    IS(strlen(u.version) > 0);
    E(gethostname(host, sizeof host));
    IS(!strcmp(host, u.nodename));
    E(syscall(SYS_uname, (void *)1));
    struct sysinfo info;
    E(sysinfo(&info));
    IS(info.totalram > 0 && info.freeram <= info.totalram && info.mem_unit > 0 && info.procs > 0);
    IS(info.uptime >= 0);
    E(syscall(SYS_sysinfo, (void *)1));
    E(prctl(PR_SET_NAME, "a-name-longer-than-fifteen"));
    E(prctl(PR_GET_NAME, name));
    printf("%s\n", name);
    IN_CHILD("inherited", prctl(PR_GET_NAME, name); printf("%s\n", name));
    E(prctl(PR_GET_NAME, 1));
    V(prctl(PR_GET_DUMPABLE));
    E(prctl(PR_SET_DUMPABLE, 0));
    V(prctl(PR_GET_DUMPABLE));
    E(prctl(PR_SET_DUMPABLE, 5));
    E(prctl(PR_SET_PDEATHSIG, 99));
    V(prctl(PR_GET_KEEPCAPS));
    V(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    E(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    V(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    E(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
    V(prctl(PR_GET_TIMERSLACK));
    E(prctl(123456789, 0, 0, 0, 0));
    V(personality(0xffffffff));
    V(personality(ADDR_NO_RANDOMIZE));
    V(personality(0xffffffff));
    V(personality(0));
    unsigned cpu = 99, node = 99;
    E(syscall(SYS_getcpu, &cpu, &node, NULL));
    IS(cpu < 1024 && node == 0);
    E(syscall(SYS_getcpu, NULL, NULL, NULL));
    IS(sysconf(_SC_NPROCESSORS_ONLN) >= 1);
    IS(sysconf(_SC_PAGESIZE) == 4096);
    IS(sysconf(_SC_CLK_TCK) == 100);
    return 0;
}
