/*
 * launch.c - start the nursery so that the embedding process never sees it.
 *
 * exec resets a clone's exit signal to SIGCHLD, so a nursery that were our child
 * would turn up in the embedder's SIGCHLD and wait().  Hence two steps: a
 * launcher, cloned with exit signal 0 (invisible to wait() without __WALL),
 * clones the nursery, lets it exec, and exits; we reap the launcher.  Both
 * share our memory and suspend this thread until they exec or exit (vfork), so
 * the cost does not grow with the embedder's size, and no fork handler runs.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "uvm_host.h"

#define STACK_BYTES 65536
#define HIGH_FD 7 /* the first that the nursery does not expect to find */

struct launch {
    int image_fd, physmem_fd, socket_fd, parent_fd;
    char *launcher_stack, *nursery_stack;
    volatile int error;
};

extern const uint8_t uvm_stub_image_start[], uvm_stub_image_end[];

uint64_t uvm_stub_image(const uint8_t **image) {
    *image = uvm_stub_image_start;
    return uvm_stub_image_end - uvm_stub_image_start;
}

/* In the nursery-to-be: descriptors where it expects them, nothing else of the
 * embedder's left: no descriptor, no signal disposition, no blocked signal. */
static int become_nursery(void *argument) {
    struct launch *l = argument;
    struct {
        void *handler;
        uint64_t flags;
        void *restorer;
        uint64_t mask;
    } dfl = {0};
    for (int sig = 1; sig <= 64; sig++)
        syscall(SYS_rt_sigaction, sig, &dfl, NULL, 8);
    int image = fcntl(l->image_fd, F_DUPFD, HIGH_FD);
    int physmem = fcntl(l->physmem_fd, F_DUPFD, HIGH_FD);
    int sock = fcntl(l->socket_fd, F_DUPFD, HIGH_FD);
    int parent = fcntl(l->parent_fd, F_DUPFD, HIGH_FD);
    if (image < 0 || physmem < 0 || sock < 0 || parent < 0 || dup2(physmem, 3) < 0 ||
        dup2(sock, 4) < 0 || dup2(parent, 5) < 0 || dup3(image, 6, O_CLOEXEC) < 0) {
        l->error = errno;
        _exit(127);
    }
    close(0), close(1), close(2);
    if (syscall(SYS_close_range, 7, ~0U, 0))
        for (int fd = 7; fd < 1 << 16; fd++)
            close(fd);
    char *argv[] = {"uvm-nursery", NULL}, *envp[] = {NULL};
    syscall(SYS_execveat, 6, "", argv, envp, AT_EMPTY_PATH);
    l->error = errno;
    _exit(127);
}

static int launcher(void *argument) {
    struct launch *l = argument;
    if (clone(become_nursery, l->nursery_stack + STACK_BYTES, CLONE_VM | CLONE_VFORK | SIGCHLD, l) <
        0)
        l->error = errno;
    _exit(0);
}

int uvm_nursery_launch(int physmem_fd, int socket_fd) {
    struct launch l = {.physmem_fd = physmem_fd, .socket_fd = socket_fd};
    const uint8_t *image;
    uint64_t size = uvm_stub_image(&image), done = 0;
    int status = 0;
    pid_t pid = -1;
    char *stacks = malloc(2 * STACK_BYTES);
    if (stacks == NULL)
        return -ENOMEM;
    l.launcher_stack = stacks;
    l.nursery_stack = stacks + STACK_BYTES;
    l.image_fd = memfd_create("uvm-nursery", MFD_CLOEXEC);
    l.parent_fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (l.image_fd < 0 || l.parent_fd < 0) {
        l.error = errno;
        goto out;
    }
    while (done < size) {
        ssize_t n = write(l.image_fd, image + done, size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            l.error = errno;
            goto out;
        }
        done += n;
    }
    /* No signal handler of the embedder may run in the children's shared memory. */
    uint64_t all = ~0UL, old;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, 8);
    pid = clone(launcher, l.launcher_stack + STACK_BYTES, CLONE_VM | CLONE_VFORK, &l);
    if (pid < 0)
        l.error = errno;
    else
        while (waitpid(pid, &status, __WALL) < 0 && errno == EINTR)
            ;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, 8);
out:
    if (l.image_fd >= 0)
        close(l.image_fd);
    if (l.parent_fd >= 0)
        close(l.parent_fd);
    free(stacks);
    return -l.error;
}
