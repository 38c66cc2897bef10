/*
 * uvm_race.h - what a controlled machine's kernel and shims share besides.
 *
 * The race area is a run of data-zone frames, mapped writable in every stub at
 * UVM_RACE_BASE: this header, then tables at the offsets it names.  Beside it
 * every stub has the whole data zone writable at UVM_RACE_WINDOW.  Only one
 * stub runs at a time, so nothing here needs an atomic access; but a guest that
 * goes wild can spoil it, which a machine that is not controlled never risks.
 *
 * Words: 8 aligned bytes.  Active words are those whose accesses are events
 * (and choice points, where the instruction may be one); the set is fixed while
 * an execution runs.  Pages that hold one are listed; a listed page is never
 * mapped for the guest, so that every access to it faults and is run by race.c.
 */
#ifndef UVM_RACE_H
#define UVM_RACE_H

#include <stdint.h>

/* BEGIN CFFI */

#define UVM_RACE_WINDOW 0x7d8000000000  /* the data zone, writable */
#define UVM_RACE_BASE 0x7e4000000000    /* struct uvm_race */

#define UVM_TRAP_RACE 5                 /* mailbox.trap; mailbox.code says why: */
#define UVM_RACE_POINT 1                /* a choice is the kernel's to make */
#define UVM_RACE_SPIN 2                 /* the same, and the task re-reads what does not change */
#define UVM_RACE_INSN 3                 /* an instruction that the table does not have */
#define UVM_RACE_REFUSED 4              /* ... and that cannot be run on a listed page */
#define UVM_RACE_FOUND 5                /* the task spins on a word that was not active */
#define UVM_RACE_CALM 6                 /* UVM_RACE_GREEDY has gone on for long enough */

/* uvm_race.mode */
#define UVM_RACE_OFF 0                  /* nothing is watched */
#define UVM_RACE_ALL 1 /* find what tasks share: pages belong to who touches them */
#define UVM_RACE_LISTED 2 /* watch listed pages only */
#define UVM_RACE_GREEDY 3 /* ... and list whatever `greedy` touches */

/* Events: kinds (also in mailbox.fault_error, with size << 8 and locked << 32). */
#define UVM_EVENT_READ 1
#define UVM_EVENT_WRITE 2
#define UVM_EVENT_UPDATE 3
#define UVM_EVENT_CALL 4
#define UVM_EVENT_RETURN 5
#define UVM_EVENT_START 6
#define UVM_EVENT_LOCKED 0x80           /* beside the kind, in the log: indivisible, */
#define UVM_EVENT_SETTLED 0x40          /* `after` is known, */
#define UVM_EVENT_KERNEL 0x20           /* made by the kernel, for the task's call */

#define UVM_WORD_FOUND 0                /* in this execution; active from the next, */
#define UVM_WORD_ACTIVE 1
#define UVM_WORD_IGNORED 2              /* or not: a library's own affair */

/* Instructions: how one is run. */
#define UVM_INSN_COPY 0 /* a copy of it out of line, gs-relative */
#define UVM_INSN_PUSH 1 /* of a register, */
#define UVM_INSN_PUSH_IMM 2
#define UVM_INSN_PUSH_MEM 3
#define UVM_INSN_POP 4
#define UVM_INSN_CALL 5 /* to the address in imm, */
#define UVM_INSN_CALL_REG 6
#define UVM_INSN_CALL_MEM 7
#define UVM_INSN_RET 8
#define UVM_INSN_LEAVE 9
#define UVM_INSN_MOVS 10 /* string instructions, an element at a time */
#define UVM_INSN_STOS 11
#define UVM_INSN_LODS 12
#define UVM_INSN_CMPS 13
#define UVM_INSN_SCAS 14
#define UVM_INSN_STEP 15 /* single-stepped, its pages open meanwhile */
#define UVM_INSN_REFUSED 16

#define UVM_INSN_LOCKED 1 /* flags: indivisible, */
#define UVM_INSN_CHOICE 2 /* may be a choice point, */
#define UVM_INSN_REPE 4 /* rep or repe, */
#define UVM_INSN_REPNE 8
#define UVM_INSN_FS 16 /* segments */
#define UVM_INSN_GS 32
#define UVM_INSN_USER 64                 /* no code of a library */
#define UVM_INSN_BIT 128                 /* bt and kin: register `reg` says how far the bit is */

#define UVM_RACE_PAGES 32768 /* sizes of the tables: powers of two */
#define UVM_RACE_WORDS 131072
#define UVM_RACE_ACTIVE 65536
#define UVM_RACE_INSNS 65536
#define UVM_RACE_EVENTS 65536
#define UVM_RACE_CODE_BYTES 64 /* out-of-line code an instruction */
#define UVM_RACE_DROPS 28
#define UVM_RACE_MAPPINGS 127
#define UVM_RACE_SLOTS 256 /* stubs a controlled machine may have */

struct uvm_race_insn {
    uint64_t ip; /* 0: empty */
    uint8_t bytes[16]; /* as it stood in the guest when decoded */
    uint8_t length, kind, access, flags; /* access: 1 reads, 2 writes, 3 both */
    uint8_t base, index, scale, reg; /* register numbers, 16: none */
    uint32_t size; /* bytes accessed */
    uint32_t number; /* its out-of-line code; 0: not installed */
    int64_t disp; /* also the absolute address, ip-relative ones included */
    int64_t imm;
};

struct uvm_race_word { /* by physical word: who has touched it, this execution */
    uint64_t key; /* physmem offset / 8; 0: empty */
    uint64_t addr; /* as the task that touched it last knew it */
    uint32_t execution;
    uint16_t task;
    uint8_t seen; /* UVM_EVENT_READ, WRITE, 4: by two tasks, 8: by code that counts */
    uint8_t pad;
};

struct uvm_race_active { /* by guest-virtual word */
    uint64_t key;        /* addr / 8; 0: empty */
    uint32_t active;     /* UVM_WORD_* */
    uint32_t user;       /* touched by code that is no library's */
    uint32_t execution;
    uint32_t pad;
    uint64_t hash; /* of who touched it, in order, in this execution */
};

struct uvm_race_event {
    uint64_t ip, addr;
    uint64_t value, after; /* what stood there before, and after it */
    uint32_t step;
    uint16_t task;
    uint8_t kind; /* UVM_EVENT_*, of an access with flags */
    uint8_t size; /* bytes, at most 255 */
};

struct uvm_race_ring { /* accesses that a task has made lately */
    uint32_t repeats; /* in a row that were in here already, unchanged */
    uint32_t next;
    uint64_t recent[16];
};

struct uvm_race_slot { /* one stub's */
    uint64_t ip; /* of the instruction under way, if passed or loaded */
    uint64_t gs; /* the guest's own */
    uint64_t target; /* a divided update: where it will be stored, */
    uint32_t target_size;
    uint16_t task;
    uint8_t passed; /* choice points of that instruction already passed */
    uint8_t loaded; /* buffer holds what it has read */
    struct uvm_race_ring events; /* at choice points, */
    struct uvm_race_ring others; /* and elsewhere on listed pages */
    uint64_t stepped[2]; /* pages open for a single step */
    uint8_t *event_at; /* of the latest event, whose `after` is still to be read: where, */
    uint32_t event;    /* and its number + 1; 0: none */
    uint32_t event_size;
    uint32_t drop_count;
    uint16_t forked;   /* in this execution: who called fork, + 1; 0: it shares its memory */
    uint16_t handling; /* signal handlers that it is in */
    uint32_t kicked;   /* UVM_SIG_KICK has come while its stub stood in the shim */
    uint32_t pad;
    uint64_t drops[UVM_RACE_DROPS]; /* pages others have taken from this task's Tlb */
    uint8_t buffer[64];
};

struct uvm_race_mapping { /* what a stub's Tlb may hold */
    uint64_t addr;
    uint64_t offset; /* in physmem, with protection in the low bits */
    uint64_t length;
};

struct uvm_race_tlb { /* one stub's: kept from one task and execution to the next */
    uint32_t count;   /* of mappings below; more than there is room for: unknown */
    uint32_t check;   /* before guest code runs: drop what the page tables do not say now */
    struct uvm_race_mapping mappings[UVM_RACE_MAPPINGS];
};

struct uvm_race {
    uint32_t mode;
    uint32_t execution;
    uint64_t step; /* choice points passed */
    uint64_t ask_at; /* the first one that the kernel is asked at */
    uint64_t hash; /* of all events in order */
    uint64_t order; /* of the order of events word by word: an interleaving */
    uint32_t events; /* in the log */
    uint32_t lost; /* that had no room there */
    uint32_t spin_limit; /* repeats that make a spin; 0: none do */
    uint32_t full; /* a table was full */
    uint32_t greedy; /* slot; for so many accesses: */
    uint32_t patience;
    uint32_t found; /* UVM_RACE_FOUND may still be asked so often */
    uint32_t actor; /* slot + 1 of the task that the kernel works for; 0: nobody's accesses, */
    uint32_t contexts; /* there are handlers of signals or forked processes */
    uint32_t page_count, active_count, insn_count, code_count;
    uint64_t actor_ip; /* and where that called it */
    uint64_t changes; /* accesses to active words that were no repetition, or left another value */
    uint64_t watched; /* statistics: accesses run here, */
    uint64_t copied, emulated, stepped; /* how, */
    uint64_t taken, shared; /* pages first touched, pages found shared */
    uint64_t data_offset; /* of the data zone in physmem */
    uint64_t owner_at, pages_at, words_at, active_at, insns_at, events_at, slots_at, tlbs_at,
        code_at;
};

/* END CFFI */

#endif
