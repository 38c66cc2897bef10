/*
 * internal.h - what physmem's first pages hold, and how the library looks at them.
 *
 * Counterpart in Linux: struct zone and struct page (mmzone.h, mm_types.h).
 *
 * Page 0 is `struct physmem_header`; `mem_map`, one `struct page` a frame,
 * begins at page 1.  All numbers in them are frame numbers, never pointers, so
 * that a copy of the file is a copy of the allocator.
 *
 * Invariants
 *   - a `struct view` is made at the top of every call and is the only place
 *     where header numbers become bounds: its ranges always lie inside both
 *     the mapping and mem_map, whatever the header says.  A frame number that
 *     passed frame_in() can be dereferenced.
 *   - 1 <= pt.start, pt.end <= data.start: pfn 0 is in no zone.
 */
#ifndef UVM_HOST_INTERNAL_H
#define UVM_HOST_INTERNAL_H

#include <stddef.h>

#include "uvm_host.h"
#include "uvm_race.h"

#define UVM_MAGIC 0x636e7973616d7675 /* "uvmasync", little-endian */
#define MEM_MAP_PFN 1
#define PAGES_PER_FRAME (UVM_PAGE_SIZE / sizeof(struct page))

/* page.state.  A frame of a zone is in exactly one of these conditions:
 *   virgin    pfn >= zone.bump; its struct page has never been written
 *   free      head of a free block: PAGE_FREE | order, linked; the frames
 *             behind the head have state 0 and count 0
 *   live      PAGE_USED, refs >= 1
 *   limbo     PAGE_USED, refs == 0: zapped, waiting for the Tlbs to let go */
#define PAGE_ORDER 0x00ffu
#define PAGE_FREE 0x0100u
#define PAGE_USED 0x0200u

struct page {
    uint32_t refs;
    uint32_t next; /* free blocks of one order, doubly linked; 0 ends */
    uint32_t prev;
    uint32_t state;
};
_Static_assert(sizeof(struct page) == 16, "mem_map: 256 frames a page");

struct zone {
    uint32_t start; /* first pfn */
    uint32_t end;   /* first pfn after */
    uint32_t bump;  /* frames from here on are virgin: on no list */
    uint32_t free;  /* frames on lists and virgin ones */
    uint32_t head[UVM_MAX_ORDER + 1];
};

struct physmem_header {
    uint64_t magic;
    uint32_t frames; /* of the whole file; mem_map has as many entries */
    uint32_t nslots;
    uint64_t slot_offset;
    struct zone zone[UVM_ZONES];
};
_Static_assert(sizeof(struct physmem_header) <= UVM_PAGE_SIZE, "header: one page");

/* A range of frames that is safe to touch. */
struct frames {
    uint32_t start;
    uint32_t count;
};

struct view {
    uint8_t *base;
    struct page *map;
    struct frames pt;
    struct frames data;
};

static inline struct physmem_header *header_of(const struct uvm_physmem *pm) {
    return (struct physmem_header *)pm->base;
}

/* Frames that both the file has and mem_map describes. */
static inline uint32_t frame_count(const struct uvm_physmem *pm) {
    uint64_t mapped = pm->size >> UVM_PAGE_SHIFT;
    uint32_t frames = header_of(pm)->frames;
    return frames < mapped ? frames : (uint32_t)mapped;
}

static inline struct frames zone_frames(const struct uvm_physmem *pm, uint32_t zone) {
    const struct zone *z = &header_of(pm)->zone[zone];
    uint32_t limit = frame_count(pm);
    uint32_t end = z->end < limit ? z->end : limit;
    if (z->start == 0 || z->start >= end)
        return (struct frames){0, 0};
    return (struct frames){z->start, end - z->start};
}

static inline struct view view_of(const struct uvm_physmem *pm) {
    return (struct view){
        .base = pm->base,
        .map = (struct page *)(pm->base + (size_t)MEM_MAP_PFN * UVM_PAGE_SIZE),
        .pt = zone_frames(pm, UVM_ZONE_PT),
        .data = zone_frames(pm, UVM_ZONE_DATA),
    };
}

static inline int frame_in(struct frames range, uint64_t pfn) {
    return pfn - range.start < range.count;
}

static inline uint8_t *frame_address(const struct view *v, uint32_t pfn) {
    return v->base + ((size_t)pfn << UVM_PAGE_SHIFT);
}

/* Takes a reference.  Pre: pfn is in a zone.  A frame that is not live is left alone. */
static inline void page_get(const struct view *v, uint32_t pfn) {
    struct page *page = &v->map[pfn];
    if (page->refs != 0)
        page->refs++;
}

/* Drops a reference.  Pre: pfn is in a zone.  Post: answers whether the frame
 * went from live to limbo just now. */
static inline int page_drop(const struct view *v, uint32_t pfn) {
    struct page *page = &v->map[pfn];
    if (page->refs == 0)
        return 0;
    return --page->refs == 0;
}

/* ---- pgtable.c, for uaccess.c */

/* The entry for addr, or NULL where there is no table for it. */
uint64_t *uvm_pte_find(const struct view *v, uint32_t pgd, uint64_t addr);

/* Entries are read by shims while they are written here: whole or not at all. */
static inline void pte_write(uint64_t *slot, uint64_t pte) {
    __atomic_store_n(slot, pte, __ATOMIC_RELEASE);
}

static inline uint64_t pte_pfn(uint64_t pte) {
    return (pte & UVM_PTE_ADDR) >> UVM_PAGE_SHIFT;
}

/* ---- race.c, for uaccess.c */

/* Where accesses are watched just now, and the kernel works for a task: that race area; or NULL. */
static inline struct uvm_race *race_of(const struct uvm_physmem *pm) {
    struct uvm_race *race = pm->race;
    return race && race->mode != UVM_RACE_OFF && race->actor - 1 < UVM_RACE_SLOTS ? race : NULL;
}

/* The task that the kernel works for accesses n bytes of the page of addr, which are
 * at `at`.  Post: they are events as far as they are active words; the answer is the
 * number of the first.  For a write, before it; and after it race_accessed(). */
uint32_t race_accesses(struct uvm_race *race, const struct view *v, uint32_t pgd, uint64_t addr,
                       const uint8_t *at, uint64_t n, unsigned kind);
void race_accessed(struct uvm_race *race, uint32_t first, uint64_t addr, const uint8_t *at);

#endif
