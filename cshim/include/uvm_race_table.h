/*
 * uvm_race_table.h - what kernel and shims do alike to the tables of the race area.
 *
 * All are open addressing; nothing is ever deleted from one.  What touches a word
 * is noted by physical word (who shares it) while words are looked for, and by
 * guest-virtual word (is it active?) always.
 */
#ifndef UVM_RACE_TABLE_H
#define UVM_RACE_TABLE_H

#include "uvm_abi.h"
#include "uvm_race.h"

#define UVM_RACE_TABLE(race, type, field) ((type *)((uint8_t *)(race) + (race)->field))

/* uvm_race_word.seen, beside UVM_EVENT_READ and WRITE */
#define UVM_SEEN_BY_TWO 4
#define UVM_SEEN_BY_CHOICE 8
#define UVM_SEEN_BY_USER 16

/* owner_at: slot + 1, and where that slot's task has the page mapped; 0: nobody's */
#define UVM_OWNED(slot, addr) (((uint64_t)(slot) + 1) | ((addr) & ~(uint64_t)(UVM_PAGE_SIZE - 1)))
#define UVM_OWNER_SHARED 0xfff

static inline uint64_t uvm_race_mix(uint64_t hash, uint64_t value) {
    hash = (hash ^ value) * 0x9e3779b97f4a7c15UL;
    return hash ^ hash >> 29;
}

/* ---- pages; page: address >> 12 */

static inline int uvm_race_is_listed(const struct uvm_race *race, uint64_t page) {
    const uint64_t *pages = UVM_RACE_TABLE(race, const uint64_t, pages_at);
    for (uint64_t i = uvm_race_mix(0, page);; i++) {
        uint64_t entry = pages[i & (UVM_RACE_PAGES - 1)];
        if (entry == page)
            return 1;
        if (!entry)
            return 0;
    }
}

/* Post: it is listed, once; or the table is full. */
static inline void uvm_race_list_page(struct uvm_race *race, uint64_t page) {
    uint64_t *pages = UVM_RACE_TABLE(race, uint64_t, pages_at);
    for (uint64_t i = uvm_race_mix(0, page);; i++) {
        uint64_t *entry = &pages[i & (UVM_RACE_PAGES - 1)];
        if (*entry == page)
            return;
        if (*entry)
            continue;
        if (race->page_count >= UVM_RACE_PAGES / 2) {
            race->full = 1;
            return;
        }
        *entry = page;
        race->page_count++;
        return;
    }
}

/* The task of `slot` touches a writable page: 1 if it is listed, be it from now on;
 * 0 if it is that task's alone.  frame: offset in physmem. */
static inline int uvm_race_touch_page(struct uvm_race *race, unsigned slot, uint64_t addr,
                                      uint64_t frame) {
    const uint64_t page_mask = ~(uint64_t)(UVM_PAGE_SIZE - 1);
    uint64_t page = addr >> UVM_PAGE_SHIFT;
    if (uvm_race_is_listed(race, page))
        return 1;
    if (race->mode == UVM_RACE_GREEDY && slot == race->greedy) {
        uvm_race_list_page(race, page);
        return 1;
    }
    if (race->mode != UVM_RACE_ALL)
        return 0;
    uint64_t *owner =
        &UVM_RACE_TABLE(race, uint64_t, owner_at)[(frame - race->data_offset) >> UVM_PAGE_SHIFT];
    if (*owner == 0) {
        *owner = UVM_OWNED(slot, addr);
        race->taken++;
        return 0;
    }
    if ((*owner & ~page_mask) == slot + 1)
        return 0;
    if ((*owner & ~page_mask) <= UVM_RACE_SLOTS) {
        struct uvm_race_slot *other =
            &UVM_RACE_TABLE(race, struct uvm_race_slot, slots_at)[(*owner & ~page_mask) - 1];
        if (other->drop_count < UVM_RACE_DROPS)
            other->drops[other->drop_count] = *owner & page_mask;
        other->drop_count++;
        uvm_race_list_page(race, *owner >> UVM_PAGE_SHIFT);
        race->shared++;
        *owner = UVM_OWNER_SHARED;
    }
    uvm_race_list_page(race, page);
    return 1;
}

/* ---- words; word: address >> 3 */

static inline struct uvm_race_active *uvm_race_find_active(const struct uvm_race *race,
                                                           uint64_t word) {
    struct uvm_race_active *table = UVM_RACE_TABLE(race, struct uvm_race_active, active_at);
    for (uint64_t i = uvm_race_mix(0, word);; i++) {
        struct uvm_race_active *entry = &table[i & (UVM_RACE_ACTIVE - 1)];
        if (entry->key == word)
            return entry;
        if (!entry->key)
            return 0;
    }
}

/* The word's entry, made if need be (UVM_WORD_FOUND); 0: there is no room. */
static inline struct uvm_race_active *uvm_race_enter_word(struct uvm_race *race, uint64_t word) {
    struct uvm_race_active *table = UVM_RACE_TABLE(race, struct uvm_race_active, active_at);
    if (race->active_count >= UVM_RACE_ACTIVE / 2)
        return 0;
    for (uint64_t i = uvm_race_mix(0, word);; i++) {
        struct uvm_race_active *entry = &table[i & (UVM_RACE_ACTIVE - 1)];
        if (entry->key == word)
            return entry;
        if (!entry->key) {
            entry->key = word;
            race->active_count++;
            return entry;
        }
    }
}

/* The word will be active from the next execution on. */
static inline void uvm_race_found_word(struct uvm_race *race, uint64_t word, int user) {
    struct uvm_race_active *entry = uvm_race_enter_word(race, word);
    if (!entry) {
        race->full = 1;
        return;
    }
    if (user && !entry->user) {
        entry->user = 1;
        if (entry->active == UVM_WORD_IGNORED)
            entry->active = UVM_WORD_FOUND;
    }
}

/* The entry of `key` in this execution, made if need be; 0: there is no room. */
static inline struct uvm_race_word *uvm_race_word_of(struct uvm_race *race, uint64_t key) {
    struct uvm_race_word *table = UVM_RACE_TABLE(race, struct uvm_race_word, words_at), *w;
    uint64_t i = uvm_race_mix(0, key);
    for (unsigned probes = 0; probes < 512; probes++, i++) {
        w = &table[i & (UVM_RACE_WORDS - 1)];
        if (w->key == key && w->execution == race->execution)
            return w;
        if (w->key == key || !w->key || w->execution != race->execution) {
            *w = (struct uvm_race_word){.key = key, .execution = race->execution};
            return w;
        }
    }
    race->full = 1;
    return 0;
}

static inline unsigned uvm_race_seen(unsigned kind, unsigned flags) {
    return kind | (flags & UVM_INSN_CHOICE ? UVM_SEEN_BY_CHOICE : 0) |
           (flags & UVM_INSN_USER ? UVM_SEEN_BY_USER : 0);
}

/* `task` touches the physical word `key`, which it knows as `addr`.  flags: of the
 * instruction.  Words that only library code touches are not worth a choice, nor a fault. */
static inline void uvm_race_touch_word(struct uvm_race *race, unsigned task, uint64_t key,
                                       uint64_t addr, unsigned kind, unsigned flags) {
    struct uvm_race_word *w = uvm_race_word_of(race, key);
    if (!w)
        return;
    if (w->seen && w->task != task)
        w->seen |= UVM_SEEN_BY_TWO;
    w->seen |= uvm_race_seen(kind, flags);
    const unsigned shared = UVM_SEEN_BY_TWO | UVM_EVENT_WRITE | UVM_SEEN_BY_CHOICE;
    if ((w->seen & shared) == shared) {
        uvm_race_found_word(race, addr >> 3, w->seen & UVM_SEEN_BY_USER);
        uvm_race_found_word(race, w->addr >> 3, w->seen & UVM_SEEN_BY_USER);
    }
    w->task = task;
    w->addr = addr;
}

/* Two things share words though no two tasks touch one: a task and the handler of a
 * signal that interrupts it; and a forked process, whose copy of memory has what
 * others than who forked it had just written.  For them a second entry is kept, by
 * guest-virtual word, whose `addr` says who has done what, a bit for each task modulo
 * 8: */
#define UVM_CONTEXT_KEY (1UL << 62)
#define UVM_TOUCHED 0 /* the task itself, */
#define UVM_WROTE 8
#define UVM_HANDLER_TOUCHED 16 /* a handler that interrupted it, */
#define UVM_HANDLER_WROTE 24
#define UVM_CHILD_TOUCHED 32 /* a process that it forked */

static inline void uvm_race_touch_context(struct uvm_race *race, const struct uvm_race_slot *slot,
                                          uint64_t word, unsigned kind, unsigned flags) {
    struct uvm_race_word *w = uvm_race_word_of(race, UVM_CONTEXT_KEY | word);
    if (!w)
        return;
    const unsigned writes = kind & UVM_EVENT_WRITE;
    const uint64_t me = 1UL << (slot->task & 7), did = w->addr;
    int shared;
    w->seen |= uvm_race_seen(kind, flags);
    if (slot->forked) {
        const uint64_t forker = 1UL << ((slot->forked - 1) & 7);
        shared = (did >> UVM_WROTE & 0xff & ~forker) != 0;
        w->addr |= forker << UVM_CHILD_TOUCHED;
    } else if (slot->handling) {
        shared = (did >> (writes ? UVM_TOUCHED : UVM_WROTE) & me) != 0;
        w->addr |= me << UVM_HANDLER_TOUCHED | (writes ? me << UVM_HANDLER_WROTE : 0);
    } else {
        shared = (did >> (writes ? UVM_HANDLER_TOUCHED : UVM_HANDLER_WROTE) & me) != 0 ||
                 (writes && (did >> UVM_CHILD_TOUCHED & 0xff & ~me) != 0);
        w->addr |= me << UVM_TOUCHED | (writes ? me << UVM_WROTE : 0);
    }
    if (shared && w->seen & UVM_SEEN_BY_CHOICE)
        uvm_race_found_word(race, word, w->seen & UVM_SEEN_BY_USER);
}

/* ---- events */

/* `task` touches an active word: into the hash of this interleaving. */
static inline void uvm_race_order_word(struct uvm_race *race, struct uvm_race_active *entry,
                                       unsigned task, uint64_t ip, unsigned kind) {
    uint64_t was = entry->execution == race->execution ? entry->hash : 0;
    entry->execution = race->execution;
    entry->hash = uvm_race_mix(was, (uint64_t)task << 48 ^ ip ^ (uint64_t)kind << 60);
    race->order +=
        uvm_race_mix(entry->key, entry->hash) - (was ? uvm_race_mix(entry->key, was) : 0);
}

/* Into the log and the trace hash.  The event's place in the log, or 0 if it is full. */
static inline struct uvm_race_event *uvm_race_log(struct uvm_race *race,
                                                  struct uvm_race_event event) {
    race->hash = uvm_race_mix(uvm_race_mix(uvm_race_mix(race->hash, event.ip), event.addr),
                              event.value ^ (uint64_t)event.task << 56);
    if (race->events >= UVM_RACE_EVENTS) {
        race->lost++;
        return 0;
    }
    struct uvm_race_event *logged =
        &UVM_RACE_TABLE(race, struct uvm_race_event, events_at)[race->events++];
    event.step = (uint32_t)race->step;
    *logged = event;
    return logged;
}

/* What the event has left; little-endian, at most 8 bytes. */
static inline void uvm_race_settle(struct uvm_race *race, struct uvm_race_event *event,
                                   uint64_t after) {
    event->after = after;
    event->kind |= UVM_EVENT_SETTLED;
    if (after != event->value)
        race->changes++;
}

static inline uint64_t uvm_race_value(const uint8_t *at, uint32_t size) {
    uint64_t value = 0;
    for (uint32_t i = 0; i < size && i < 8; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

#endif
