/* Prints what must be tamed for a run to be a function of its seed: times, addresses, pids, random bytes.
 */
#include "guest.h"
#include <dirent.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <sys/utsname.h>

int main(void) {
    struct stat st;
    struct utsname u;
    unsigned char random[8], *at = (unsigned char *)getauxval(AT_RANDOM);
    int local;
    printf("now %lld %lld\n", now_ns(CLOCK_REALTIME), now_ns(CLOCK_MONOTONIC));
    printf("stack %p heap %p mmap %p main %p\n", (void *)&local, malloc(100),
           mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
           (void *)(uintptr_t)main);
    printf("pid %d %d %d %d\n", getpid(), getppid(), getpgrp(), getsid(0));
    getrandom(random, sizeof random, 0);
    for (int i = 0; i < 8; i++)
        printf("%02x%02x ", random[i], at[i]);
    stat(".", &st);
    printf("\ninode %lu device %lu blocks %ld\n", st.st_ino, st.st_dev, (long)st.st_blocks);
    uname(&u);
    printf("%s %s %s\n", u.nodename, u.release, u.version);
    DIR *dir = opendir("/etc");
    for (struct dirent *e = readdir(dir); e; e = readdir(dir))
        printf("%s %lu\n", e->d_name, e->d_ino);
    long sum = 0;
    for (int i = 0; i < 20; i++) {
        pid_t pid = fork();
        if (!pid)
            _exit(i);
        sum = sum * 31 + pid;
    }
    int status;
    for (pid_t pid = wait(&status); pid > 0; pid = wait(&status))
        printf("%d:%d ", pid, WEXITSTATUS(status));
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("\npids %ld faults %ld switches %ld\n", sum, usage.ru_minflt, usage.ru_nvcsw);
    return 0;
}
