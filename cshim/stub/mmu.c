/*
 * mmu.c - the software page walker.  Linux's counterpart is hardware.
 *
 * The stub's own host mappings below UVM_TASK_SIZE are a Tlb: a cache of the
 * page tables in physmem, filled here on SIGSEGV, emptied by shootdowns that
 * the kernel lists in the mailbox.  It may be emptied at any moment.
 *
 * Invariants:
 * - page tables are only read, through the read-only window;
 * - an entry is mapped only with its accessed bit set, and writable only with
 *   its dirty bit set: first use and first write reach the kernel;
 * - a walk that races with a change of the tables may map a stale page, but
 *   then a shootdown is pending (its kick is blocked while we are in here) and
 *   is done before the next guest instruction.
 */
#include "hostcall.h"
#include "race.h"
#include "shim.h"

#define ENTRY_KEY (UVM_PTE_P | UVM_PTE_W | UVM_PTE_U | UVM_PTE_A | UVM_PTE_D | UVM_PTE_NX)
#define GUEST_BYTES (UVM_TASK_SIZE - UVM_MMAP_MIN_ADDR)
#define HOST_ENOMEM (-12)
#define MAP_SHARED_FIXED 0x11

/* Empty the whole Tlb. */
void tlb_drop_all(void) {
    hostcall(__NR_munmap, UVM_MMAP_MIN_ADDR, GUEST_BYTES);
    MAILBOX->drops++;
    if (race_on())
        race_dropped_all();
}

static volatile const uint64_t *table_at(uint64_t offset) {
    return (volatile const uint64_t *)(UVM_WINDOW + offset);
}

/* Pre: addr is what the host reported, error the processor's error code.
 * Post: 1 and *walk says where the entry of addr stands, which allows the
 * access; or 0. */
int tlb_walk(uint64_t addr, uint64_t error, struct walk *walk) {
    if (addr >= UVM_TASK_SIZE || addr < UVM_MMAP_MIN_ADDR)
        return 0;
    uint64_t table = MAILBOX->pgd;
    if (table >= config.physmem_size)
        return 0;
    for (int shift = 39; shift > UVM_PAGE_SHIFT; shift -= 9) {
        uint64_t entry = table_at(table)[addr >> shift & 511];
        if (!(entry & UVM_PTE_P))
            return 0;
        table = entry & UVM_PTE_ADDR;
        if (table >= config.physmem_size)
            return 0;
    }
    walk->leaf = table_at(table);
    walk->index = addr >> UVM_PAGE_SHIFT & 511;
    uint64_t entry = walk->entry = walk->leaf[walk->index];
    if (!(entry & UVM_PTE_P) || !(entry & UVM_PTE_U) || !(entry & UVM_PTE_A))
        return 0;
    if ((error & UVM_PF_WRITE) && !((entry & UVM_PTE_W) && (entry & UVM_PTE_D)))
        return 0;
    if ((error & UVM_PF_INSTR) && (entry & UVM_PTE_NX))
        return 0;
    return (entry & UVM_PTE_ADDR) < config.physmem_size;
}

/* May the page `delta` pages from the walk's be mapped along with it? */
static int goes_along(const struct walk *walk, uint64_t addr, int at) {
    uint64_t e = walk->leaf[at], delta = (uint64_t)(int64_t)(at - walk->index);
    if ((e & ENTRY_KEY) != (walk->entry & ENTRY_KEY) ||
        (e & UVM_PTE_ADDR) != (walk->entry & UVM_PTE_ADDR) + (delta << UVM_PAGE_SHIFT))
        return 0;
    return !race_on() || !uvm_race_is_listed(RACE, (addr >> UVM_PAGE_SHIFT) + delta);
}

/* Map what the walk has found, as its entry allows: with contiguous neighbours
 * in the same table, or alone.  1 if the host did. */
int tlb_map(uint64_t addr, const struct walk *walk, int alone) {
    uint64_t entry = walk->entry, frame = entry & UVM_PTE_ADDR;
    int index = walk->index, low = index, high = index + 1;
    while (!alone && low > 0 && goes_along(walk, addr, low - 1))
        low--;
    while (!alone && high < 512 && goes_along(walk, addr, high))
        high++;
    uint64_t page = addr & ~(uint64_t)(UVM_PAGE_SIZE - 1);
    uint64_t start = page - ((uint64_t)(index - low) << UVM_PAGE_SHIFT);
    if (start < UVM_MMAP_MIN_ADDR) {
        low += (UVM_MMAP_MIN_ADDR - start) >> UVM_PAGE_SHIFT;
        start = UVM_MMAP_MIN_ADDR;
    }
    uint64_t offset = frame - ((uint64_t)(index - low) << UVM_PAGE_SHIFT);
    uint64_t length = (uint64_t)(high - low) << UVM_PAGE_SHIFT;
    int writable = (entry & UVM_PTE_W) && (entry & UVM_PTE_D);
    int prot = 1 | (writable ? 2 : 0) | ((entry & UVM_PTE_NX) ? 0 : 4);
    long result = hostcall(__NR_mmap, start, length, prot, MAP_SHARED_FIXED, PHYSMEM_FD, offset);
    if (result == HOST_ENOMEM) { /* the host's limit on mappings */
        MAILBOX->enomem++;
        tlb_drop_all();
        result = hostcall(__NR_mmap, start, length, prot, MAP_SHARED_FIXED, PHYSMEM_FD, offset);
    }
    if (result != (long)start)
        return 0;
    if (race_on())
        race_mapped(start, length, offset, prot);
    MAILBOX->refills++;
    MAILBOX->refill_pages += high - low;
    return 1;
}

/* As tlb_walk; post: 1 and the page is mapped, or 0 and nothing has changed. */
int tlb_fill(uint64_t addr, uint64_t error) {
    struct walk walk;
    return tlb_walk(addr, error, &walk) && tlb_map(addr, &walk, 0);
}

/* Post: every shootdown listed before the call is done, and sd_tail says so. */
void tlb_shootdown(void) {
    struct uvm_mailbox *m = MAILBOX;
    uint32_t head = __atomic_load_n(&m->sd_head, __ATOMIC_ACQUIRE), tail = m->sd_tail;
    if (head == tail)
        return;
    if (m->sd_all || head - tail > UVM_SHOOTDOWN_RING) {
        m->sd_all = 0;
        tlb_drop_all();
    } else {
        for (; tail != head; tail++) {
            const struct uvm_range *r = &m->sd[tail % UVM_SHOOTDOWN_RING];
            m->drops++;
            if (hostcall(__NR_munmap, r->addr, r->len)) { /* splitting hit the limit */
                tlb_drop_all();
                break;
            }
        }
    }
    __atomic_store_n(&m->sd_tail, head, __ATOMIC_RELEASE);
}

/* Map what the kernel has just resolved, in the same breath. */
void tlb_prefill(void) {
    struct uvm_mailbox *m = MAILBOX;
    uint32_t n = m->prefill;
    if (!n)
        return;
    m->prefill = 0;
    if (race_on()) /* whose page it is, the access itself decides */
        return;
    for (uint32_t i = 0; i < n && i < UVM_PREFILL_RING; i++) {
        uint64_t p = m->prefill_addr[i];
        tlb_fill(p & ~(uint64_t)(UVM_PAGE_SIZE - 1), p & (UVM_PAGE_SIZE - 1));
    }
}
