/*
 * frames.c - the buddy allocator.
 *
 * Counterpart in Linux: mm/page_alloc.c.
 *
 * Two zones (page tables, data) hand out runs of 2^order frames.  Freed frames
 * go onto lists by order and merge with their buddies; frames that were never
 * handed out lie beyond the zone's `bump` and are on no list, so formatting a
 * file of any size writes one page, and neither frames nor mem_map are touched
 * before they are needed.  Lists are used before the bump: the first touch of
 * a virgin frame costs 1.6 us, a freed one nothing.
 *
 * Invariants (uvm_frames_check asserts them all)
 *   - what is handed out is a function of physmem alone;
 *   - a block of order n on a list starts at a multiple of 2^n, lies wholly
 *     below bump, and its buddy is not a free block of the same order (unless
 *     they would exceed UVM_MAX_ORDER);
 *   - zone.free counts the frames on lists and those beyond bump;
 *   - a frame in limbo (no references, not free) is handed out to nobody.
 */
#include <errno.h>
#include <string.h>

#include "internal.h"

/* Least sizes of the page table zone: it is sparse, so room costs nothing. */
#define PT_MIN_BYTES (16ull << 20)
#define PT_DATA_SHARE 16 /* a table maps 512 frames; 1/16 is 32 mappings of all of them */
#define PT_FRAMES_A_SLOT 16 /* the smallest address space needs about 8 */
#define DATA_ALIGN_FRAMES (1ull << UVM_MAX_ORDER)
#define MAX_FRAMES ((UVM_SHIM_BASE - UVM_WINDOW) / UVM_PAGE_SIZE) /* a stub's window: 1 TiB */

struct layout { /* first pfn of each part; `end` after the last */
    uint64_t slots, pt, data, end;
};

static uint64_t align_up(uint64_t n, uint64_t to) {
    return (n + to - 1) / to * to;
}

/* Where everything goes.  mem_map must describe itself too, hence the bound
 * found first: 256 frames cost it one more, alignment at most 1,024 + 8. */
static struct layout layout_of(uint64_t data_bytes, uint32_t nslots) {
    uint64_t data = align_up(data_bytes, UVM_PAGE_SIZE) / UVM_PAGE_SIZE;
    uint64_t slot_frames = UVM_SLOT_SIZE / UVM_PAGE_SIZE;
    uint64_t slots = nslots * slot_frames;
    uint64_t pt = data / PT_DATA_SHARE;
    if (pt < PT_MIN_BYTES / UVM_PAGE_SIZE)
        pt = PT_MIN_BYTES / UVM_PAGE_SIZE;
    pt += (uint64_t)nslots * PT_FRAMES_A_SLOT;

    uint64_t rest = MEM_MAP_PFN + slots + pt + data + DATA_ALIGN_FRAMES + slot_frames;
    uint64_t mem_map = rest / (PAGES_PER_FRAME - 1) + 1;

    struct layout at;
    at.slots = align_up(MEM_MAP_PFN + mem_map, slot_frames);
    at.pt = at.slots + slots;
    at.data = align_up(at.pt + pt, DATA_ALIGN_FRAMES);
    at.end = at.data + data;
    return at;
}

/* Post: bytes that a file for these needs, or 0 if there is none (no data, or too large for
 * the window). */
uint64_t uvm_physmem_size(uint64_t data_bytes, uint32_t nslots) {
    if (data_bytes == 0 || data_bytes > (1ull << 43))
        return 0;
    struct layout at = layout_of(data_bytes, nslots);
    return at.end <= MAX_FRAMES ? at.end * UVM_PAGE_SIZE : 0;
}

/* Pre: the file is all zero.  Post: 0 and all frames virgin; or -ENOMEM if the
 * mapping is too small, and nothing written. */
int uvm_physmem_format(struct uvm_physmem *pm, uint64_t data_bytes, uint32_t nslots) {
    uint64_t size = uvm_physmem_size(data_bytes, nslots);
    if (size == 0 || pm->size < size)
        return -ENOMEM;
    struct layout at = layout_of(data_bytes, nslots);
    struct physmem_header *header = header_of(pm);
    header->frames = (uint32_t)at.end;
    header->nslots = nslots;
    header->slot_offset = at.slots * UVM_PAGE_SIZE;
    uint32_t bounds[UVM_ZONES + 1] = {(uint32_t)at.pt, (uint32_t)at.data, (uint32_t)at.end};
    for (int i = 0; i < UVM_ZONES; i++) {
        struct zone *z = &header->zone[i];
        z->start = z->bump = bounds[i];
        z->end = bounds[i + 1];
        z->free = z->end - z->start;
    }
    header->magic = UVM_MAGIC;
    return 0;
}

/* Post: byte offset of slot 0. */
uint64_t uvm_slot_offset(struct uvm_physmem *pm) {
    return header_of(pm)->slot_offset;
}

/* Post: byte offset of the data zone. */
uint32_t uvm_slot_count(struct uvm_physmem *pm) {
    return header_of(pm)->nslots;
}

uint64_t uvm_data_offset(struct uvm_physmem *pm) {
    return (uint64_t)header_of(pm)->zone[UVM_ZONE_DATA].start * UVM_PAGE_SIZE;
}

/* ---- free lists */

/* One zone as seen by one call; `range` bounds what may be touched. */
struct pool {
    struct zone *zone;
    struct page *map;
    struct frames range;
};

static struct pool pool_of(const struct uvm_physmem *pm, uint32_t zone) {
    return (struct pool){
        .zone = &header_of(pm)->zone[zone],
        .map = (struct page *)(pm->base + (size_t)MEM_MAP_PFN * UVM_PAGE_SIZE),
        .range = zone_frames(pm, zone),
    };
}

static uint32_t pool_end(const struct pool *p) {
    return p->range.start + p->range.count;
}

/* Whether a whole block of that order at pfn lies in the zone. */
static int block_in(const struct pool *p, uint32_t pfn, uint32_t order) {
    return frame_in(p->range, pfn) && ((uint64_t)pfn + (1u << order) <= pool_end(p));
}

/* Pre: block_in; the block is on no list.  Post: it heads the list of its order. */
static void list_push(const struct pool *p, uint32_t pfn, uint32_t order) {
    uint32_t next = p->zone->head[order];
    if (!frame_in(p->range, next))
        next = 0;
    p->map[pfn] = (struct page){.refs = 0, .next = next, .prev = 0, .state = PAGE_FREE | order};
    if (next)
        p->map[next].prev = pfn;
    p->zone->head[order] = pfn;
}

/* Pre: the block at pfn is on the list of its order.  Post: on none, state 0. */
static void list_remove(const struct pool *p, uint32_t pfn, uint32_t order) {
    struct page *page = &p->map[pfn];
    uint32_t next = frame_in(p->range, page->next) ? page->next : 0;
    uint32_t prev = frame_in(p->range, page->prev) ? page->prev : 0;
    if (next)
        p->map[next].prev = prev;
    if (prev)
        p->map[prev].next = next;
    else
        p->zone->head[order] = next;
    *page = (struct page){0};
}

static int is_free_block(const struct pool *p, uint32_t pfn, uint32_t order) {
    return block_in(p, pfn, order) && p->map[pfn].state == (PAGE_FREE | order);
}

/* Pre: the block is on no list and its struct pages are blank.  Post: it is
 * free, merged with its buddies as far as they are. zone.free is the caller's. */
static void block_free(const struct pool *p, uint32_t pfn, uint32_t order) {
    while (order < UVM_MAX_ORDER) {
        uint32_t buddy = pfn ^ (1u << order);
        if (buddy >= p->zone->bump || !is_free_block(p, buddy, order))
            break;
        list_remove(p, buddy, order);
        pfn &= buddy;
        order++;
    }
    list_push(p, pfn, order);
}

/* Frees [pfn, pfn + n) as the largest aligned blocks.  Pre: as block_free. */
static void range_free(const struct pool *p, uint32_t pfn, uint32_t n) {
    while (n != 0) {
        uint32_t order = (uint32_t)__builtin_ctz(pfn | (1u << UVM_MAX_ORDER));
        while ((1u << order) > n)
            order--;
        block_free(p, pfn, order);
        pfn += 1u << order;
        n -= 1u << order;
    }
}

/* Takes a block off the lists, splitting a larger one.  Post: its pfn, with
 * blank struct pages; or 0. */
static uint32_t take_listed(const struct pool *p, uint32_t order) {
    for (uint32_t at = order; at <= UVM_MAX_ORDER; at++) {
        uint32_t pfn = p->zone->head[at];
        if (pfn == 0 || !is_free_block(p, pfn, at))
            continue;
        list_remove(p, pfn, at);
        while (at > order) {
            at--;
            list_push(p, pfn + (1u << at), at);
        }
        return pfn;
    }
    return 0;
}

/* Takes a block from beyond the bump; frames skipped to align it go onto the
 * lists.  Post: as take_listed. */
static uint32_t take_virgin(const struct pool *p, uint32_t order) {
    struct zone *z = p->zone;
    uint64_t size = 1u << order;
    uint32_t bump = z->bump;
    uint64_t pfn = ((uint64_t)bump + size - 1) & ~(size - 1);
    if (bump < p->range.start || pfn + size > pool_end(p))
        return 0;
    z->bump = (uint32_t)(pfn + size);
    range_free(p, bump, (uint32_t)pfn - bump);
    return (uint32_t)pfn;
}

/* For a run that straddles the bump: ends the virgin part, so that it merges
 * with what is listed.  Post: as take_listed. */
static uint32_t take_straddling(const struct pool *p, uint32_t order) {
    struct zone *z = p->zone;
    uint32_t bump = z->bump;
    if (!frame_in(p->range, bump))
        return 0;
    z->bump = pool_end(p);
    range_free(p, bump, z->bump - bump);
    return take_listed(p, order);
}

/* Post: 2^order aligned frames, each live with one reference; or 0. */
uint32_t uvm_frame_alloc(struct uvm_physmem *pm, uint32_t zone, uint32_t order) {
    if (zone >= UVM_ZONES || order > UVM_MAX_ORDER)
        return 0;
    struct pool p = pool_of(pm, zone);
    uint32_t pfn = take_listed(&p, order);
    if (pfn == 0)
        pfn = take_virgin(&p, order);
    if (pfn == 0)
        pfn = take_straddling(&p, order);
    if (pfn == 0)
        return 0;
    for (uint32_t i = 0; i < 1u << order; i++)
        p.map[pfn + i] = (struct page){.refs = 1, .state = PAGE_USED};
    p.zone->free -= 1u << order;
    return pfn;
}

/* ---- references */

/* Fills *p with the zone that pfn lies in; 0 if in none. */
static int pool_find(const struct uvm_physmem *pm, uint32_t pfn, struct pool *p) {
    for (uint32_t zone = UVM_ZONES; zone-- > 0;) {
        *p = pool_of(pm, zone);
        if (frame_in(p->range, pfn))
            return 1;
    }
    return 0;
}

/* Pre: the frame is live; else nothing happens. */
void uvm_frame_get(struct uvm_physmem *pm, uint32_t pfn) {
    struct pool p;
    if (pool_find(pm, pfn, &p) && p.map[pfn].refs != 0)
        p.map[pfn].refs++;
}

/* Pre: the frame is live.  Post: references left; at 0 the frame is free.  For
 * a frame that is not live nothing happens and the answer is UINT32_MAX. */
uint32_t uvm_frame_put(struct uvm_physmem *pm, uint32_t pfn) {
    struct pool p;
    if (!pool_find(pm, pfn, &p) || p.map[pfn].refs == 0)
        return UINT32_MAX;
    uint32_t left = --p.map[pfn].refs;
    if (left == 0) {
        p.map[pfn].state = 0;
        p.zone->free++;
        block_free(&p, pfn, 0);
    }
    return left;
}

/* Post: references to the frame; 0 where it is in limbo, free or in no zone. */
uint32_t uvm_frame_refs(struct uvm_physmem *pm, uint32_t pfn) {
    struct pool p;
    if (!pool_find(pm, pfn, &p) || pfn >= p.zone->bump)
        return 0;
    return p.map[pfn].refs;
}

/* Post: as uvm_frame_put for each in turn. */
void uvm_frames_put(struct uvm_physmem *pm, const uint32_t *pfns, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        uvm_frame_put(pm, pfns[i]);
}

static int in_limbo(const struct pool *p, uint32_t pfn) {
    return frame_in(p->range, pfn) && pfn < p->zone->bump && p->map[pfn].refs == 0 &&
           p->map[pfn].state == PAGE_USED;
}

/* Frees frames in limbo; others are left alone.  Ascending runs, which is what
 * a zap of a run gives, are freed as blocks. */
void uvm_frames_release(struct uvm_physmem *pm, const uint32_t *pfns, uint32_t n) {
    for (uint32_t i = 0; i < n;) {
        struct pool p;
        uint32_t pfn = pfns[i], run = 0;
        if (!pool_find(pm, pfn, &p)) {
            i++;
            continue;
        }
        while (i < n && pfns[i] == pfn + run && in_limbo(&p, pfn + run)) {
            p.map[pfn + run].state = 0;
            run++;
            i++;
        }
        if (run == 0)
            i++;
        p.zone->free += run;
        range_free(&p, pfn, run);
    }
}

/* ---- figures and checks */

/* Post: frames of the zone that uvm_frame_alloc can still hand out. */
uint64_t uvm_frames_free(struct uvm_physmem *pm, uint32_t zone) {
    return zone < UVM_ZONES ? header_of(pm)->zone[zone].free : 0;
}

/* Post: frames of the zone, whatever their condition. */
uint64_t uvm_frames_total(struct uvm_physmem *pm, uint32_t zone) {
    return zone < UVM_ZONES ? zone_frames(pm, zone).count : 0;
}

/* Walks the list of one order.  Post: blocks on it, or -1 if a link, an
 * alignment or a merge is wrong. */
static int64_t check_list(const struct pool *p, uint32_t order) {
    int64_t blocks = 0;
    uint32_t prev = 0;
    for (uint32_t pfn = p->zone->head[order]; pfn != 0; pfn = p->map[pfn].next) {
        if (!is_free_block(p, pfn, order) || pfn & ((1u << order) - 1))
            return -1;
        if (pfn + (1u << order) > p->zone->bump || p->map[pfn].prev != prev)
            return -1;
        uint32_t buddy = pfn ^ (1u << order);
        if (order < UVM_MAX_ORDER && is_free_block(p, buddy, order) && buddy < p->zone->bump)
            return -1;
        if (++blocks > p->range.count)
            return -1;
        prev = pfn;
    }
    return blocks;
}

/* Reads mem_map below bump.  Post: frames in free blocks (blocks[] counts them
 * by order), or -1 if a struct page contradicts itself. */
static int64_t check_map(const struct pool *p, int64_t *blocks) {
    int64_t free_frames = 0;
    for (uint32_t pfn = p->range.start; pfn < p->zone->bump;) {
        const struct page *page = &p->map[pfn];
        if (page->state == PAGE_USED) {
            pfn++;
            continue;
        }
        uint32_t order = page->state & PAGE_ORDER;
        if (page->state != (PAGE_FREE | order) || order > UVM_MAX_ORDER || page->refs != 0)
            return -1;
        uint32_t end = pfn + (1u << order);
        if (end > p->zone->bump)
            return -1;
        for (uint32_t i = pfn + 1; i < end; i++)
            if (p->map[i].state != 0 || p->map[i].refs != 0)
                return -1;
        blocks[order]++;
        free_frames += 1u << order;
        pfn = end;
    }
    return free_frames;
}

static int check_zone(const struct uvm_physmem *pm, uint32_t zone) {
    struct pool p = pool_of(pm, zone);
    if (p.range.count != p.zone->end - p.zone->start)
        return -1;
    if (p.zone->bump < p.range.start || p.zone->bump > pool_end(&p))
        return -1;
    int64_t blocks[UVM_MAX_ORDER + 1] = {0};
    int64_t listed = check_map(&p, blocks);
    if (listed < 0 || (uint64_t)listed + (pool_end(&p) - p.zone->bump) != p.zone->free)
        return -1;
    for (uint32_t order = 0; order <= UVM_MAX_ORDER; order++)
        if (check_list(&p, order) != blocks[order])
            return -1;
    return 0;
}

/* Post: 0 if the invariants at the head of this file hold, else -EINVAL. */
int uvm_frames_check(struct uvm_physmem *pm) {
    if (header_of(pm)->magic != UVM_MAGIC || header_of(pm)->frames != frame_count(pm))
        return -EINVAL;
    for (uint32_t zone = 0; zone < UVM_ZONES; zone++)
        if (check_zone(pm, zone) < 0)
            return -EINVAL;
    return 0;
}

/* ---- contents */

static int frames_in_file(const struct uvm_physmem *pm, uint32_t pfn, uint32_t n) {
    return pfn != 0 && (uint64_t)pfn + n <= frame_count(pm);
}

/* Post: frames [pfn, pfn + n) read as zero; nothing happens outside the file. */
void uvm_frame_zero(struct uvm_physmem *pm, uint32_t pfn, uint32_t n) {
    if (frames_in_file(pm, pfn, n))
        memset(pm->base + (size_t)pfn * UVM_PAGE_SIZE, 0, (size_t)n * UVM_PAGE_SIZE);
}

/* Pre: dst != src.  Post: dst holds what src holds; nothing happens outside the file. */
void uvm_frame_copy(struct uvm_physmem *pm, uint32_t dst, uint32_t src) {
    if (!frames_in_file(pm, dst, 1) || !frames_in_file(pm, src, 1) || dst == src)
        return;
    memcpy(pm->base + (size_t)dst * UVM_PAGE_SIZE, pm->base + (size_t)src * UVM_PAGE_SIZE,
           UVM_PAGE_SIZE);
}
