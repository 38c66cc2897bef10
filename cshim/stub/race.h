/*
 * race.h - what trap.c and mmu.c know of race.c.
 */
#ifndef UVM_STUB_RACE_H
#define UVM_STUB_RACE_H

#include "shim.h"
#include "uvm_race_table.h"

#define RACE ((struct uvm_race *)UVM_RACE_BASE)
#define RACE_SLOT ((struct uvm_race_slot *)(UVM_RACE_BASE + RACE->slots_at) + MAILBOX->slot)

/* Is this a controlled machine's stub? */
static inline int race_on(void) {
    return config.race_size != 0;
}

/* An access or instruction fetch at addr has faulted.  1: done or mapped, go
 * on; 0: the kernel's to resolve.  Does not return if the kernel is asked. */
HIDDEN int race_fault(uint64_t addr, uint64_t error, void *context);
/* SIGTRAP: 1 if it was the end of something begun here. */
HIDDEN int race_step(void *context);
HIDDEN void race_mapped(uint64_t addr, uint64_t length, uint64_t offset, int prot);
HIDDEN void race_dropped_all(void);       /* what the Tlb may hold */
HIDDEN void race_check_tlb(void);         /* it may be of another time: keep what is still true */
HIDDEN void race_drops(void);             /* let go of pages that others have taken */
HIDDEN void race_settle(void);            /* note what the latest event has left */
HIDDEN void race_restore_ip(void *context); /* out of our copy, back to the guest's own code */

#endif
