/* vfork: the child runs in its parent's memory, and the parent waits until it execs or exits.
 */
#include "guest.h"

static volatile int counter;

int main(int argc, char **argv) {
    if (argc > 1) {
        printf("executed with %s\n", argv[1]);
        return 4;
    }
    pid_t child = vfork();
    if (child == 0) {
        counter = 1;
        for (volatile int i = 0; i < 1000000; i++)
            ;
        counter = 2;
        _exit(3);
    }
    printf("counter after vfork: %d\n", counter);
    reap("exiting child", child);

    child = vfork();
    if (child == 0) {
        counter = 3;
        execl("/proc/self/exe", argv[0], "vfork", NULL);
        counter = 99;
        _exit(127);
    }
    int after_exec = counter; /* the new program prints from here on: wait for it */
    reap("executing child", child);
    printf("counter after exec: %d\n", after_exec);

    child = vfork();
    if (child == 0) {
        execl("/nonexistent/program", "program", NULL);
        counter = errno;
        _exit(127);
    }
    printf("exec failed in the child: %s\n", errno_name(counter));
    reap("failing child", child);

    child = vfork();
    if (child == 0) {
        counter = 5;
        raise(SIGKILL);
    }
    printf("counter after kill: %d\n", counter);
    reap("killed child", child);
    return 0;
}
