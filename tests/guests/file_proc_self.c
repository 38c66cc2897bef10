/* What /proc says of a process: itself, its descriptors, maps, status; what it does not take.
 */
#include "guest.h"
#include <dirent.h>

static char text[65536];

static const char *read_all(const char *path) {
    int fd = open(path, O_RDONLY);
    if (fd == -1)
        return errno_name(errno);
    size_t used = 0;
    ssize_t n;
    while ((n = read(fd, text + used, sizeof text - 1 - used)) > 0)
        used += n;
    text[used] = 0;
    close(fd);
    return text;
}

static long field(const char *name) {
    read_all("/proc/self/status");
    char *at = strstr(text, name);
    return at ? strtol(at + strlen(name), NULL, 0) : -1;
}

int main(int argc, char **argv) {
    char link[PATH_MAX] = "", cwd[PATH_MAX];
    (void)argc;
    MUST(readlink("/proc/self", link, sizeof link));
    IS(atoi(link) == getpid());
    memset(link, 0, sizeof link);
    MUST(readlink("/proc/self/cwd", link, sizeof link));
    IS(!strcmp(link, getcwd(cwd, sizeof cwd)));
    memset(link, 0, sizeof link);
    MUST(readlink("/proc/self/exe", link, sizeof link));
    IS(strstr(link, "file_proc_self") != NULL);
    memset(link, 0, sizeof link);
    MUST(readlink("/proc/self/root", link, sizeof link));
    printf("root %s\n", link);
    printf("comm %s", read_all("/proc/self/comm"));
    IS(!strcmp(read_all("/proc/self/cmdline"), argv[0]));
    IS(strstr(read_all("/proc/self/environ"), "PATH=") != NULL);
    IS(field("\nPid:\t") == getpid());
    IS(field("\nTgid:\t") == getpid());
    IS(field("\nPPid:\t") == getppid());
    V(field("\nThreads:\t"));
    IS(field("\nVmRSS:\t") > 0);
    IS(field("\nUid:\t") == (long)getuid());
    signal(SIGUSR1, SIG_IGN);
    read_all("/proc/self/status");
    /* 32 and 33 are libc's own, and nobody can reset what a parent of ours has ignored */
    uint64_t ignored = strtoull(strstr(text, "SigIgn:") + 8, NULL, 16) & ~(3ull << 31);
    printf("SigIgn %016llx\n", (unsigned long long)ignored);
    read_all("/proc/self/stat");
    int pid, ppid, pgrp, sid;
    char comm[32], state;
    sscanf(text, "%d (%31[^)]) %c %d %d %d", &pid, comm, &state, &ppid, &pgrp, &sid);
    printf("stat: %d %s %c %d %d %d\n", pid == getpid(), comm, state, ppid == getppid(),
           pgrp == getpgrp(), sid == getsid(0));
    int fields = 1;
    for (char *c = strrchr(text, ')'); *c; c++)
        fields += *c == ' ';
    printf("fields %d\n", fields + 1);

    char *page = mmap(NULL, 3 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(page + PAGE, PAGE, PROT_READ | PROT_WRITE);
    read_all("/proc/self/maps");
    char line[64];
    snprintf(line, sizeof line, "%lx-%lx rw-p 00000000 00:00 0", (long)page + PAGE,
             (long)page + 2 * PAGE);
    IS(strstr(text, line) != NULL);
    IS(strstr(text, "[stack]") != NULL);
    IS(strstr(text, "file_proc_self") != NULL);

    MUST(open("/dev/null", O_RDONLY));
    int p[2];
    MUST(pipe(p));
    int entries = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (readdir(dir))
        entries++;
    closedir(dir);
    printf("entries %d\n", entries);
    memset(link, 0, sizeof link);
    MUST(readlink("/proc/self/fd/3", link, sizeof link));
    printf("fd 3 %s\n", link);
    memset(link, 0, sizeof link);
    MUST(readlink("/proc/self/fd/4", link, sizeof link));
    printf("fd 4 %.6s\n", link);
    IS(strstr(read_all("/proc/self/fdinfo/3"), "pos:\t0\n") != NULL);
    MUST(write(p[1], "through proc", 12));
    printf("%.12s\n", ({
               int fd = MUST(open("/proc/self/fd/4", O_RDONLY));
               char *t = text;
               MUST(read(fd, t, 12));
               t;
           }));
    IS(strstr(read_all("/proc/self/limits"), "Max open files") != NULL);
    IS(strstr(read_all("/proc/meminfo"), "MemTotal:") != NULL);
    IS(strstr(read_all("/proc/cpuinfo"), "processor") != NULL);
    IS(strstr(read_all("/proc/mounts"), " / ") != NULL);
    IS(strstr(read_all("/proc/filesystems"), "tmpfs") != NULL);
    IS(strstr(read_all("/proc/stat"), "cpu ") != NULL);
    double up = -1, idle = -1;
    IS(sscanf(read_all("/proc/uptime"), "%lf %lf", &up, &idle) == 2 && up >= 0);
    IS(strstr(read_all("/proc/version"), "Linux version") != NULL);
    E(open("/proc/999999/stat", O_RDONLY));
    E(open("/proc/self/nothing", O_RDONLY));
    E(open("/proc/new", O_RDWR | O_CREAT, 0644));
    E(mkdir("/proc/new", 0755));
    E(unlink("/proc/self/stat"));
    E(open("/proc/self/fd/77", O_RDONLY));
    int fd = MUST(open("/proc/self/comm", O_WRONLY));
    V(write(fd, "another", 7));
    printf("comm %s", read_all("/proc/self/comm"));
    return 0;
}
