/*
 * race.c - the kernel's side of a controlled machine: putting memory back to
 * where every execution starts, and the tables of the race area (uvm_race.h).
 */
#include "uvm_host.h"

#include <string.h>

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
    struct uvm_race_active *table = UVM_RACE_TABLE(race, struct uvm_race_active, active_at);
    if (!key || race->active_count >= UVM_RACE_ACTIVE / 2)
        return -1;
    for (uint64_t i = uvm_race_mix(0, key);; i++) {
        struct uvm_race_active *entry = &table[i & (UVM_RACE_ACTIVE - 1)];
        if (entry->key == key) {
            entry->active = state;
            return 0;
        }
        if (!entry->key) {
            entry->key = key;
            entry->active = state;
            race->active_count++;
            return 0;
        }
    }
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
