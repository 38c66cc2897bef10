/*
 * sanitize.c - randomised operations over the host library, for the sanitizers.
 *
 * Physmem is one heap block of exactly the file's size, so that a step past
 * its end is caught.  Two programs of operations, each from a fixed seed:
 *
 *   faithful   against a shadow of two page tables, checked as it goes; at the
 *              end every frame must be free again;
 *              every second time with a race area that sees all copies;
 *   hostile    the same calls while words of header, mem_map and page tables
 *              are overwritten at random: nothing is checked but that the
 *              library stays inside physmem and comes back.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "uvm_host.h"
#include "uvm_race.h"

#define DATA_BYTES (4ull << 20)
#define NSLOTS 4
#define MMS 2
#define REGIONS 4
#define PAGES 24 /* a region; each straddles a boundary of leaf tables */
#define STEPS 20000
#define HELD (UVM_PTE_P | UVM_PTE_PROTNONE)
#define RW (UVM_PTE_P | UVM_PTE_W | UVM_PTE_U)

#define CHECK(what)                                                                                \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            fprintf(stderr, "%s:%d: seed %u step %d: %s\n", __FILE__, __LINE__, seed, step,        \
                    #what);                                                                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static const uint64_t region[REGIONS] = {
    0x200000 - 8 * UVM_PAGE_SIZE,
    0x40000000 - 5 * UVM_PAGE_SIZE,
    0x8000000000 - 12 * UVM_PAGE_SIZE,
    UVM_TASK_SIZE - PAGES * UVM_PAGE_SIZE,
};

static unsigned seed;
static int step;
static uint64_t state;

static struct uvm_physmem pm;
static uint32_t pgd[MMS];
static uint64_t shadow[MMS][REGIONS][PAGES];

/* xorshift64: below n, the same everywhere. */
static uint32_t pick(uint32_t n) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state >> 11) % n);
}

static uint64_t logged, found_shared;

/* A race area on the heap, each table exactly as large as it has to be. */
static struct uvm_race *race_area(void) {
    const uint64_t frames = (pm.size - uvm_data_offset(&pm)) >> UVM_PAGE_SHIFT;
    const uint64_t sizes[] = {
        frames * sizeof(uint64_t),
        UVM_RACE_PAGES * sizeof(uint64_t),
        UVM_RACE_WORDS * sizeof(struct uvm_race_word),
        UVM_RACE_ACTIVE * sizeof(struct uvm_race_active),
        UVM_RACE_SLOTS * sizeof(struct uvm_race_slot),
        UVM_RACE_EVENTS * sizeof(struct uvm_race_event),
    };
    uint64_t at[6], size = sizeof(struct uvm_race);
    for (int i = 0; i < 6; i++) {
        at[i] = size = (size + 15) & ~15ull;
        size += sizes[i];
    }
    struct uvm_race *race = calloc(1, size);
    if (!race)
        exit(1);
    race->owner_at = at[0];
    race->pages_at = at[1];
    race->words_at = at[2];
    race->active_at = at[3];
    race->slots_at = at[4];
    race->events_at = at[5];
    race->data_offset = uvm_data_offset(&pm);
    return race;
}

/* A new execution; somebody else's call; some more words are active. */
static void watch(void) {
    struct uvm_race *race = pm.race;
    logged += race->events;
    found_shared += race->shared;
    if (pick(20) == 0)
        uvm_race_begin(race, pick(3), (pm.size - race->data_offset) >> UVM_PAGE_SHIFT);
    race->actor = pick(NSLOTS + 1);
    race->actor_ip = pick(100);
    struct uvm_race_slot *slots = (void *)((uint8_t *)race + race->slots_at);
    for (uint32_t i = 0; i < NSLOTS; i++)
        slots[i].task = (uint16_t)i;
    uint64_t word = (region[pick(2)] >> 3) + pick(PAGES * 512); /* the others are for sharing */
    for (uint32_t n = pick(80); n > 0; n--)
        CHECK(uvm_race_set_word(race, word + n, UVM_WORD_ACTIVE) == 0 ||
              race->active_count == UVM_RACE_ACTIVE / 2);
    if (pick(10) == 0)
        uvm_race_relist(race);
}

static uint64_t page_address(uint32_t r, uint32_t page) {
    return region[r] + (uint64_t)page * UVM_PAGE_SIZE;
}

static void map_run(uint32_t m, uint32_t r, uint32_t page) {
    uint32_t order = pick(4), n = 1u << order;
    if (page + n > PAGES)
        return;
    uint32_t pfn = uvm_frame_alloc(&pm, UVM_ZONE_DATA, order);
    if (pfn == 0)
        return;
    int made = uvm_pte_map_run(&pm, pgd[m], page_address(r, page), n, pfn, RW | UVM_PTE_A, 1);
    int expected = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t *pte = &shadow[m][r][page + i];
        if (*pte & HELD)
            continue;
        *pte = (uint64_t)(pfn + i) << UVM_PAGE_SHIFT | RW | UVM_PTE_A;
        expected++;
    }
    CHECK(made == expected);
}

static void zap(uint32_t m, uint32_t r, uint32_t page, uint32_t n) {
    uint32_t freed[4];
    uint64_t addr = page_address(r, page), end = addr + (uint64_t)n * UVM_PAGE_SIZE, total = 0;
    while (addr < end) {
        uint64_t cleared;
        uint32_t got = uvm_pte_zap(&pm, pgd[m], addr, end, freed, 4, &addr, &cleared);
        for (uint32_t i = 0; i < got; i++)
            CHECK(uvm_frame_refs(&pm, freed[i]) == 0);
        uvm_frames_release(&pm, freed, got);
        total += cleared;
    }
    for (uint32_t i = 0; i < n; i++) {
        total -= (shadow[m][r][page + i] & HELD) != 0;
        shadow[m][r][page + i] = 0;
    }
    CHECK(total == 0);
}

static void fork_region(uint32_t m, uint32_t r) {
    uint32_t child = 1 - m;
    int64_t expected = 0;
    zap(child, r, 0, PAGES);
    for (uint32_t i = 0; i < PAGES; i++) {
        uint64_t *pte = &shadow[m][r][i];
        if (*pte & HELD) {
            *pte = (*pte & ~(uint64_t)UVM_PTE_W) | UVM_PTE_COW;
            expected++;
        }
        shadow[child][r][i] = *pte;
    }
    uint32_t eager = 0, shrunk = 0;
    CHECK(uvm_pte_copy(&pm, pgd[child], pgd[m], region[r], page_address(r, PAGES), 1, &eager,
                       &shrunk) == expected);
}

static void protect(uint32_t m, uint32_t r, uint32_t page, uint32_t n) {
    static const uint32_t prots[] = {0, 1, 3, 5};
    uint32_t prot = prots[pick(4)];
    uvm_pte_protect(&pm, pgd[m], page_address(r, page), page_address(r, page + n), prot, 1, 0);
    for (uint32_t i = page; i < page + n; i++) {
        uint64_t *pte = &shadow[m][r][i];
        if (!(*pte & HELD))
            continue;
        *pte &= ~(uint64_t)(UVM_PTE_P | UVM_PTE_PROTNONE | UVM_PTE_W | (prot ? UVM_PTE_NX : 0));
        *pte |= prot ? UVM_PTE_P : UVM_PTE_PROTNONE;
        if (prot && !(prot & 4))
            *pte |= UVM_PTE_NX;
        if ((prot & 2) && !(*pte & UVM_PTE_COW))
            *pte |= UVM_PTE_W;
    }
}

static void move(uint32_t m, uint32_t r, uint32_t page, uint32_t n) {
    uint32_t to = (r + 1) % REGIONS;
    zap(m, to, page, n);
    uvm_pte_move(&pm, pgd[m], page_address(r, page), page_address(to, page),
                 (uint64_t)n * UVM_PAGE_SIZE);
    memcpy(&shadow[m][to][page], &shadow[m][r][page], n * sizeof(uint64_t));
    memset(&shadow[m][r][page], 0, n * sizeof(uint64_t));
}

/* Pages of the run that the access reaches, marked as it marks them. */
static uint32_t reach(uint32_t m, uint32_t r, uint32_t page, uint32_t n, uint64_t need,
                      uint64_t mark) {
    uint32_t i = 0;
    while (i < n && (shadow[m][r][page + i] & need) == need)
        shadow[m][r][page + i++] |= mark;
    return i;
}

static void copies(uint32_t m, uint32_t r, uint32_t page, uint32_t n) {
    uint64_t bytes = (uint64_t)n * UVM_PAGE_SIZE, addr = page_address(r, page);
    uint8_t *buffer = malloc(bytes);
    int found;
    memset(buffer, 0x5a, bytes);
    if (pm.race)
        watch();
    uint64_t done = uvm_copy_to_user(&pm, pgd[m], addr, buffer, bytes);
    CHECK(done == UVM_PAGE_SIZE * (uint64_t)reach(m, r, page, n, RW, UVM_PTE_A | UVM_PTE_D));
    uint64_t readable =
        UVM_PAGE_SIZE * (uint64_t)reach(m, r, page, n, UVM_PTE_P | UVM_PTE_U, UVM_PTE_A);
    CHECK(uvm_copy_from_user(&pm, pgd[m], buffer, addr, bytes) == readable);
    const uint32_t events = pm.race ? pm.race->events : 0;
    CHECK(uvm_poke_user(&pm, pgd[m], addr, buffer, done) == done);
    CHECK(uvm_peek_user(&pm, pgd[m], buffer, addr, bytes) == readable);
    CHECK(!pm.race || pm.race->events == events);
    CHECK(uvm_clear_user(&pm, pgd[m], addr, done ? 3 : 0) == (done ? 3 : 0));
    CHECK(uvm_strncpy_from_user(&pm, pgd[m], buffer, addr, done, &found) == (done ? 1 : 0));
    CHECK(found == (done != 0));
    uint32_t word = 0x5a5a5a5a;
    CHECK((uvm_user_store32(&pm, pgd[m], addr, word) == 0) == (done != 0));
    CHECK((uvm_user_cmpxchg32(&pm, pgd[m], addr, &word, 7) == 0) == (done != 0));
    CHECK((uvm_user_load32(&pm, pgd[m], addr, &word) == 0) == (readable != 0));
    CHECK(done == 0 || word == 7);
    free(buffer);
}

static void operate(void) {
    uint32_t m = pick(MMS), r = pick(REGIONS), page = pick(PAGES), n = 1 + pick(PAGES - page);
    switch (pick(8)) {
    case 0:
    case 1:
    case 2:
        map_run(m, r, page);
        break;
    case 3:
        zap(m, r, page, n);
        break;
    case 4:
        fork_region(m, r);
        break;
    case 5:
        protect(m, r, page, n);
        break;
    case 6:
        move(m, r, page, n);
        break;
    default:
        copies(m, r, page, n);
    }
}

static void compare(void) {
    for (uint32_t m = 0; m < MMS; m++)
        for (uint32_t r = 0; r < REGIONS; r++)
            for (uint32_t i = 0; i < PAGES; i++)
                CHECK(uvm_pte_get(&pm, pgd[m], page_address(r, i)) == shadow[m][r][i]);
    CHECK(uvm_frames_check(&pm) == 0);
}

static void begin(unsigned number) {
    seed = number;
    state = 0x9e3779b97f4a7c15ull * (number + 1);
    pm.size = uvm_physmem_size(DATA_BYTES, NSLOTS);
    pm.base = aligned_alloc(UVM_PAGE_SIZE, pm.size);
    if (!pm.base)
        exit(1);
    memset(pm.base, 0, pm.size);
    memset(shadow, 0, sizeof(shadow));
    CHECK(uvm_physmem_format(&pm, DATA_BYTES, NSLOTS) == 0);
    for (uint32_t m = 0; m < MMS; m++)
        CHECK((pgd[m] = uvm_pgd_new(&pm)) != 0);
}

static void faithful(unsigned number) {
    begin(number);
    pm.race = number % 2 ? race_area() : NULL;
    for (step = 0; step < STEPS; step++) {
        operate();
        if (step % 500 == 0)
            compare();
    }
    for (uint32_t m = 0; m < MMS; m++) {
        for (uint32_t r = 0; r < REGIONS; r++)
            zap(m, r, 0, PAGES);
        CHECK(uvm_pte_count(&pm, pgd[m], 0, UVM_TASK_SIZE) == 0);
        uvm_pgd_free(&pm, pgd[m]);
    }
    compare();
    for (uint32_t zone = 0; zone < UVM_ZONES; zone++)
        CHECK(uvm_frames_free(&pm, zone) == uvm_frames_total(&pm, zone));
    CHECK(!pm.race || (logged > 0 && found_shared > 0));
    free(pm.race);
    pm.race = NULL;
    free(pm.base);
}

/* ---- hostile */

static uint64_t garbage(void) {
    static const uint64_t edges[] = {0, 1, UINT32_MAX, UINT64_MAX, 0x100, 0x10a, 0x200};
    if (pick(2))
        return edges[pick(sizeof(edges) / sizeof(edges[0]))];
    uint64_t pfn = pick((uint32_t)(pm.size >> UVM_PAGE_SHIFT) + 64);
    return pick(2) ? pfn : pfn << UVM_PAGE_SHIFT | RW;
}

static void scribble(void) {
    uint64_t pages = pm.size >> UVM_PAGE_SHIFT, at;
    switch (pick(4)) {
    case 0: /* the header */
        at = 8 * pick(24);
        break;
    case 1: /* mem_map, most often of frames in use */
        at = UVM_PAGE_SIZE + 8 * pick((uint32_t)pages * 2);
        break;
    default: /* the first few tables */
        at = (uint64_t)pgd[0] * UVM_PAGE_SIZE + 8 * pick(512 * 24);
    }
    uint64_t value = garbage();
    memcpy(pm.base + at, &value, pick(2) ? 4 : 8);
}

static void hostile_call(void) {
    static uint8_t buffer[3 * UVM_PAGE_SIZE];
    uint32_t m = pick(MMS), r = pick(REGIONS), page = pick(PAGES), freed[64];
    uint32_t pfn = (uint32_t)garbage();
    uint64_t addr = page_address(r, page), end = addr + (uint64_t)pick(64) * UVM_PAGE_SIZE;
    uint64_t next, cleared;
    uint32_t eager, shrunk = 0;
    int found;
    switch (pick(12)) {
    case 0:
        uvm_frame_alloc(&pm, pick(3), pick(12));
        break;
    case 1:
        uvm_frame_get(&pm, pfn);
        uvm_frame_refs(&pm, pfn);
        break;
    case 2:
        uvm_frame_put(&pm, pfn);
        break;
    case 3:
        uvm_frame_zero(&pm, pgd[m], 1); /* and so keep tables from filling up */
        uvm_frame_copy(&pm, pfn, (uint32_t)garbage());
        break;
    case 4:
        uvm_pte_set(&pm, pgd[m], addr, garbage());
        break;
    case 5:
        uvm_pte_map_run(&pm, pgd[m], addr, pick(700), pfn, RW, (int)pick(2));
        break;
    case 6:
        uvm_frames_release(&pm, freed,
                           uvm_pte_zap(&pm, pgd[m], addr, end, freed, 64, &next, &cleared));
        break;
    case 7:
        eager = pick(8);
        uvm_pte_copy(&pm, pgd[1 - m], pgd[m], addr, end, 1, &eager, &shrunk);
        uvm_pte_unshare(&pm, pgd[m], addr, pick(32));
        break;
    case 8:
        uvm_pte_protect(&pm, pgd[m], addr, end, pick(8), 1, (int)pick(2));
        break;
    case 9:
        uvm_pte_move(&pm, pgd[m], addr, page_address((r + 1) % REGIONS, 0), end - addr);
        break;
    case 10:
        uvm_frames_check(&pm);
        uvm_pte_none_run(&pm, pgd[m], addr, pick(2000));
        break;
    default:
        uvm_copy_from_user(&pm, pgd[m], buffer, addr + pick(9), 2 * UVM_PAGE_SIZE);
        uvm_copy_to_user(&pm, pgd[m], addr + pick(9), buffer, 2 * UVM_PAGE_SIZE);
        uvm_strncpy_from_user(&pm, pgd[m], buffer, addr, sizeof(buffer), &found);
        uvm_user_phys(&pm, pgd[m], addr, 1);
    }
}

static void hostile(unsigned number) {
    begin(number);
    uint8_t *header = malloc(UVM_PAGE_SIZE);
    memcpy(header, pm.base, UVM_PAGE_SIZE);
    for (step = 0; step < STEPS; step++) {
        if (step % 64 == 0) /* else all ends in "no such zone" before long */
            memcpy(pm.base, header, UVM_PAGE_SIZE);
        if (pick(4) == 0)
            scribble();
        hostile_call();
    }
    free(header);
    free(pm.base);
}

int main(void) {
    for (unsigned number = 0; number < 4; number++)
        faithful(number);
    for (unsigned number = 100; number < 108; number++)
        hostile(number);
    puts("clean");
    return 0;
}
