/* What exec keeps and what it resets: descriptors, signals, masks, directories, pid, alarms.
 */
#include "guest.h"

static void handler(int sig) {
    (void)sig;
}

static const char *disposition(int sig) {
    struct sigaction act;
    MUST(sigaction(sig, NULL, &act));
    return act.sa_handler == SIG_DFL ? "default" : act.sa_handler == SIG_IGN ? "ignored" : "caught";
}

static int after(char **argv) {
    char cwd[PATH_MAX];
    struct itimerval timer, virtual;
    struct rlimit limit;
    stack_t stack;
    sigset_t mask, pending;
    IS(getpid() == atoi(argv[2]));
    IS(getppid() == atoi(argv[3]));
    V(fcntl(20, F_GETFD));
    V(fcntl(21, F_GETFD));
    V(fcntl(22, F_GETFD));
    V(lseek(20, 0, SEEK_CUR));
    printf("USR1 %s, USR2 %s, CHLD %s, TERM %s\n", disposition(SIGUSR1), disposition(SIGUSR2),
           disposition(SIGCHLD), disposition(SIGTERM));
    sigprocmask(SIG_SETMASK, NULL, &mask);
    sigpending(&pending);
    printf("blocked HUP %d INT %d, pending HUP %d INT %d\n", sigismember(&mask, SIGHUP),
           sigismember(&mask, SIGINT), sigismember(&pending, SIGHUP),
           sigismember(&pending, SIGINT));
    getitimer(ITIMER_REAL, &timer);
    getitimer(ITIMER_VIRTUAL, &virtual);
    printf("alarm runs %d, virtual timer runs %d\n", timer.it_value.tv_sec > 0,
           virtual.it_value.tv_sec > 0);
    sigaltstack(NULL, &stack);
    printf("alternate stack disabled %d\n", stack.ss_flags == SS_DISABLE);
    printf("umask %o\n", umask(0));
    printf("cwd %s\n", strrchr(getcwd(cwd, sizeof cwd), '/'));
    getrlimit(RLIMIT_NOFILE, &limit);
    printf("limit %lu\n", (unsigned long)limit.rlim_cur);
    printf("nice %d\n", getpriority(PRIO_PROCESS, 0));
    IS(getpgrp() == getpid());
    int status;
    IS(waitpid(atoi(argv[4]), &status, 0) == atoi(argv[4]));
    show_status("child from before", status);
    return 7;
}

int main(int argc, char **argv) {
    if (argc > 1)
        return after(argv);
    static char stack_memory[64 * 1024];
    pid_t child = MUST(fork());
    if (child == 0) {
        char pid[16], ppid[16], grandchild[16];
        setpgid(0, 0);
        pid_t g = MUST(fork());
        if (g == 0)
            _exit(3);
        write_file("file", "0123456789", 10, 0644);
        int fd = MUST(open("file", O_RDONLY));
        MUST(dup2(fd, 20));
        MUST(dup3(fd, 21, O_CLOEXEC));
        MUST(dup2(fd, 22));
        MUST(lseek(fd, 4, SEEK_SET));
        MUST(fcntl(22, F_SETFD, FD_CLOEXEC));
        MUST(fcntl(22, F_SETFD, 0));
        handle(SIGUSR1, handler, 0);
        handle(SIGUSR2, SIG_IGN, 0);
        handle(SIGTERM, handler, SA_RESETHAND);
        sigset_t mask = set_of(SIGHUP);
        sigaddset(&mask, SIGINT);
        sigprocmask(SIG_BLOCK, &mask, NULL);
        raise(SIGHUP);
        alarm(100);
        struct itimerval timer = {.it_value = {100, 0}};
        setitimer(ITIMER_VIRTUAL, &timer, NULL);
        stack_t stack = {.ss_sp = stack_memory, .ss_size = sizeof stack_memory};
        MUST(sigaltstack(&stack, NULL));
        umask(027);
        MUST(mkdir("inner", 0777));
        MUST(chdir("inner"));
        struct rlimit limit = {77, 100};
        MUST(setrlimit(RLIMIT_NOFILE, &limit));
        MUST(setpriority(PRIO_PROCESS, 0, 5));
        snprintf(pid, sizeof pid, "%d", getpid());
        snprintf(ppid, sizeof ppid, "%d", getppid());
        snprintf(grandchild, sizeof grandchild, "%d", g);
        execl("/proc/self/exe", argv[0], "after", pid, ppid, grandchild, NULL);
        _exit(127);
    }
    reap("child", child);
    return 0;
}
