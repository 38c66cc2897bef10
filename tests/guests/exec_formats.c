/* Files that exec refuses, and the error of each.
 */
#include "guest.h"
#include <elf.h>

static char self[1 << 22];
static ssize_t self_size;

static void try(const char *what, const char *path) {
    char *argv[] = {(char *)path, NULL}, *envp[] = {NULL};
    pid_t child = MUST(vfork());
    static volatile int error;
    if (child == 0) {
        error = 0;
        execve(path, argv, envp);
        error = errno;
        _exit(126);
    }
    int status;
    MUST(waitpid(child, &status, 0));
    if (error)
        printf("%s: %s\n", what, errno_name(error));
    else
        show_status(what, status);
}

static void try_bytes(const char *what, const void *bytes, size_t size) {
    write_file("f", bytes, size, 0755);
    try(what, "./f");
}

static void try_elf(const char *what, void (*change)(Elf64_Ehdr *)) {
    Elf64_Ehdr saved;
    memcpy(&saved, self, sizeof saved);
    change((Elf64_Ehdr *)self);
    try_bytes(what, self, self_size < PAGE ? self_size : PAGE);
    memcpy(self, &saved, sizeof saved);
}

static void magic(Elf64_Ehdr *e) {
    e->e_ident[0] = 'x';
}
static void arm(Elf64_Ehdr *e) {
    e->e_machine = EM_AARCH64;
}
static void relocatable(Elf64_Ehdr *e) {
    e->e_type = ET_REL;
}
static void core(Elf64_Ehdr *e) {
    e->e_type = ET_CORE;
}
static void no_headers(Elf64_Ehdr *e) {
    e->e_phnum = 0;
}
static void small_headers(Elf64_Ehdr *e) {
    e->e_phentsize = 32;
}
static void many_headers(Elf64_Ehdr *e) {
    e->e_phnum = 5000;
}
static void far_headers(Elf64_Ehdr *e) {
    e->e_phoff = 1 << 30;
}

static void interpreter(const char *name, size_t size) {
    Elf64_Ehdr *e = (Elf64_Ehdr *)self;
    Elf64_Phdr *p = (Elf64_Phdr *)(self + e->e_phoff);
    for (int i = 0; i < e->e_phnum; i++)
        if (p[i].p_type == PT_NOTE || p[i].p_type == PT_INTERP) {
            p[i].p_type = PT_INTERP;
            p[i].p_filesz = size;
            p[i].p_offset = 0xf00;
            memcpy(self + 0xf00, name, size);
            return;
        }
}

int main(void) {
    int fd = MUST(open("/proc/self/exe", O_RDONLY));
    self_size = MUST(read(fd, self, sizeof self));
    close(fd);

    try("missing file", "./nothing");
    try("missing folder", "./no/thing");
    try("empty name", "");
    try("null name", NULL);
    try("bad name", (char *)1);
    MUST(mkdir("dir", 0755));
    try("directory", "./dir");
    write_file("plain", "#!/bin/sh\n", 10, 0644);
    try("not executable", "./plain");
    try("below a file", "./plain/x");
    MUST(symlink("loop", "loop"));
    try("symlink loop", "./loop");
    MUST(mkfifo("fifo", 0755));
    try("fifo", "./fifo");
    try("device", "/dev/null");
    char name[300];
    memset(name, 'n', sizeof name - 1);
    name[299] = 0;
    try("long name", name);

    try_bytes("empty file", "", 0);
    try_bytes("one byte", "x", 1);
    try_bytes("text", "echo hello\n", 11);
    try_bytes("bare #!", "#!", 2);
    try_bytes("#! and blanks", "#!   \n", 6);
    try_bytes("#! missing interpreter", "#!/nonexistent/sh\n", 18);
    try_bytes("#! directory", "#!/\n", 4);
    try_bytes("#! itself", "#!./f\n", 6);
    try_bytes("four bytes of ELF", "\177ELF", 4);
    try_bytes("half an ELF header", self, 32);
    try_bytes("ELF header alone", self, 64);
    try_elf("wrong magic", magic);
    try_elf("another architecture", arm);
    try_elf("relocatable file", relocatable);
    try_elf("core file", core);
    try_elf("no program headers", no_headers);
    try_elf("program headers of 32 bits", small_headers);
    try_elf("too many program headers", many_headers);
    try_elf("program headers beyond the end", far_headers);
    interpreter("/nonexistent/ld.so", 19);
    try_bytes("missing ELF interpreter", self, self_size);
    interpreter("/dev/null", 10);
    try_bytes("ELF interpreter a device", self, self_size);
    interpreter("./plain", 8);
    try_bytes("ELF interpreter not executable", self, self_size);
    write_file("plain", "#!/bin/sh\n", 10, 0755);
    try_bytes("ELF interpreter a script", self, self_size);
    interpreter("./plain", 7);
    try_bytes("ELF interpreter's name not ended", self, self_size);
    return 0;
}
