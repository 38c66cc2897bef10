/*
 * race.c - the kernel's side of a controlled machine: putting memory back to
 * where every execution starts, the tables of the race area (uvm_race.h), and the
 * kernel's own accesses to guest memory, which are events like the guest's.
 */
#include <string.h>

#include "internal.h"
#include "uvm_race_table.h"

#define EVENT_BYTES 248 /* of a kernel's copy in one event, which counts bytes in 8 bits */

void uvm_copy_ranges(struct uvm_physmem *pm, const uint64_t *ranges, uint32_t n, uint8_t *saved,
                     int restore) {
    for (uint32_t i = 0; i < n; i++) {
        uint64_t offset = ranges[2 * i], length = ranges[2 * i + 1];
        if (restore)
            memcpy(pm->base + offset, saved, length);
        else
            memcpy(saved, pm->base + offset, length);
        saved += length;
    }
}

void uvm_race_begin(struct uvm_race *race, uint32_t mode, uint64_t frames) {
    race->mode = mode;
    race->execution++;
    race->step = race->hash = race->order = 0;
    race->ask_at = ~0UL;
    race->actor = 0;
    race->events = race->lost = 0;
    race->changes = race->watched = race->copied = race->emulated = race->stepped = race->taken =
        race->shared = 0;
    memset(UVM_RACE_TABLE(race, uint8_t, slots_at), 0,
           UVM_RACE_SLOTS * sizeof(struct uvm_race_slot));
    if (mode == UVM_RACE_ALL)
        memset(UVM_RACE_TABLE(race, uint8_t, owner_at), 0, frames * sizeof(uint64_t));
}

void uvm_race_relist(struct uvm_race *race) {
    const struct uvm_race_active *active =
        UVM_RACE_TABLE(race, const struct uvm_race_active, active_at);
    memset(UVM_RACE_TABLE(race, uint8_t, pages_at), 0, UVM_RACE_PAGES * sizeof(uint64_t));
    race->page_count = 0;
    for (uint32_t i = 0; i < UVM_RACE_ACTIVE; i++)
        if (active[i].key && active[i].active == UVM_WORD_ACTIVE)
            uvm_race_list_page(race, active[i].key >> (UVM_PAGE_SHIFT - 3));
}

uint32_t uvm_race_found(struct uvm_race *race, uint64_t *keys, uint8_t *user, uint32_t max) {
    const struct uvm_race_active *table =
        UVM_RACE_TABLE(race, const struct uvm_race_active, active_at);
    uint32_t n = 0;
    for (uint32_t i = 0; i < UVM_RACE_ACTIVE && n < max; i++)
        if (table[i].key && table[i].active == UVM_WORD_FOUND) {
            keys[n] = table[i].key;
            user[n++] = (uint8_t)table[i].user;
        }
    return n;
}

int uvm_race_set_word(struct uvm_race *race, uint64_t key, uint32_t state) {
    struct uvm_race_active *entry = key ? uvm_race_enter_word(race, key) : 0;
    if (!entry)
        return -1;
    entry->active = state;
    return 0;
}

int uvm_race_add_insn(struct uvm_race *race, const struct uvm_race_insn *insn) {
    struct uvm_race_insn *table = UVM_RACE_TABLE(race, struct uvm_race_insn, insns_at);
    if (!insn->ip || race->insn_count >= UVM_RACE_INSNS / 2)
        return -1;
    for (uint64_t i = uvm_race_mix(0, insn->ip);; i++) {
        struct uvm_race_insn *entry = &table[i & (UVM_RACE_INSNS - 1)];
        if (entry->ip == insn->ip || !entry->ip) {
            if (!entry->ip)
                race->insn_count++;
            *entry = *insn;
            return 0;
        }
    }
}

/* ---- the kernel's copies are accesses, too */

/* Log what [start, end) does to a run of active words, a piece at a time. */
static void log_run(struct uvm_race *race, unsigned task, uint64_t start, uint64_t end,
                    const uint8_t *at, unsigned kind) {
    while (start < end) {
        const uint32_t size = end - start > EVENT_BYTES ? EVENT_BYTES : (uint32_t)(end - start);
        const uint64_t value = uvm_race_value(at, size);
        const unsigned settled = kind == UVM_EVENT_READ ? UVM_EVENT_SETTLED : 0;
        uvm_race_log(race, (struct uvm_race_event){.ip = race->actor_ip,
                                                   .addr = start,
                                                   .value = value,
                                                   .after = value,
                                                   .task = task,
                                                   .kind = kind | UVM_EVENT_KERNEL | settled,
                                                   .size = size});
        start += size;
        at += size;
    }
}

uint32_t race_accesses(struct uvm_race *race, const struct view *v, uint32_t pgd, uint64_t addr,
                       const uint8_t *at, uint64_t n, unsigned kind) {
    const uint32_t first = race->events;
    const unsigned slot = race->actor - 1;
    const unsigned task = UVM_RACE_TABLE(race, struct uvm_race_slot, slots_at)[slot].task;
    const uint64_t frame = (uint64_t)(at - v->base), end = addr + n;
    const uint64_t *pte = uvm_pte_find(v, pgd, addr);
    if (*pte & UVM_PTE_W)
        uvm_race_touch_page(race, slot, addr, frame);
    if (race->mode == UVM_RACE_ALL && (*pte & UVM_PTE_W))
        for (uint64_t word = addr >> 3; word <= (end - 1) >> 3; word++)
            uvm_race_touch_word(race, task, (frame >> 3) + (word - (addr >> 3)) + 1, word << 3,
                                kind, 0);
    if (!uvm_race_is_listed(race, addr >> UVM_PAGE_SHIFT))
        return first;
    uint64_t start = 0; /* of a run of active words */
    for (uint64_t word = addr >> 3; word <= (end - 1) >> 3; word++) {
        struct uvm_race_active *entry = uvm_race_find_active(race, word);
        const int active = entry && entry->active == UVM_WORD_ACTIVE;
        const uint64_t here = word << 3 < addr ? addr : word << 3;
        if (active) {
            uvm_race_order_word(race, entry, task, race->actor_ip, kind);
            start = start ? start : here;
        } else if (start) {
            log_run(race, task, start, here, at + (start - addr), kind);
            start = 0;
        }
    }
    if (start)
        log_run(race, task, start, end, at + (start - addr), kind);
    return first;
}

void race_accessed(struct uvm_race *race, uint32_t first, uint64_t addr, const uint8_t *at) {
    struct uvm_race_event *events = UVM_RACE_TABLE(race, struct uvm_race_event, events_at);
    for (uint32_t i = first; i < race->events && i < UVM_RACE_EVENTS; i++)
        uvm_race_settle(race, &events[i],
                        uvm_race_value(at + (events[i].addr - addr), events[i].size));
}
