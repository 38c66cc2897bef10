/*
 * uvm_abi.h - the one contract between the C half and the Python half.
 *
 * Read three times: by the stub and nursery (freestanding), by the host
 * library (hosted), and by cffi, which takes every `#define UVM_...` as a
 * constant and every struct as it stands.  So: fixed-width types only, no
 * conditional code between the CFFI markers, and a static assertion for every
 * offset that anybody depends on.
 *
 * Physical memory (physmem) is one memory file:
 *
 *      0           page 0: struct physmem_header (allocator state); pfn 0 is
 *                  therefore never a valid frame
 *      mem_map     struct page for every frame of the file
 *      slots       UVM_SLOT_SIZE bytes a stub: mailbox page, then its stack
 *      PT zone     frames for page tables
 *      data zone   everything a guest may map writable
 *
 * All before the data zone is never mapped writable in a stub, except a
 * stub's own slot; the seccomp filter holds that line.
 */
#ifndef UVM_ABI_H
#define UVM_ABI_H

#include <stdint.h>

/* BEGIN CFFI */

#define UVM_PAGE_SHIFT 12
#define UVM_PAGE_SIZE 4096

/* Where things stand in a stub's address space. */
#define UVM_TASK_SIZE 0x7cff00000000    /* first byte above guest memory */
#define UVM_MMAP_MIN_ADDR 0x10000       /* lowest guest byte (host default) */
#define UVM_WINDOW 0x7d0000000000       /* physmem, read-only */
#define UVM_SHIM_BASE 0x7e0000000000    /* shim text; see stub.ld */
#define UVM_SLOT_BASE 0x7e0000100000    /* own mailbox and stack */
#define UVM_SLOT_SIZE 0x8000
#define UVM_MAX_SLOTS 8192

/* Page table bits: the processor's, and two of the bits it leaves free. */
#define UVM_PTE_P 0x1                   /* present */
#define UVM_PTE_W 0x2                   /* writable */
#define UVM_PTE_U 0x4                   /* user */
#define UVM_PTE_A 0x20                  /* accessed: clear = not in any Tlb */
#define UVM_PTE_D 0x40                  /* dirty: clear = read-only in Tlbs */
#define UVM_PTE_PROTNONE 0x100          /* frame held, P clear (PROT_NONE) */
#define UVM_PTE_COW 0x200               /* write faults copy or take over */
#define UVM_PTE_CACHE 0x400             /* frame belongs to a page cache */
#define UVM_PTE_NX 0x8000000000000000   /* no execute */
#define UVM_PTE_ADDR 0x000ffffffffff000

/* Signals between kernel and stubs (host signal numbers). */
#define UVM_SIG_NOTIFY 36               /* to the loop's thread; value below */
#define UVM_SIG_KICK 10                 /* SIGUSR1 to a stub: preempt, shoot down */
#define UVM_SIG_WAKE 12                 /* SIGUSR2 to a stub: go on (transport signal) */

/* sigval of UVM_SIG_NOTIFY: slot | kind << 16 | epoch << 32. */
#define UVM_NOTIFY_TRAP 0               /* slot stands in a trap */
#define UVM_NOTIFY_ACK 1                /* slot has done its shootdowns */
#define UVM_NOTIFY_TIMER 2              /* the kernel's own timer */

/* mailbox.state: who owns the task's registers and mailbox. */
#define UVM_STATE_GUEST 0               /* stub runs guest code or shim */
#define UVM_STATE_TRAPPED 1             /* stub waits; the kernel owns all */
#define UVM_STATE_EXIT 2                /* kernel to stub: end the process */

/* mailbox.trap: why it trapped. */
#define UVM_TRAP_BIRTH 0                /* blank stub, first trap of its life */
#define UVM_TRAP_SYSCALL 1              /* SIGSYS */
#define UVM_TRAP_FAULT 2                /* page fault the Tlb cannot resolve */
#define UVM_TRAP_EXCEPTION 3            /* any other exception: see sig, code */
#define UVM_TRAP_PREEMPT 4              /* UVM_SIG_KICK with preempt set */

/* Page fault error code, as the processor gives it. */
#define UVM_PF_PRESENT 0x1
#define UVM_PF_WRITE 0x2
#define UVM_PF_USER 0x4
#define UVM_PF_INSTR 0x10

#define UVM_SHOOTDOWN_RING 32           /* ranges a mailbox holds */
#define UVM_PREFILL_RING 16             /* pages to map before going on */

/* The transports: how a stub waits for the kernel. */
#define UVM_TRANSPORT_SIGNAL 0
#define UVM_TRANSPORT_FUTEX 1
#define UVM_TRANSPORT_SPIN 2            /* bounded spin, then futex */

/* The trap doors: what turns a system call into SIGSYS. */
#define UVM_DOOR_SUD 0
#define UVM_DOOR_SECCOMP 1

struct uvm_range {
    uint64_t addr;
    uint64_t len;                       /* bytes */
};

/*
 * One page per stub, writable by stub and kernel.  The guest can write it
 * too, so the kernel checks whatever it reads from here.
 */
struct uvm_mailbox {
    uint32_t state;                     /* UVM_STATE_*; futex word */
    uint32_t trap;                      /* UVM_TRAP_* */
    uint32_t sig;                       /* host signal that trapped */
    int32_t code;                       /* its si_code */
    uint64_t fault_addr;                /* si_addr of a fault or exception */
    uint64_t fault_error;               /* UVM_PF_* */
    uint64_t fs_base;                   /* the guest's, saved and restored */
    uint64_t gs_base;
    uint64_t pgd;                       /* physmem offset of the top page table */
    uint64_t frame;                     /* address of the ucontext; set once, at birth */
    uint32_t slot;
    uint32_t host_pid;                  /* of the stub, in the nursery's namespace */
    uint32_t preempt;                   /* kernel asks for UVM_TRAP_PREEMPT */
    uint32_t want_ack;                  /* kernel asks for UVM_NOTIFY_ACK */
    uint32_t sd_head;                   /* shootdowns written by the kernel */
    uint32_t sd_tail;                   /* shootdowns done by the stub */
    uint32_t sd_all;                    /* drop the whole Tlb instead */
    uint32_t prefill;                   /* entries valid in prefill_addr */
    uint32_t spin;                      /* iterations to spin before sleeping */
    uint32_t arch;                      /* si_arch of a system call */
    uint64_t refills;                   /* statistics: Tlb refills, pages, */
    uint64_t refill_pages;
    uint64_t traps;                     /* traps to the kernel, */
    uint64_t drops;                     /* munmaps, */
    uint64_t enomem;                    /* Tlb emptied for lack of mappings, */
    uint64_t stale;                     /* kicks that came too late */
    uint64_t prefill_addr[UVM_PREFILL_RING]; /* page address | UVM_PF_* */
    struct uvm_range sd[UVM_SHOOTDOWN_RING];
};

/* What the nursery is told first, over its socket. */
struct uvm_config {
    uint64_t physmem_size;              /* bytes */
    uint64_t slot_offset;               /* physmem offset of slot 0 */
    uint64_t data_offset;               /* first byte a stub may map writable */
    uint32_t kernel_pid;                /* process and thread that run the loop */
    uint32_t kernel_tid;
    uint32_t epoch;                     /* in the value of every notification */
    uint32_t transport;                 /* UVM_TRANSPORT_* */
    uint32_t door;                      /* UVM_DOOR_* */
    uint32_t fsgsbase;                  /* user code may use rdfsbase and kin */
    int32_t nice;                       /* priority of stubs, below the loop's */
    uint32_t no_tsc;                    /* rdtsc and rdtscp shall trap (virtual clock) */
    uint32_t no_filter;                 /* for measurements only: lay no seccomp filter */
    uint64_t race_offset;               /* physmem offset of the race area (uvm_race.h), */
    uint64_t race_size;                 /* its bytes; 0: not a controlled machine */
    uint64_t race_code;                 /* its last bytes from here on are code */
};

/* Kernel to nursery. */
#define UVM_ORDER_FORK 1                /* a = first slot, b = how many stubs */
#define UVM_ORDER_REAP 2                /* a = host pid: the kernel has taken note */
#define UVM_ORDER_QUIT 3                /* end all stubs, then yourself */

/* Nursery to kernel. */
#define UVM_REPORT_READY 1              /* set up; b = 0, or errno, a = step that failed */
#define UVM_REPORT_FORKED 2             /* a = first slot, b = how many were made, c = errno */
#define UVM_REPORT_DEAD 3               /* a = host pid, b = wait status */

struct uvm_message {
    uint32_t op;
    uint32_t a;
    uint32_t b;
    uint32_t c;
};

/* END CFFI */

#define UVM_OFFSET(field, offset)                                                                  \
    _Static_assert(__builtin_offsetof(struct uvm_mailbox, field) == (offset), "ABI: " #field)
UVM_OFFSET(state, 0);
UVM_OFFSET(trap, 4);
UVM_OFFSET(fault_addr, 16);
UVM_OFFSET(fs_base, 32);
UVM_OFFSET(pgd, 48);
UVM_OFFSET(frame, 56);
UVM_OFFSET(slot, 64);
UVM_OFFSET(preempt, 72);
UVM_OFFSET(sd_head, 80);
UVM_OFFSET(spin, 96);
UVM_OFFSET(refills, 104);
UVM_OFFSET(prefill_addr, 152);
UVM_OFFSET(sd, 280);
_Static_assert(sizeof(struct uvm_mailbox) <= UVM_PAGE_SIZE, "ABI: one page");

#endif
