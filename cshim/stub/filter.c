/*
 * filter.c - every host call that shim text may make, and the seccomp filter
 * made from that table.
 *
 * The filter is the line between machine and host.  By where a call stands:
 * - shim text: only what the table lists, with the arguments it lists; anything
 *   else kills the process (the guest has taken over its shim);
 * - nursery text: everything (each stub unmaps that text before guest code);
 * - anywhere else (guest code, the host's vsyscall page): SIGSYS, which is the
 *   second trap door, and the first one's backstop.
 *
 * Classic BPF sees 32-bit halves and cannot add: lengths stay under 4 GiB, and
 * UVM_TASK_SIZE is followed by a guard gap of 4 GiB.
 *
 * This file runs in the nursery only; it lies in nursery text (stub.ld).
 */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>

#include "hostcall.h"
#include "shim.h"

/* Fields of struct seccomp_data. */
#define OFF_NR offsetof(struct seccomp_data, nr)
#define OFF_ARCH offsetof(struct seccomp_data, arch)
#define OFF_IP offsetof(struct seccomp_data, instruction_pointer)
#define OFF_ARG(i) (offsetof(struct seccomp_data, args) + 8 * (i))

enum test {
    END,
    EQ,         /* all 64 bits */
    EQ32,       /* low half; for int arguments */
    BELOW4G,    /* high half zero */
    HIGH_BELOW, /* high half below the value's */
    AT_LEAST,   /* all 64 bits */
    WITHIN32,   /* no bits of the low half outside the value */
};

struct check {
    uint8_t test, arg;
    uint64_t value;
};

#define MAX_CHECKS 5
struct rule {
    int nr;
    struct check checks[MAX_CHECKS];
};

#define MAX_PROGRAM 256
struct program {
    int length;
    struct sock_filter code[MAX_PROGRAM];
};

static void emit(struct program *p, uint16_t code, uint8_t yes, uint8_t no, uint32_t k) {
    if (p->length < MAX_PROGRAM)
        p->code[p->length] = (struct sock_filter){code, yes, no, k};
    p->length++;
}

#define LOAD(p, offset) emit(p, BPF_LD | BPF_W | BPF_ABS, 0, 0, offset)
#define RETURN(p, what) emit(p, BPF_RET | BPF_K, 0, 0, what)
#define JEQ (BPF_JMP | BPF_JEQ | BPF_K)
#define JGE (BPF_JMP | BPF_JGE | BPF_K)
#define JGT (BPF_JMP | BPF_JGT | BPF_K)
#define JSET (BPF_JMP | BPF_JSET | BPF_K)

/* A jump whose `fail` side leaves the rule is emitted with this and patched. */
#define FAIL 255

static void emit_check(struct program *p, const struct check *c) {
    uint32_t low = (uint32_t)c->value, high = (uint32_t)(c->value >> 32);
    switch (c->test) {
    case EQ:
        LOAD(p, OFF_ARG(c->arg) + 4);
        emit(p, JEQ, 0, FAIL, high);
        /* fall through */
    case EQ32:
        LOAD(p, OFF_ARG(c->arg));
        emit(p, JEQ, 0, FAIL, low);
        break;
    case BELOW4G:
        LOAD(p, OFF_ARG(c->arg) + 4);
        emit(p, JEQ, 0, FAIL, 0);
        break;
    case HIGH_BELOW:
        LOAD(p, OFF_ARG(c->arg) + 4);
        emit(p, JGE, FAIL, 0, high);
        break;
    case AT_LEAST:
        LOAD(p, OFF_ARG(c->arg) + 4);
        emit(p, JGT, 3, 0, high);
        emit(p, JEQ, 0, FAIL, high);
        LOAD(p, OFF_ARG(c->arg));
        emit(p, JGE, 0, FAIL, low);
        break;
    case WITHIN32:
        LOAD(p, OFF_ARG(c->arg));
        emit(p, JSET, FAIL, 0, ~low);
        break;
    }
}

static void emit_rule(struct program *p, const struct rule *r) {
    int start = p->length;
    LOAD(p, OFF_NR);
    emit(p, JEQ, 0, FAIL, r->nr);
    for (int i = 0; i < MAX_CHECKS && r->checks[i].test != END; i++)
        emit_check(p, &r->checks[i]);
    RETURN(p, SECCOMP_RET_ALLOW);
    for (int i = start; i < p->length && i < MAX_PROGRAM; i++) {
        struct sock_filter *f = &p->code[i];
        if (BPF_CLASS(f->code) != BPF_JMP)
            continue;
        if (f->jt == FAIL)
            f->jt = p->length - i - 1;
        if (f->jf == FAIL)
            f->jf = p->length - i - 1;
    }
}

/* Jump to the next instruction if the call stands in [start, end), else over
 * `body` instructions.  Both ends share their high half (stub.ld). */
static void emit_text_test(struct program *p, const char *start, const char *end, int body) {
    LOAD(p, OFF_IP + 4);
    emit(p, JEQ, 0, body + 3, (uint32_t)((uint64_t)start >> 32));
    LOAD(p, OFF_IP);
    emit(p, JGE, 0, body + 1, (uint32_t)(uint64_t)start);
    emit(p, JGT, body, 0, (uint32_t)(uint64_t)end);
}

/* Lay the filter on this process and all it forks.  Needs no_new_privs.
 * Answers 0 or a negative errno. */
long filter_install(void) {
    const uint64_t nursery = (uint64_t)nursery_text_start;
    const uint64_t nursery_len = (uint64_t)(nursery_data_end - nursery_text_start);
    const struct rule rules[] = {
        {__NR_rt_sigreturn, {{END, 0, 0}}},
        {__NR_futex, {{EQ, 0, UVM_SLOT_BASE}, {EQ32, 1, 0 /* FUTEX_WAIT */}, {EQ, 3, 0}}},
        {__NR_rt_sigtimedwait, {{EQ, 2, 0}}},
        {__NR_rt_tgsigqueueinfo,
         {{EQ32, 0, config.kernel_pid}, {EQ32, 1, config.kernel_tid}, {EQ32, 2, UVM_SIG_NOTIFY}}},
        /* Physmem below UVM_TASK_SIZE: read-only from anywhere ... */
        {__NR_mmap,
         {{HIGH_BELOW, 0, UVM_TASK_SIZE},
          {BELOW4G, 1, 0},
          {WITHIN32, 2, 5 /* PROT_READ | PROT_EXEC */},
          {EQ32, 3, 0x11 /* MAP_SHARED | MAP_FIXED */},
          {EQ32, 4, PHYSMEM_FD}}},
        /* ... writable from the data zone only.  Five checks do: with these
         * flags the descriptor matters not at all if it is not physmem, since
         * a stub has no other. */
        {__NR_mmap,
         {{HIGH_BELOW, 0, UVM_TASK_SIZE},
          {BELOW4G, 1, 0},
          {EQ32, 3, 0x11},
          {EQ32, 4, PHYSMEM_FD},
          {AT_LEAST, 5, config.data_offset}}},
        {__NR_munmap, {{HIGH_BELOW, 0, UVM_TASK_SIZE}, {BELOW4G, 1, 0}}},
        {__NR_munmap, {{EQ, 0, UVM_MMAP_MIN_ADDR}, {EQ, 1, UVM_TASK_SIZE - UVM_MMAP_MIN_ADDR}}},
        {__NR_munmap, {{EQ, 0, nursery}, {EQ, 1, nursery_len}}},
        {__NR_arch_prctl, {{EQ32, 0, 0x1001 /* ARCH_SET_GS */}}},
        {__NR_arch_prctl, {{EQ32, 0, 0x1002 /* ARCH_SET_FS */}}},
        {__NR_arch_prctl, {{EQ32, 0, 0x1003 /* ARCH_GET_FS */}}},
        {__NR_arch_prctl, {{EQ32, 0, 0x1004 /* ARCH_GET_GS */}}},
        {__NR_exit_group, {{END, 0, 0}}},
    };
    struct program p = {.length = 0};
    /* The host compares the address *after* the syscall instruction. */
    emit_text_test(&p, nursery_text_start, nursery_text_end, 1);
    RETURN(&p, SECCOMP_RET_ALLOW);
    emit_text_test(&p, shim_text_start, shim_text_end, 1);
    emit(&p, BPF_JMP | BPF_JA, 0, 0, 1);
    RETURN(&p, SECCOMP_RET_TRAP);
    LOAD(&p, OFF_ARCH);
    emit(&p, JEQ, 1, 0, AUDIT_ARCH_X86_64);
    RETURN(&p, SECCOMP_RET_KILL_PROCESS);
    for (unsigned i = 0; i < sizeof rules / sizeof rules[0]; i++)
        emit_rule(&p, &rules[i]);
    RETURN(&p, SECCOMP_RET_KILL_PROCESS);
    if (p.length > MAX_PROGRAM)
        return -12;
    struct sock_fprog program = {(unsigned short)p.length, p.code};
    return hostcall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}
