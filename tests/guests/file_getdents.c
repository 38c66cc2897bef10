/* Reading folders: all names once, kinds, rewinding, changes meanwhile, small buffers.
 * traps: many
 */
#include "guest.h"
#include <dirent.h>

static int compare(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int list(const char *path, int print) {
    char *names[2000];
    int n = 0;
    DIR *dir = opendir(path);
    struct dirent *entry;
    if (!dir)
        return -1;
    while ((entry = readdir(dir))) {
        char text[300];
        snprintf(text, sizeof text, "%s %c%s", entry->d_name, "?pc?d?b?-?l?s"[entry->d_type],
                 entry->d_ino ? "" : " no inode");
        names[n++] = strdup(text);
    }
    closedir(dir);
    qsort(names, n, sizeof *names, compare);
    for (int i = 0; i < n; i++) {
        if (print)
            printf("  %s\n", names[i]);
        if (i && !strcmp(names[i], names[i - 1]))
            printf("  twice: %s\n", names[i]);
        free(names[i]);
    }
    return n;
}

int main(void) {
    MUST(mkdir("d", 0755));
    V(list("d", 1));
    write_file("d/file", "", 0, 0644);
    MUST(mkdir("d/sub", 0755));
    MUST(symlink("x", "d/link"));
    MUST(mkfifo("d/fifo", 0600));
    V(list("d", 1));
    for (int i = 0; i < 1000; i++) {
        char name[64];
        snprintf(name, sizeof name, "d/sub/a-rather-long-name-number-%d", i);
        write_file(name, "", 0, 0644);
    }
    V(list("d/sub", 0));

    /* Removing while reading: each name is seen once. */
    DIR *dir = opendir("d/sub");
    struct dirent *entry;
    int removed = 0;
    while ((entry = readdir(dir)))
        if (entry->d_name[0] != '.') {
            char name[300];
            snprintf(name, sizeof name, "d/sub/%s", entry->d_name);
            removed += unlink(name) == 0;
        }
    printf("removed %d\n", removed);
    rewinddir(dir);
    int left = 0;
    while ((entry = readdir(dir)))
        left++;
    printf("left %d\n", left);
    closedir(dir);
    E(rmdir("d/sub"));

    /* telldir and seekdir. */
    dir = opendir("d");
    readdir(dir);
    readdir(dir);
    long place = telldir(dir);
    char third[256];
    strcpy(third, readdir(dir)->d_name);
    while (readdir(dir))
        ;
    seekdir(dir, place);
    printf("same again %d\n", !strcmp(third, readdir(dir)->d_name));
    closedir(dir);

    char buffer[1024];
    int fd = MUST(open("d", O_RDONLY));
    E(syscall(SYS_getdents64, fd, buffer, 8));
    E(syscall(SYS_getdents64, fd, (void *)1, sizeof buffer));
    V(syscall(SYS_getdents64, fd, buffer, sizeof buffer) > 0);
    V(syscall(SYS_getdents64, fd, buffer, sizeof buffer));
    MUST(lseek(fd, 0, SEEK_SET));
    V(syscall(SYS_getdents64, fd, buffer, sizeof buffer) > 0);
    int file = MUST(open("d/file", O_RDONLY));
    E(syscall(SYS_getdents64, file, buffer, sizeof buffer));
    E(syscall(SYS_getdents64, 999, buffer, sizeof buffer));
    MUST(mkdir("gone", 0755));
    fd = MUST(open("gone", O_RDONLY));
    MUST(rmdir("gone"));
    V(syscall(SYS_getdents64, fd, buffer, sizeof buffer));
    return 0;
}
