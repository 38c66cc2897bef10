/*
 * uaccess.c - copies between kernel buffers and guest memory.
 *
 * Counterpart in Linux: arch/x86/lib/usercopy_64.c, strncpy_from_user.c and
 * futex_atomic_cmpxchg_inatomic().
 *
 * Invariants
 *   - an access is judged as the processor would judge the guest's own: P and
 *     U, W for writing; it then sets A, and D when it writes.  But a page
 *     cache's frame with D clear is a fault to a write, so that the kernel marks
 *     the page dirty.  What an access may not do is a fault, reported by how far the copy came, never resolved here;
 *   - guest memory changes under our hands, so every byte is read once and
 *     judged in the copy;
 *   - nothing at or above UVM_TASK_SIZE and no frame outside the data zone is
 *     ever touched;
 *   - in a controlled machine (pm->race) these copies are accesses of the task
 *     that the kernel works for; but for peek and poke, which are the kernel's own.
 */
#include <errno.h>
#include <string.h>

#include "internal.h"

/* Strings are mostly short: look for the NUL in steps, not in a whole page. */
#define STRING_STEP 256

/* Post: the byte at addr in physmem, with A (and D) set, or NULL
 * if the access faults. */
static uint8_t *user_byte(const struct view *v, uint32_t pgd, uint64_t addr, int write) {
    uint64_t need = UVM_PTE_P | UVM_PTE_U | (write ? UVM_PTE_W : 0);
    uint64_t mark = UVM_PTE_A | (write ? UVM_PTE_D : 0);
    uint64_t *slot = uvm_pte_find(v, pgd, addr);
    if (!slot)
        return NULL;
    uint64_t pte = *slot;
    if (write && (pte & UVM_PTE_CACHE))
        need |= UVM_PTE_D; /* a page cache must hear of the first write */
    if ((pte & need) != need || !frame_in(v->data, pte_pfn(pte)))
        return NULL;
    if ((pte & mark) != mark)
        pte_write(slot, pte | mark);
    return frame_address(v, (uint32_t)pte_pfn(pte)) + (addr & (UVM_PAGE_SIZE - 1));
}

/* Bytes from addr to the end of its page, at most n. */
static inline uint64_t in_page(uint64_t addr, uint64_t n) {
    uint64_t rest = UVM_PAGE_SIZE - (addr & (UVM_PAGE_SIZE - 1));
    return n < rest ? n : rest;
}

/* Post: the first `answer` bytes at addr are in dst; byte `answer`, if < n, faults. */
static uint64_t copy_from(struct uvm_physmem *pm, struct uvm_race *race, uint32_t pgd, void *dst,
                          uint64_t addr, uint64_t n) {
    struct view v = view_of(pm);
    uint64_t done = 0;
    while (done < n) {
        uint64_t chunk = in_page(addr + done, n - done);
        const uint8_t *from = user_byte(&v, pgd, addr + done, 0);
        if (!from)
            break;
        if (race)
            race_accesses(race, &v, pgd, addr + done, from, chunk, UVM_EVENT_READ);
        memcpy((uint8_t *)dst + done, from, chunk);
        done += chunk;
    }
    return done;
}

/* Post: the first `answer` bytes of src (zeros, if that is NULL) are at addr; byte
 * `answer`, if < n, faults. */
static uint64_t copy_to(struct uvm_physmem *pm, struct uvm_race *race, uint32_t pgd, uint64_t addr,
                        const void *src, uint64_t n) {
    struct view v = view_of(pm);
    uint64_t done = 0;
    while (done < n) {
        uint64_t chunk = in_page(addr + done, n - done);
        uint8_t *to = user_byte(&v, pgd, addr + done, 1);
        if (!to)
            break;
        uint32_t first = 0;
        if (race)
            first = race_accesses(race, &v, pgd, addr + done, to, chunk, UVM_EVENT_WRITE);
        if (src)
            memcpy(to, (const uint8_t *)src + done, chunk);
        else
            memset(to, 0, chunk);
        if (race)
            race_accessed(race, first, addr + done, to);
        done += chunk;
    }
    return done;
}

uint64_t uvm_copy_from_user(struct uvm_physmem *pm, uint32_t pgd, void *dst, uint64_t addr,
                            uint64_t n) {
    return copy_from(pm, race_of(pm), pgd, dst, addr, n);
}

uint64_t uvm_copy_to_user(struct uvm_physmem *pm, uint32_t pgd, uint64_t addr, const void *src,
                          uint64_t n) {
    return copy_to(pm, race_of(pm), pgd, addr, src, n);
}

uint64_t uvm_clear_user(struct uvm_physmem *pm, uint32_t pgd, uint64_t addr, uint64_t n) {
    return copy_to(pm, race_of(pm), pgd, addr, NULL, n);
}

uint64_t uvm_peek_user(struct uvm_physmem *pm, uint32_t pgd, void *dst, uint64_t addr, uint64_t n) {
    return copy_from(pm, NULL, pgd, dst, addr, n);
}

uint64_t uvm_poke_user(struct uvm_physmem *pm, uint32_t pgd, uint64_t addr, const void *src,
                       uint64_t n) {
    return copy_to(pm, NULL, pgd, addr, src, n);
}

/* Post: the answer counts the bytes of dst that are the guest's, up to and
 * with the first NUL (*found = 1), else up to max or the fault (*found = 0).
 * dst beyond the answer is undefined. */
uint64_t uvm_strncpy_from_user(struct uvm_physmem *pm, uint32_t pgd, void *dst, uint64_t addr,
                               uint64_t max, int *found) {
    struct view v = view_of(pm);
    struct uvm_race *race = race_of(pm);
    uint64_t done = 0;
    *found = 0;
    while (done < max) {
        uint8_t *to = (uint8_t *)dst + done;
        uint64_t chunk = in_page(addr + done, max - done);
        const uint8_t *from = user_byte(&v, pgd, addr + done, 0);
        if (!from)
            break;
        if (chunk > STRING_STEP)
            chunk = STRING_STEP;
        memcpy(to, from, chunk);
        const uint8_t *nul = memchr(to, 0, chunk);
        if (nul)
            chunk = (uint64_t)(nul - to) + 1;
        if (race)
            race_accesses(race, &v, pgd, addr + done, from, chunk, UVM_EVENT_READ);
        done += chunk;
        if (nul) {
            *found = 1;
            return done;
        }
    }
    return done;
}

/* ---- futex words */

/* Post: the aligned word at addr, or NULL if unaligned or the access faults. */
static uint32_t *user_word(struct uvm_physmem *pm, uint32_t pgd, uint64_t addr, int write) {
    struct view v = view_of(pm);
    if (addr % sizeof(uint32_t) != 0)
        return NULL;
    return (uint32_t *)(void *)user_byte(&v, pgd, addr, write);
}

/* Post: 0 and *value is the word; or -EFAULT. */
int uvm_user_load32(struct uvm_physmem *pm, uint32_t pgd, uint64_t addr, uint32_t *value) {
    uint32_t *word = user_word(pm, pgd, addr, 0);
    if (!word)
        return -EFAULT;
    *value = __atomic_load_n(word, __ATOMIC_SEQ_CST);
    return 0;
}

/* Post: 0 and the word is value; or -EFAULT. */
int uvm_user_store32(struct uvm_physmem *pm, uint32_t pgd, uint64_t addr, uint32_t value) {
    uint32_t *word = user_word(pm, pgd, addr, 1);
    if (!word)
        return -EFAULT;
    __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
    return 0;
}

/* Post: 0 and *expected is the word as it was; if that is what was expected,
 * the word is desired.  Or -EFAULT. */
int uvm_user_cmpxchg32(struct uvm_physmem *pm, uint32_t pgd, uint64_t addr, uint32_t *expected,
                       uint32_t desired) {
    uint32_t *word = user_word(pm, pgd, addr, 1);
    if (!word)
        return -EFAULT;
    __atomic_compare_exchange_n(word, expected, desired, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    return 0;
}

/* Post: physmem offset of the byte at addr, A (and D when write) set as an
 * access would; 0 if that access faults. */
uint64_t uvm_user_phys(struct uvm_physmem *pm, uint32_t pgd, uint64_t addr, int write) {
    struct view v = view_of(pm);
    const uint8_t *byte = user_byte(&v, pgd, addr, write);
    return byte ? (uint64_t)(byte - v.base) : 0;
}
