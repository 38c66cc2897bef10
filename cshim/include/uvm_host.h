/*
 * uvm_host.h - the C library the Python kernel calls through cffi.
 *
 * Python decides, C obeys: nothing here chooses, sleeps or keeps state of its
 * own.  What the allocator and the page tables know lies in physmem, so that a
 * copy of the file is a copy of their state.  No function here validates a
 * `struct physmem *` that Python made, but every pfn and entry read *from*
 * physmem is checked against its size before use.
 */
#ifndef UVM_HOST_H
#define UVM_HOST_H

#include "uvm_abi.h"
#include "uvm_race.h"

/* BEGIN CFFI */

#define UVM_ZONE_PT 0                   /* page tables: never guest-writable */
#define UVM_ZONE_DATA 1
#define UVM_ZONES 2
#define UVM_MAX_ORDER 10                /* largest run handed out: 2^10 frames */

struct uvm_physmem {                    /* this process's view of one memory file */
    uint8_t *base;
    uint64_t size;                      /* bytes mapped */
    struct uvm_race *race;              /* a controlled machine's: sees all below that copies */
};

/* ---- frames.c: buddy allocator, one struct page per frame, all in physmem */

/* Formats header, mem_map and zones of a fresh (zero) file.
 * Layout: slots bytes at slot_offset ... are computed here.  0 or -ENOMEM. */
int uvm_physmem_format(struct uvm_physmem *pm, uint64_t data_bytes, uint32_t nslots);
uint64_t uvm_physmem_size(uint64_t data_bytes, uint32_t nslots); /* file size needed */
uint64_t uvm_slot_offset(struct uvm_physmem *pm);   /* byte offset of slot 0 */
uint32_t uvm_slot_count(struct uvm_physmem *pm);
uint64_t uvm_data_offset(struct uvm_physmem *pm);   /* byte offset of the data zone */

/* A run of exactly 2^order contiguous frames, each with reference count 1,
 * each freed on its own later (buddies merge again).  Contents undefined.
 * Answers the first pfn, aligned to its order, or 0 if there is none.  Freed
 * frames go first, the latest of the smallest order that fits, then virgin ones
 * by rising address: runs stay together and a file copy stays small. */
uint32_t uvm_frame_alloc(struct uvm_physmem *pm, uint32_t zone, uint32_t order);
void uvm_frame_get(struct uvm_physmem *pm, uint32_t pfn);
/* Answers the count that is left; at 0 it is free; UINT32_MAX: was not live. */
uint32_t uvm_frame_put(struct uvm_physmem *pm, uint32_t pfn);
uint32_t uvm_frame_refs(struct uvm_physmem *pm, uint32_t pfn);
void uvm_frames_put(struct uvm_physmem *pm, const uint32_t *pfns, uint32_t n);
uint64_t uvm_frames_free(struct uvm_physmem *pm, uint32_t zone);   /* frames free */
uint64_t uvm_frames_total(struct uvm_physmem *pm, uint32_t zone);
int uvm_frames_check(struct uvm_physmem *pm); /* 0 if free lists, counts and buddies agree */
void uvm_frame_zero(struct uvm_physmem *pm, uint32_t pfn, uint32_t n);
void uvm_frame_copy(struct uvm_physmem *pm, uint32_t dst, uint32_t src);

/* ---- pgtable.c: four levels in the x86-64 layout; leaf entries hold references */

uint32_t uvm_pgd_new(struct uvm_physmem *pm);                    /* 0 if no memory */
/* All tables; zap first.  Until then tables stay, even empty ones: shims walk them. */
void uvm_pgd_free(struct uvm_physmem *pm, uint32_t pgd);
uint64_t uvm_pte_get(struct uvm_physmem *pm, uint32_t pgd, uint64_t addr);
/* Replaces; takes over or drops no reference.  0 or -ENOMEM. */
int uvm_pte_set(struct uvm_physmem *pm, uint32_t pgd, uint64_t addr, uint64_t pte);
/* Enter n pages from addr -> pfn, pfn+1, ... with the bits given, leaving alone
 * entries already present (their frame of the run: reference dropped when
 * `owned`, else none taken; when not owned a reference is taken for each entry
 * made).  Answers entries made; or, having changed nothing, -ENOMEM, or -EINVAL
 * for frames outside the data zone. */
int uvm_pte_map_run(struct uvm_physmem *pm, uint32_t pgd, uint64_t addr, uint32_t n, uint32_t pfn,
                    uint64_t bits, int owned);
/* Number of leading pages of [addr, addr + n pages) that have no entry (not
 * present and not PROTNONE): the room for a fault-around. */
uint32_t uvm_pte_none_run(struct uvm_physmem *pm, uint32_t pgd, uint64_t addr, uint32_t n);
/* Copy the entries of [start, end) for fork.  cow: entries of both sides lose W
 * and gain COW where they had W, or lack CACHE (a private page that is read-only
 * now may be asked for W later).  Takes references.  Destination bits keep A
 * and D.  With cow, up to *eager dirty private pages are copied at once instead,
 * which leaves the source's entries as they are (*eager is counted down);
 * *shrunk counts source entries that lost a right.  The destination is empty; an
 * entry it has is left alone.  Answers the number of entries copied, or -ENOMEM
 * (partial: caller zaps). */
int64_t uvm_pte_copy(struct uvm_physmem *pm, uint32_t dst, uint32_t src, uint64_t start,
                     uint64_t end, int cow, uint32_t *eager, uint32_t *shrunk);
/* Break copy-on-write for the entries of n pages from addr, which lie in one
 * private writable area: copies in a row where there is a run.  Answers how many
 * are writable now that were not. */
int uvm_pte_unshare(struct uvm_physmem *pm, uint32_t pgd, uint64_t addr, uint32_t n);
/* Clear the entries of [start, end) until max_freed frames have fallen to zero
 * references: those pfns go to freed (still reserved, count 0: give them back
 * with uvm_frames_release once every Tlb has let go).  *next is where it
 * stopped: the first entry for which freed had no room, or end when done.
 * Answers the number put into freed; *cleared counts entries. */
uint32_t uvm_pte_zap(struct uvm_physmem *pm, uint32_t pgd, uint64_t start, uint64_t end,
                     uint32_t *freed, uint32_t max_freed, uint64_t *next, uint64_t *cleared);
/* Frames with count 0 become free. */
void uvm_frames_release(struct uvm_physmem *pm, const uint32_t *pfns, uint32_t n);
/* New permission for the entries of [start, end).  prot: PROT_READ 1, WRITE 2,
 * EXEC 4; 0 turns P into PROTNONE.  An entry gains W only when may_write is
 * set, COW is clear, and CACHE is clear unless shared is set; else it keeps
 * COW.  Answers entries whose rights shrank. */
int64_t uvm_pte_protect(struct uvm_physmem *pm, uint32_t pgd, uint64_t start, uint64_t end,
                        uint32_t prot, int may_write, int shared);
/* Move entries (mremap): [src, src+len) -> dst, both page-aligned; the
 * destination is empty.  Answers entries moved, or -ENOMEM (none moved). */
int64_t uvm_pte_move(struct uvm_physmem *pm, uint32_t pgd, uint64_t src, uint64_t dst,
                     uint64_t len);
/* Pages with an entry in [start, end) (resident set). */
uint64_t uvm_pte_count(struct uvm_physmem *pm, uint32_t pgd, uint64_t start, uint64_t end);

/* ---- uaccess.c: copies between kernel buffers and guest memory */

/* Copy as far as entries allow (U and P; W for writing; A, and D for writing,
 * are set as the processor would).  Never past UVM_TASK_SIZE.  Answers bytes
 * copied: less than n means the page at addr + answer faults. */
uint64_t uvm_copy_from_user(struct uvm_physmem *pm, uint32_t pgd, void *dst, uint64_t addr,
                            uint64_t n);
uint64_t uvm_copy_to_user(struct uvm_physmem *pm, uint32_t pgd, uint64_t addr, const void *src,
                          uint64_t n);
uint64_t uvm_clear_user(struct uvm_physmem *pm, uint32_t pgd, uint64_t addr, uint64_t n);
/* The same copies, but no accesses of any task's: pm->race does not see them. */
uint64_t uvm_peek_user(struct uvm_physmem *pm, uint32_t pgd, void *dst, uint64_t addr, uint64_t n);
uint64_t uvm_poke_user(struct uvm_physmem *pm, uint32_t pgd, uint64_t addr, const void *src,
                       uint64_t n);
/* Bytes up to and including the NUL, copied to dst (at most max).  *found says
 * whether the NUL was seen; if not and the answer < max, the next byte faults. */
uint64_t uvm_strncpy_from_user(struct uvm_physmem *pm, uint32_t pgd, void *dst, uint64_t addr,
                               uint64_t max, int *found);
/* Atomic 32-bit operations on an aligned word of guest memory (futex); 0, or
 * -EFAULT where it is not mapped so, or unaligned.  cmpxchg: *expected becomes
 * what was there; the exchange took place if it is unchanged. */
int uvm_user_load32(struct uvm_physmem *pm, uint32_t pgd, uint64_t addr, uint32_t *value);
int uvm_user_store32(struct uvm_physmem *pm, uint32_t pgd, uint64_t addr, uint32_t value);
int uvm_user_cmpxchg32(struct uvm_physmem *pm, uint32_t pgd, uint64_t addr, uint32_t *expected,
                       uint32_t desired);
/* Physmem byte offset of a readable (write: writable) guest address, or 0
 * (futex keys, tests); A, and D for writing, are set. */
uint64_t uvm_user_phys(struct uvm_physmem *pm, uint32_t pgd, uint64_t addr, int write);

/* ---- race.c: a controlled machine's memory and tables */

/* `ranges`: n pairs (offset, bytes).  Copy them out to `saved` one after the
 * other, or back. */
void uvm_copy_ranges(struct uvm_physmem *pm, const uint64_t *ranges, uint32_t n, uint8_t *saved,
                     int restore);
/* A new execution: nothing passed, nobody owns a page.  frames: of the data zone. */
void uvm_race_begin(struct uvm_race *race, uint32_t mode, uint64_t frames);
/* List exactly the pages that hold active words. */
void uvm_race_relist(struct uvm_race *race);
/* Words found since: their keys (addr / 8), and whether user code touches them; at most
 * max.  Answers how many. */
uint32_t uvm_race_found(struct uvm_race *race, uint64_t *keys, uint8_t *user, uint32_t max);
int uvm_race_set_word(struct uvm_race *race, uint64_t key, uint32_t state); /* 0; -1: no room */
int uvm_race_add_insn(struct uvm_race *race, const struct uvm_race_insn *insn); /* replaces */

/* ---- launch.c: starting the nursery */

/* Run the nursery's image in a new process that is nobody's child here: fd 3
 * physmem, fd 4 socket, fd 5 a pidfd of this process.  Touches no signal
 * disposition, leaves no zombie.  0 or a negative errno. */
int uvm_nursery_launch(int physmem_fd, int socket_fd);
uint64_t uvm_stub_image(const uint8_t **image);     /* the executable this library carries */

/* ---- notify.c: our one signal, and stubs */

int uvm_notify_open(void); /* signalfd for UVM_SIG_NOTIFY of this thread */
int uvm_notify_block(int block); /* this thread; answers whether it was */
int uvm_notify_drain(int fd, uint64_t *values, int max); /* values read; 0: none */
int uvm_notify_wait(uint64_t *value); /* blocks for one, without the signalfd; 0 or -errno */
int uvm_timer_open(uint32_t epoch); /* timer id, or a negative errno */
/* CLOCK_MONOTONIC; a deadline of 0 disarms. */
int uvm_timer_set(int timer, uint64_t deadline_ns, uint64_t interval_ns);
void uvm_timer_close(int timer);

/* Give the mailbox at `mailbox` back to its stub and wake it.  host_pid is what
 * the kernel noted at birth: what stands in the mailbox the guest may have
 * written. */
void uvm_stub_resume(uint8_t *mailbox, int host_pid, uint32_t transport);
/* Ask a running stub for a preemption and/or an acknowledgement. 0 or -errno. */
int uvm_stub_kick(uint8_t *mailbox, int host_pid, int preempt, int want_ack);
int uvm_stub_kill(int host_pid);
/* List a range the stub must drop before it next runs guest code. */
void uvm_stub_shootdown(uint8_t *mailbox, uint64_t addr, uint64_t len);
void uvm_stub_shootdown_all(uint8_t *mailbox);
int uvm_gettid(void);
int uvm_getcpu(void);                               /* where this thread runs right now */
int uvm_has_fsgsbase(void);
int uvm_sud_available(void); /* 1, 0 */

/* END CFFI */

#endif
