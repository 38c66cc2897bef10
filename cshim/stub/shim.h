/*
 * shim.h - what the files of the stub know of each other.
 *
 * A stub is a single-threaded host process that executes one guest task.  The
 * shim is this code, mapped in it above UVM_TASK_SIZE.  It runs on the task's
 * alternate signal stack with the guest's thread pointer and vector registers
 * live: no libc, no stack protector, general registers only.
 *
 * The image has four parts (stub.ld): shim text; nursery text; configuration
 * (written by the nursery before the first fork, read-only from then on); and
 * nursery data.  A stub unmaps the nursery's two before its first guest
 * instruction.
 */
#ifndef UVM_SHIM_H
#define UVM_SHIM_H

#include "uvm_abi.h"

#define HIDDEN __attribute__((visibility("hidden")))
#define NURSERY __attribute__((section(".text.nursery"), noinline))
#define NURSERY_DATA __attribute__((section(".bss.nursery")))
#define CONFIG __attribute__((section(".config")))

/* Boundaries, from stub.ld. */
HIDDEN extern char shim_text_start[], shim_text_end[];
HIDDEN extern char nursery_text_start[], nursery_text_end[];
HIDDEN extern char config_start[], config_end[];
HIDDEN extern char nursery_data_start[], nursery_data_end[];

HIDDEN extern struct uvm_config config;

#define MAILBOX ((struct uvm_mailbox *)UVM_SLOT_BASE)
#define STACK_BASE (UVM_SLOT_BASE + UVM_PAGE_SIZE)
#define STACK_SIZE (UVM_SLOT_SIZE - UVM_PAGE_SIZE)
#define PHYSMEM_FD 3

/* The host's siginfo and ucontext, as far as the shim looks. */
struct host_siginfo {
    int32_t signo, error, code, pad;
    union {
        uint64_t addr;                  /* SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP */
        struct {
            uint64_t call_addr;         /* SIGSYS */
            int32_t nr;
            uint32_t arch;
        } sys;
        struct {
            int32_t pid, uid;           /* SI_QUEUE */
            uint64_t value;
        } queue;
        char room[112];
    };
};

enum { /* places of registers in a signal frame; r8 to r15 come first */
       REG_RDI = 8,
       REG_RSI = 9,
       REG_RBP = 10,
       REG_RAX = 13,
       REG_RCX = 14,
       REG_RSP = 15,
       REG_RIP = 16,
       REG_EFLAGS = 17,
       REG_ERR = 19,
       REG_TRAPNO = 20,
       REG_CR2 = 22,
       REG_FPSTATE = 23 /* a pointer */
};
#define UC_REG(uc, n) (((uint64_t *)((char *)(uc) + 40))[n])

/* mmu.c */
struct walk {                           /* where an address's entry stands */
    volatile const uint64_t *leaf;      /* its table, */
    int index;
    uint64_t entry;                     /* and itself */
};
HIDDEN int tlb_walk(uint64_t addr, uint64_t error, struct walk *walk);
HIDDEN int tlb_map(uint64_t addr, const struct walk *walk, int alone);
HIDDEN void tlb_drop_all(void);
HIDDEN int tlb_fill(uint64_t addr, uint64_t error); /* 1: mapped, 0: ask the kernel */
HIDDEN void tlb_shootdown(void);                    /* do what the mailbox lists */
HIDDEN void tlb_prefill(void);

/* trap.c */
HIDDEN void trap(uint32_t kind, void *context) __attribute__((noreturn));
HIDDEN void set_gs(uint64_t gs);
HIDDEN uint64_t read_fs(void);
HIDDEN void trap_entry_sys(int sig, void *info, void *context);
HIDDEN void trap_entry_fault(int sig, void *info, void *context);
HIDDEN void trap_entry_kick(int sig, void *info, void *context);
HIDDEN void exit_quick(void *context, uint32_t *kicked) __attribute__((noreturn));
HIDDEN void exit_full(void *context, uint32_t *kicked) __attribute__((noreturn));
HIDDEN void late_kick(void *context) __attribute__((noreturn));
HIDDEN extern char exit_quick_window[], exit_quick_end[], exit_full_window[], exit_full_end[];
HIDDEN void shim_restorer(void);
HIDDEN void shim_birth(uint64_t addr, uint64_t len) __attribute__((noreturn));

/* filter.c */
HIDDEN long filter_install(void);

#endif
