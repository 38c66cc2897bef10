/* Every exit code arrives; atexit runs in reverse; exit_group ends all threads.
 */
#include "guest.h"

static void first(void) {
    note("atexit 1\n");
}
static void second(void) {
    note("atexit 2\n");
}

static void *exiter(void *code) {
    exit((int)(long)code);
}

static void *sleeper(void *arg) {
    for (;;)
        pause();
    return arg;
}

int main(void) {
    int right = 0;
    for (int code = 0; code < 256; code += 5) {
        int status;
        pid_t pid = MUST(fork());
        if (pid == 0)
            _exit(code);
        MUST(waitpid(pid, &status, 0));
        right += WIFEXITED(status) && WEXITSTATUS(status) == code;
    }
    printf("right: %d\n", right);
    IN_CHILD("exit(256 + 7)", exit(256 + 7));
    IN_CHILD("exit(-1)", exit(-1));
    IN_CHILD("atexit", atexit(first); atexit(second); exit(9));
    IN_CHILD("_exit", atexit(first); _exit(10));
    IN_CHILD("exit from a thread", pthread_t t; pthread_create(&t, NULL, sleeper, NULL);
             pthread_create(&t, NULL, exiter, (void *)33L); pthread_join(t, NULL));
    IN_CHILD("SYS_exit of the only thread", syscall(SYS_exit, 44));
    IN_CHILD("SYS_exit_group with threads", pthread_t t; pthread_create(&t, NULL, sleeper, NULL);
             syscall(SYS_exit_group, 55));
    IN_CHILD("return from main's thread by pthread_exit", pthread_exit(NULL));
    IN_CHILD("abort", abort());
    return 200;
}
