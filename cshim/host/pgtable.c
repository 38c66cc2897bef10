/*
 * pgtable.c - page tables in physmem, four levels in the x86-64 layout.
 *
 * Counterpart in Linux: mm/memory.c (zap_pte_range, copy_page_range),
 * mm/mprotect.c and mm/mremap.c, the parts that walk.
 *
 * Words: a *table* is a frame of the PT zone, a *leaf table* one whose entries
 * map pages; an entry is *held* when it has P or PROTNONE, and then owns one
 * reference to its frame.  Anything else is no entry.
 *
 * Invariants
 *   - shims walk these tables while they change.  So an entry is written in
 *     one store, a table is zero before it is linked, and a linked table stays
 *     until uvm_pgd_free: one that was freed as it emptied could be in the
 *     hands of a sibling's walk, which would map another's frames;
 *   - a frame number is followed only into its zone: tables into the PT zone,
 *     leaves into the data zone.  A leaf elsewhere is held but refers to no
 *     frame: it is cleared, copied and counted, never counted on nor touched;
 *   - nothing at or above UVM_TASK_SIZE is ever entered;
 *   - functions that need tables take them all before they change an entry,
 *     except uvm_pte_copy, which says so.
 *
 * A bulk operation goes from leaf table to leaf table (next_leaf), skipping
 * absent subtrees at their own level, and loops over entries inside one.
 */
#include <errno.h>
#include <string.h>

#include "internal.h"

#define TABLE_BITS 9
#define TABLE_ENTRIES (1u << TABLE_BITS)
#define LEVELS 4 /* level 0 is the leaf */
#define HELD (UVM_PTE_P | UVM_PTE_PROTNONE)
#define TABLE_LINK (UVM_PTE_P | UVM_PTE_W | UVM_PTE_U | UVM_PTE_A)

#define PROT_R 1u
#define PROT_W 2u
#define PROT_X 4u

/* Bytes that one entry of a level spans. */
static inline uint64_t span(unsigned level) {
    return 1ull << (UVM_PAGE_SHIFT + level * TABLE_BITS);
}

static inline unsigned index_at(uint64_t addr, unsigned level) {
    return addr >> (UVM_PAGE_SHIFT + level * TABLE_BITS) & (TABLE_ENTRIES - 1);
}

/* First address after addr at which an entry of that level begins. */
static inline uint64_t next_at(uint64_t addr, unsigned level) {
    return (addr | (span(level) - 1)) + 1;
}

static inline uint64_t page_floor(uint64_t addr) {
    return addr & ~(uint64_t)(UVM_PAGE_SIZE - 1);
}

static inline uint64_t clamp_end(uint64_t end) {
    return end < UVM_TASK_SIZE ? end : UVM_TASK_SIZE;
}

/* End of n pages from addr; anything that would wrap is past every limit. */
static inline uint64_t end_of(uint64_t addr, uint64_t n) {
    return addr < UVM_TASK_SIZE ? page_floor(addr) + n * UVM_PAGE_SIZE : UINT64_MAX;
}

static inline int leaf_has_frame(const struct view *v, uint64_t pte) {
    return frame_in(v->data, pte_pfn(pte));
}

/* ---- walking */

/* The table of that frame number, or NULL if it is not in the PT zone. */
static inline uint64_t *table_at(const struct view *v, uint64_t pfn) {
    return frame_in(v->pt, pfn) ? (uint64_t *)frame_address(v, (uint32_t)pfn) : NULL;
}

static inline uint64_t *table_below(const struct view *v, uint64_t link) {
    return link & UVM_PTE_P ? table_at(v, pte_pfn(link)) : NULL;
}

/* Post: the leaf table for addr, or NULL. */
static uint64_t *leaf_find(const struct view *v, uint32_t pgd, uint64_t addr) {
    uint64_t *table = table_at(v, pgd);
    for (unsigned level = LEVELS - 1; level > 0 && table; level--)
        table = table_below(v, table[index_at(addr, level)]);
    return table;
}

/* Post: *addr is the first address >= *addr and < end that has a leaf table,
 * and that table is the answer; or NULL. */
static uint64_t *next_leaf(const struct view *v, uint32_t pgd, uint64_t *addr, uint64_t end) {
    uint64_t *top = table_at(v, pgd);
    uint64_t *table[LEVELS] = {NULL, NULL, NULL, top};
    unsigned level = LEVELS - 1;
    uint64_t a = *addr;
    if (!top)
        return NULL;
    while (a < end) {
        uint64_t *below = table_below(v, table[level][index_at(a, level)]);
        if (below && level == 1) {
            *addr = a;
            return below;
        }
        if (below) {
            table[--level] = below;
            continue;
        }
        a = next_at(a, level);
        while (level < LEVELS - 1 && index_at(a, level) == 0)
            level++;
    }
    return NULL;
}

/* Post: the leaf table for addr, made with all above it if need be; NULL if
 * there is no memory, addr is no guest address, or pgd no table. */
static uint64_t *leaf_make(struct uvm_physmem *pm, const struct view *v, uint32_t pgd,
                           uint64_t addr) {
    uint64_t *table = addr < UVM_TASK_SIZE ? table_at(v, pgd) : NULL;
    for (unsigned level = LEVELS - 1; level > 0 && table; level--) {
        uint64_t *link = &table[index_at(addr, level)];
        uint64_t *below = table_below(v, *link);
        if (!below) {
            uint32_t pfn = uvm_pgd_new(pm);
            if (pfn == 0)
                return NULL;
            below = table_at(v, pfn);
            pte_write(link, (uint64_t)pfn << UVM_PAGE_SHIFT | TABLE_LINK);
        }
        table = below;
    }
    return table;
}

/* Post: the entry for addr, or NULL where there is no table for it. */
uint64_t *uvm_pte_find(const struct view *v, uint32_t pgd, uint64_t addr) {
    uint64_t *leaf = addr < UVM_TASK_SIZE ? leaf_find(v, pgd, addr) : NULL;
    return leaf ? &leaf[index_at(addr, 0)] : NULL;
}

/* The entries of one leaf table that lie in [addr, end): leaf[first..last). */
struct slice {
    unsigned first, last;
    uint64_t next; /* address after the last */
};

static inline struct slice slice_of(uint64_t addr, uint64_t end) {
    uint64_t next = next_at(addr, 1);
    if (next > end)
        next = end;
    unsigned first = index_at(addr, 0);
    return (struct slice){first, first + (unsigned)((next - addr) >> UVM_PAGE_SHIFT), next};
}

/* for each leaf table of [start, end): `leaf` is the table, `s` its slice */
#define FOR_EACH_LEAF(v, pgd, addr, end)                                                           \
    for (uint64_t *leaf; (leaf = next_leaf(v, pgd, &addr, end)) != NULL;)                          \
        for (struct slice s = slice_of(addr, end); addr != s.next; addr = s.next)

/* ---- tables */

/* Post: an empty table, or 0 if there is no memory. */
uint32_t uvm_pgd_new(struct uvm_physmem *pm) {
    uint32_t pfn = uvm_frame_alloc(pm, UVM_ZONE_PT, 0);
    if (pfn != 0)
        uvm_frame_zero(pm, pfn, 1);
    return pfn;
}

static void table_free(struct uvm_physmem *pm, const struct view *v, uint32_t pfn, unsigned level) {
    uint64_t *table = table_at(v, pfn);
    for (unsigned i = 0; level > 0 && i < TABLE_ENTRIES; i++)
        if (table_below(v, table[i]))
            table_free(pm, v, (uint32_t)pte_pfn(table[i]), level - 1);
    uvm_frame_put(pm, pfn);
}

/* Frees all tables.  Pre: no entry is held, no stub uses pgd. */
void uvm_pgd_free(struct uvm_physmem *pm, uint32_t pgd) {
    struct view v = view_of(pm);
    if (table_at(&v, pgd))
        table_free(pm, &v, pgd, LEVELS - 1);
}

/* ---- single entries and runs */

/* Post: the entry as it stands, 0 where there is none. */
uint64_t uvm_pte_get(struct uvm_physmem *pm, uint32_t pgd, uint64_t addr) {
    struct view v = view_of(pm);
    uint64_t *slot = uvm_pte_find(&v, pgd, addr);
    return slot ? *slot : 0;
}

/* Post: 0 and the entry is pte; references are the caller's.  Or -ENOMEM. */
int uvm_pte_set(struct uvm_physmem *pm, uint32_t pgd, uint64_t addr, uint64_t pte) {
    struct view v = view_of(pm);
    uint64_t *slot = uvm_pte_find(&v, pgd, addr);
    if (!slot && pte == 0)
        return 0;
    if (!slot) {
        uint64_t *leaf = leaf_make(pm, &v, pgd, addr);
        if (!leaf)
            return -ENOMEM;
        slot = &leaf[index_at(addr, 0)];
    }
    pte_write(slot, pte);
    return 0;
}

/* Makes the leaf tables for [addr, end).  Post: 0, or -ENOMEM. */
static int leaves_make(struct uvm_physmem *pm, const struct view *v, uint32_t pgd, uint64_t addr,
                       uint64_t end) {
    for (; addr < end; addr = next_at(addr, 1))
        if (!leaf_make(pm, v, pgd, addr))
            return -ENOMEM;
    return 0;
}

/* Pre: the frames are live.  Post: every page of the run has an entry, new
 * ones frame, bits and P; the answer counts those.  Or, with nothing changed
 * but tables, -ENOMEM (no memory, no guest address), -EINVAL (frames outside
 * the data zone). */
int uvm_pte_map_run(struct uvm_physmem *pm, uint32_t pgd, uint64_t addr, uint32_t n, uint32_t pfn,
                    uint64_t bits, int owned) {
    struct view v = view_of(pm);
    uint64_t end = end_of(addr, n);
    if (n == 0)
        return 0;
    if (!frame_in(v.data, pfn) || !frame_in(v.data, (uint64_t)pfn + n - 1))
        return -EINVAL;
    addr = page_floor(addr);
    if (end > UVM_TASK_SIZE || leaves_make(pm, &v, pgd, addr, end) < 0)
        return -ENOMEM;
    int made = 0;
    bits = (bits & ~UVM_PTE_ADDR) | (bits & UVM_PTE_PROTNONE ? 0 : UVM_PTE_P);
    FOR_EACH_LEAF (&v, pgd, addr, end) {
        for (unsigned i = s.first; i < s.last; i++, pfn++) {
            if (leaf[i] & HELD) {
                if (owned)
                    uvm_frame_put(pm, pfn);
                continue;
            }
            if (!owned)
                page_get(&v, pfn);
            pte_write(&leaf[i], (uint64_t)pfn << UVM_PAGE_SHIFT | bits);
            made++;
        }
    }
    return made;
}

/* Post: how many of the n pages from addr have no entry before the first that
 * has one; pages that are no guest addresses are not counted. */
uint32_t uvm_pte_none_run(struct uvm_physmem *pm, uint32_t pgd, uint64_t addr, uint32_t n) {
    struct view v = view_of(pm);
    if (addr >= UVM_TASK_SIZE)
        return 0;
    uint64_t start = page_floor(addr), end = clamp_end(end_of(addr, n));
    addr = start;
    FOR_EACH_LEAF (&v, pgd, addr, end) {
        for (unsigned i = s.first; i < s.last; i++)
            if (leaf[i] & HELD)
                return (uint32_t)((addr - start) >> UVM_PAGE_SHIFT) + i - s.first;
    }
    return (uint32_t)((end - start) >> UVM_PAGE_SHIFT);
}

/* Post: held entries in [start, end). */
uint64_t uvm_pte_count(struct uvm_physmem *pm, uint32_t pgd, uint64_t start, uint64_t end) {
    struct view v = view_of(pm);
    uint64_t addr = page_floor(start), count = 0;
    end = page_floor(clamp_end(end));
    FOR_EACH_LEAF (&v, pgd, addr, end) {
        for (unsigned i = s.first; i < s.last; i++)
            count += (leaf[i] & HELD) != 0;
    }
    return count;
}

/* ---- fork */

/* What both sides of a copy-on-write fork keep of an entry.  A private page
 * gains COW even where it had no W: mprotect() may ask for W later.  Pages of
 * a cache need no mark for that, uvm_pte_protect never gives them W. */
static inline uint64_t pte_share_cow(uint64_t pte) {
    if ((pte & UVM_PTE_W) || !(pte & UVM_PTE_CACHE))
        pte |= UVM_PTE_COW;
    return pte & ~(uint64_t)UVM_PTE_W;
}

/* Frames for copies made ahead of need, handed out in order from one run so that
 * what lies together is mapped together; what is left over goes back. */
struct reserve {
    uint32_t next, left;
};

static uint32_t reserve_take(struct uvm_physmem *pm, struct reserve *r, unsigned order) {
    if (r->left == 0) {
        r->next = uvm_frame_alloc(pm, UVM_ZONE_DATA, order);
        r->left = r->next ? 1u << order : 0;
        if (!r->next && order) { /* no run left: a single one will do */
            r->next = uvm_frame_alloc(pm, UVM_ZONE_DATA, 0);
            r->left = r->next != 0;
        }
    }
    if (r->left == 0)
        return 0;
    r->left--;
    return r->next++;
}

static void reserve_return(struct uvm_physmem *pm, struct reserve *r) {
    while (r->left) {
        r->left--;
        uvm_frame_put(pm, r->next + r->left);
    }
}

#define EAGER_ORDER 3

/* Pre: dst has no entry in [start, end); one that it has is left alone, and
 * not copied.  Post: entries copied; or -ENOMEM with dst filled from start up
 * to the leaf table that could not be made.  Up to *eager dirty private pages
 * are copied at once, which leaves the source's entries as they are; *shrunk
 * counts those that lost a right. */
int64_t uvm_pte_copy(struct uvm_physmem *pm, uint32_t dst, uint32_t src, uint64_t start,
                     uint64_t end, int cow, uint32_t *eager, uint32_t *shrunk) {
    struct view v = view_of(pm);
    uint64_t addr = page_floor(start);
    int64_t copied = 0;
    struct reserve reserve = {0, 0};
    end = page_floor(clamp_end(end));
    FOR_EACH_LEAF (&v, src, addr, end) {
        uint64_t *into = NULL;
        for (unsigned i = s.first; i < s.last; i++) {
            uint64_t pte = leaf[i];
            if (!(pte & HELD))
                continue;
            if (!into && !(into = leaf_make(pm, &v, dst, addr))) {
                reserve_return(pm, &reserve);
                return -ENOMEM;
            }
            if (into[i] & HELD)
                continue;
            copied++;
            uint64_t hot = UVM_PTE_P | UVM_PTE_W | UVM_PTE_D;
            if (cow && *eager && (pte & (hot | UVM_PTE_CACHE)) == hot && leaf_has_frame(&v, pte)) {
                uint32_t own = reserve_take(pm, &reserve, EAGER_ORDER);
                if (own) {
                    --*eager;
                    uvm_frame_copy(pm, own, (uint32_t)pte_pfn(pte));
                    pte_write(&into[i], (pte & ~UVM_PTE_ADDR) | (uint64_t)own << UVM_PAGE_SHIFT);
                    continue;
                }
            }
            uint64_t shared = cow ? pte_share_cow(pte) : pte;
            if (leaf_has_frame(&v, pte))
                page_get(&v, (uint32_t)pte_pfn(pte));
            *shrunk += (pte & ~shared & UVM_PTE_W) != 0;
            if (shared != pte)
                pte_write(&leaf[i], shared);
            pte_write(&into[i], shared);
        }
    }
    reserve_return(pm, &reserve);
    return copied;
}

/* ---- copy-on-write, ahead of need */

/* Pre: [addr, addr + n pages) lies in one private, writable area.  Post: every
 * entry there that a write would copy has been copied (or taken over, where
 * nobody else holds its frame) and is writable and dirty, frames in a row where
 * there is a run; the answer counts them.  It stops where there is no memory. */
int uvm_pte_unshare(struct uvm_physmem *pm, uint32_t pgd, uint64_t addr, uint32_t n) {
    struct view v = view_of(pm);
    uint64_t end = page_floor(clamp_end(end_of(addr, n)));
    struct reserve reserve = {0, 0};
    unsigned order = 0;
    int made = 0;
    while (order < UVM_MAX_ORDER && 1u << order < n)
        order++;
    addr = page_floor(addr);
    FOR_EACH_LEAF (&v, pgd, addr, end) {
        for (unsigned i = s.first; i < s.last; i++) {
            uint64_t pte = leaf[i];
            uint64_t bits = (pte & ~(UVM_PTE_ADDR | UVM_PTE_COW | UVM_PTE_CACHE)) | UVM_PTE_W |
                            UVM_PTE_A | UVM_PTE_D;
            if (!(pte & UVM_PTE_P) || (pte & UVM_PTE_W) || !leaf_has_frame(&v, pte))
                continue;
            uint32_t pfn = (uint32_t)pte_pfn(pte);
            uint32_t own = pfn;
            if ((pte & UVM_PTE_CACHE) || uvm_frame_refs(pm, pfn) != 1) {
                own = reserve_take(pm, &reserve, order);
                if (!own)
                    return made;
                uvm_frame_copy(pm, own, pfn);
            }
            pte_write(&leaf[i], bits | (uint64_t)own << UVM_PAGE_SHIFT);
            if (own != pfn)
                page_drop(&v, pfn);
            made++;
        }
    }
    reserve_return(pm, &reserve);
    return made;
}

/* ---- munmap */

/* Post: entries of [start, *next) are gone, *next is end or the first entry
 * that was left because freed[] was full; freed[] holds frames in limbo. */
uint32_t uvm_pte_zap(struct uvm_physmem *pm, uint32_t pgd, uint64_t start, uint64_t end,
                     uint32_t *freed, uint32_t max_freed, uint64_t *next, uint64_t *cleared) {
    struct view v = view_of(pm);
    uint64_t addr = page_floor(start), stop = page_floor(clamp_end(end));
    uint32_t n = 0;
    *cleared = 0;
    *next = end;
    FOR_EACH_LEAF (&v, pgd, addr, stop) {
        for (unsigned i = s.first; i < s.last; i++) {
            uint64_t pte = leaf[i];
            if (!(pte & HELD))
                continue;
            if (n == max_freed) {
                *next = addr + (uint64_t)(i - s.first) * UVM_PAGE_SIZE;
                return n;
            }
            pte_write(&leaf[i], 0);
            ++*cleared;
            if (leaf_has_frame(&v, pte) && page_drop(&v, (uint32_t)pte_pfn(pte)))
                freed[n++] = (uint32_t)pte_pfn(pte);
        }
    }
    return n;
}

/* ---- mprotect */

/* The entry under a new permission. */
static inline uint64_t pte_protect(uint64_t pte, uint32_t prot, int may_write, int shared) {
    if (prot == 0)
        return (pte & ~(uint64_t)(UVM_PTE_P | UVM_PTE_W)) | UVM_PTE_PROTNONE;
    pte = (pte & ~(uint64_t)(UVM_PTE_PROTNONE | UVM_PTE_W | UVM_PTE_NX)) | UVM_PTE_P;
    if (!(prot & PROT_X))
        pte |= UVM_PTE_NX;
    int private_cache = (pte & UVM_PTE_CACHE) && !shared;
    if ((prot & PROT_W) && may_write && !(pte & UVM_PTE_COW) && !private_cache)
        pte |= UVM_PTE_W;
    return pte;
}

/* What an entry permits, as bits of PROT_*. */
static inline uint32_t pte_rights(uint64_t pte) {
    if (!(pte & UVM_PTE_P))
        return 0;
    return PROT_R | (pte & UVM_PTE_W ? PROT_W : 0) | (pte & UVM_PTE_NX ? 0 : PROT_X);
}

/* Post: every held entry of [start, end) has the new permission; the answer
 * counts those that lost one they had. */
int64_t uvm_pte_protect(struct uvm_physmem *pm, uint32_t pgd, uint64_t start, uint64_t end,
                        uint32_t prot, int may_write, int shared) {
    struct view v = view_of(pm);
    uint64_t addr = page_floor(start);
    int64_t shrank = 0;
    end = page_floor(clamp_end(end));
    FOR_EACH_LEAF (&v, pgd, addr, end) {
        for (unsigned i = s.first; i < s.last; i++) {
            uint64_t pte = leaf[i];
            if (!(pte & HELD))
                continue;
            uint64_t now = pte_protect(pte, prot, may_write, shared);
            if (now == pte)
                continue;
            pte_write(&leaf[i], now);
            shrank += (pte_rights(pte) & ~pte_rights(now)) != 0;
        }
    }
    return shrank;
}

/* ---- mremap */

/* Makes the leaf tables that the entries of [src, end) need, delta further on.
 * Post: 0, or -ENOMEM. */
static int move_prepare(struct uvm_physmem *pm, const struct view *v, uint32_t pgd, uint64_t src,
                        uint64_t end, uint64_t delta) {
    uint64_t addr = src;
    FOR_EACH_LEAF (v, pgd, addr, end) {
        uint64_t made = 0; /* leaf_make was done for destinations below this */
        for (unsigned i = s.first; i < s.last; i++) {
            uint64_t to = addr + (uint64_t)(i - s.first) * UVM_PAGE_SIZE + delta;
            if (!(leaf[i] & HELD) || to < made)
                continue;
            if (!leaf_make(pm, v, pgd, to))
                return -ENOMEM;
            made = next_at(to, 1);
        }
    }
    return 0;
}

/* Pre: the ranges do not overlap, the destination has no entry.  Post: the
 * entries stand at dst as they stood at src, and are counted; or -ENOMEM with
 * none moved. */
int64_t uvm_pte_move(struct uvm_physmem *pm, uint32_t pgd, uint64_t src, uint64_t dst,
                     uint64_t len) {
    struct view v = view_of(pm);
    if (src > UVM_TASK_SIZE || dst > UVM_TASK_SIZE || len > UVM_TASK_SIZE - src ||
        len > UVM_TASK_SIZE - dst)
        return -ENOMEM;
    uint64_t addr = page_floor(src), end = page_floor(src + len), delta = page_floor(dst) - addr;
    if (move_prepare(pm, &v, pgd, addr, end, delta) < 0)
        return -ENOMEM;
    int64_t moved = 0;
    FOR_EACH_LEAF (&v, pgd, addr, end) {
        for (unsigned i = s.first; i < s.last; i++) {
            if (!(leaf[i] & HELD))
                continue;
            uint64_t to = addr + (uint64_t)(i - s.first) * UVM_PAGE_SIZE + delta;
            uint64_t *slot = uvm_pte_find(&v, pgd, to);
            if (!slot) /* not after move_prepare, unless tables are damaged */
                continue;
            pte_write(slot, leaf[i]);
            pte_write(&leaf[i], 0);
            moved++;
        }
    }
    return moved;
}
