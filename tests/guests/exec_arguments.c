/* argv and envp through exec: empty, null, large, too large; what the new program sees.
 * traps: many
 */
#include "guest.h"
#include <sys/auxv.h>

extern char **environ;

static unsigned long sum(char **list) {
    unsigned long total = 0;
    for (; *list; list++)
        for (char *c = *list; *c; c++)
            total = total * 33 + (unsigned char)*c;
    return total;
}

static void run(const char *what, char **argv, char **envp) {
    pid_t child = MUST(fork());
    if (child == 0) {
        execve("/proc/self/exe", argv, envp);
        printf("%s: %s\n", what, errno_name(errno));
        exit(125);
    }
    reap(what, child);
}

int main(int argc, char **argv) {
    if (argc != 1 || argv[0][0] != '/') {
        int variables = 0;
        while (environ[variables])
            variables++;
        printf("  argc %d argv[0] \"%.20s\" arguments %lu environment %d %lu\n", argc, argv[0],
               sum(argv), variables, sum(environ));
        printf("  page %lu secure %lu uid %d euid %d aligned %d execfn %s random %d end %d\n",
               getauxval(AT_PAGESZ), getauxval(AT_SECURE), getauxval(AT_UID) == getuid(),
               getauxval(AT_EUID) == geteuid(), (uintptr_t)&argv[-1] % 16 == 0,
               (char *)getauxval(AT_EXECFN), getauxval(AT_RANDOM) != 0, argv[argc] == NULL);
        return argc;
    }
    static char big[200 * 1024];
    char *plain[] = {"zero", "one", "two words", "", "\xff\x01", NULL};
    char *env[] = {"A=1", "B=", "no equals sign", "", NULL};
    char *none[] = {NULL};
    run("plain", plain, env);
    run("empty environment", plain, none);
    run("null environment", plain, NULL);
    run("empty argv", none, env);
    run("null argv", NULL, env);
    run("bad argv", (char **)8, env);
    char *bad[] = {"zero", (char *)8, NULL};
    run("bad argument", bad, env);
    run("bad environment", plain, bad);

    memset(big, 'b', sizeof big);
    char *large[] = {"zero", big, NULL};
    big[128 * 1024 - 1] = 0;
    run("argument of 128 KiB with its end", large, env);
    big[128 * 1024 - 1] = 'b', big[128 * 1024] = 0;
    run("argument of 128 KiB without", large, env);
    big[100 * 1024] = 0;
    static char *many[30000];
    for (int i = 0; i < 29999; i++)
        many[i] = "abcdefgh";
    run("30,000 arguments", many, env);
    for (int i = 0; i < 19; i++)
        many[i] = big;
    many[15] = NULL;
    run("1.5 MiB of arguments", many, env);
    many[15] = big;
    for (int i = 19; i < 200; i++)
        many[i] = big;
    many[200] = NULL;
    run("20 MiB of arguments", many, env);
    run("20 MiB of environment", plain, many);
    return 0;
}
