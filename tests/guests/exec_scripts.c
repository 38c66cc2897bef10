/* #! lines: arguments, blanks, length, nesting; what the interpreter is told.
 */
#include "guest.h"

static char exe[PATH_MAX];

static void script(const char *name, const char *format, const char *interpreter) {
    char text[1024];
    int size = snprintf(text, sizeof text, format, interpreter);
    write_file(name, text, size, 0755);
}

static void run(const char *name, const char *arg) {
    char path[64];
    snprintf(path, sizeof path, "./%s", name);
    pid_t child = MUST(fork());
    if (child == 0) {
        execl(path, "zeroth", arg, NULL);
        printf("%s: %s\n", name, errno_name(errno));
        exit(126);
    }
    reap(name, child);
}

int main(int argc, char **argv) {
    if (argc > 1) {
        for (int i = 1; i < argc; i++)
            printf("  [%s]\n", argv[i]);
        return argc;
    }
    MUST(symlink("/proc/self/exe", "unused"));
    ssize_t size = MUST(readlink("/proc/self/exe", exe, sizeof exe - 1));
    exe[size] = 0;
    MUST(symlink(exe, "me"));
    script("plain", "#!%s\nrest\n", "./me");
    script("argument", "#!%s one\n", "./me");
    script("words", "#!%s one two  three \n", "./me");
    script("blanks", "#! \t %s \t one \t \n", "./me");
    script("no-newline", "#!%s one", "./me");
    script("nested1", "#!%s\n", "./plain");
    script("nested2", "#!%s second\n", "./nested1");
    script("nested3", "#!%s\n", "./nested2");
    script("nested4", "#!%s\n", "./nested3");
    script("nested5", "#!%s\n", "./nested4");
    script("nested6", "#!%s\n", "./nested5");
    const char *names[] = {"plain",   "argument", "words",   "blanks",  "no-newline", "nested1",
                           "nested2", "nested3",  "nested4", "nested5", "nested6"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        run(names[i], "arg");
    char line[600] = "#!./me ";
    memset(line + 7, 'a', 500);
    line[507] = '\n';
    write_file("long-argument", line, 508, 0755);
    run("long-argument", "arg");
    memset(line + 2, '/', 500);
    line[502] = '\n';
    write_file("long-interpreter", line, 503, 0755);
    run("long-interpreter", "arg");
    script("shell", "#!/bin/sh -e\necho \"$0 $# $1\"\nfalse\necho not reached\n", NULL);
    run("shell", "arg");
    return 0;
}
